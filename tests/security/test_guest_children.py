"""What a simulator started ends with it, also what left its process group: however the end comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tendon import trust
from tendon.config.schema import EnvConfig
from tendon.evaluate.guest import Guest, GuestCrash

ADAPTER = """
import os, subprocess, sys, time
from tendon_sim.adapters.reach import Adapter as Reach

GRANDCHILD = '''
import os, subprocess
sleeping = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=-3, stderr=-3)
print(sleeping.pid, flush=True)
os._exit(0)
'''

class Adapter(Reach):
    def make(self, task, options, fps, cameras, size):
        self.options = options
        made = super().make(task, {}, fps, cameras, size)
        detached = subprocess.Popen(["sleep", "1000"], start_new_session=True, env={})
        orphan = subprocess.run([sys.executable, "-c", GRANDCHILD], capture_output=True, text=True).stdout
        with open(options["pids"] + ".part", "w") as file:
            file.write(f"{detached.pid} {orphan}")
        os.replace(options["pids"] + ".part", options["pids"])
        return made

    def step(self, action):
        if self.options["then"] == "hang":
            time.sleep(1000)
        if self.options["then"] == "exit":
            os._exit(7)
        return super().step(action)
"""
HOST = """
import sys, numpy as np
from tests.security.test_guest_children import detached
from tendon.evaluate.guest import Guest
guest = Guest(detached(sys.argv[1], "hang"), step_timeout_s=100)
guest.start()
guest.reset(7)
print("started", flush=True)
guest.step(np.zeros(2))
"""


def detached(folder: str, then: str) -> EnvConfig:
    from dataclasses import replace

    from tests.evaluate.conftest import REACH

    path = Path(folder, "detached.py")
    return replace(REACH, name="detached", simulator=str(path), options={"pids": f"{folder}/pids", "then": then})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "detached.py").write_text(ADAPTER)
    monkeypatch.setenv(trust.VARIABLE, trust.sha256_of(tmp_path / "detached.py"))
    return tmp_path


def children(folder: Path) -> list[int]:
    pids = [int(each) for each in (folder / "pids").read_text().split()]
    assert len(pids) == 2
    return pids


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], within_s: float = 8.0) -> bool:
    deadline = time.monotonic() + within_s
    while any(map(runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(runs, pids))


@pytest.mark.parametrize("then", ["close", "hang", "exit", "killed"])
def test_children_that_left_the_group_end_with_the_guest(folder: Path, then: str) -> None:
    guest = Guest(detached(str(folder), then), step_timeout_s=0.5)
    guest.start()
    guest.reset(7)
    pids = children(folder)
    assert all(map(runs, pids))
    if then == "killed":
        os.kill(guest.pid, signal.SIGKILL)
    if then != "close":
        with pytest.raises(GuestCrash) as crash:
            guest.step(np.zeros(2))
        says = {"hang": "no answer within 0.5 s", "exit": "exit status 7", "killed": "SIGKILL"}
        assert says[then] in crash.value.why
    else:
        guest.close()
    assert gone(pids)
    guest.close()


def test_children_that_left_the_group_end_with_a_killed_host(folder: Path) -> None:
    host = subprocess.Popen([sys.executable, "-c", HOST, str(folder)], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    assert host.stdout.readline() == "started\n"
    time.sleep(0.3)
    pids = children(folder)
    assert all(map(runs, pids))
    host.send_signal(signal.SIGKILL)
    host.wait()
    host.stdout.close()
    assert gone(pids)
