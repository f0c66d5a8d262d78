"""``make faults ROWS=killed``: launchers, ranks, hosts and guests killed at random moments; nothing lives on, and training goes on.

TENDON_KILLS says how many of each (20).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tendon import trust
from tests.benchmarks.rows import row
from tests.security.test_guest_children import ADAPTER, HOST, detached, gone

KILLS = int(os.environ.get("TENDON_KILLS", "20"))
STEPS = 60
WITHIN_S = 60.0


@row(
    "faults",
    "killed-ranks",
    f"share of {KILLS} killed launchers and ranks after which no rank lives and the run goes on",
    "== 1",
)
def ranks() -> float:
    """In turn the launcher, rank 0 and rank 1. A killed rank is 75; the next attempt ends with the weights of a quiet run."""
    from tendon.train.state.status import find_finished
    from tests.train.launched_ranks import launch, pids

    moments, right = random.Random(5), 0
    with tempfile.TemporaryDirectory() as name:
        quiet = Path(name, "quiet")
        quiet.mkdir()
        assert launch(quiet, STEPS).wait(600) == 0
        weights = find_finished(str(quiet / "trial"))
        assert weights is not None
        for number in range(KILLS):
            place = Path(name, str(number))
            place.mkdir()
            launcher = launch(place, STEPS)
            alive = pids(place)
            time.sleep(moments.uniform(0.0, 3.0))
            what = number % 3
            pid = launcher.pid if what == 0 else int((place / f"rank-{what - 1}").read_text().split()[0])
            os.kill(pid, signal.SIGKILL)
            code = launcher.wait(300)
            ended = gone(alive, within_s=WITHIN_S)
            for path in place.glob("rank-*"):
                path.unlink()
            again = launch(place, STEPS).wait(600)
            result = find_finished(str(place / "trial"))
            equal = result is not None and result.weights_sha256 == weights.weights_sha256
            fine = ended and again == 0 and equal and code in ((-9,) if what == 0 else (75, 0))
            right += fine
            if not fine:
                print(f"kill {number} of {what}: left {code}, ranks gone {ended}, again {again}, equal weights {equal}")
    return right / KILLS


@row(
    "faults",
    "killed-guests",
    f"share of {KILLS} killed guests and hosts after which nothing that they started lives",
    "== 1",
)
def guests() -> float:
    """In turn the host and the guest; the simulator has started children that left its process group."""
    from tendon.evaluate.guest import Guest

    moments, right = random.Random(6), 0
    for number in range(KILLS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "detached.py").write_text(ADAPTER)
            os.environ[trust.VARIABLE] = trust.sha256_of(folder / "detached.py")
            if number % 2:
                with Guest(detached(name, "none"), step_timeout_s=60) as guest:
                    guest.reset(7)
                    children = [int(pid) for pid in (folder / "pids").read_text().split()]
                    time.sleep(moments.uniform(0, 0.3))
                    os.kill(guest.pid, signal.SIGKILL)
                    fine = gone(children)
            else:
                host = subprocess.Popen([sys.executable, "-c", HOST, name], stdout=subprocess.PIPE, text=True)
                assert host.stdout is not None
                assert host.stdout.readline() == "started\n"
                children = [int(pid) for pid in (folder / "pids").read_text().split()]
                time.sleep(moments.uniform(0, 0.3))
                host.kill()
                host.wait()
                host.stdout.close()
                fine = gone(children)
        right += fine
        if not fine:
            print(f"kill {number}: {children} live on")
    return right / KILLS
