"""The whole line on the toy task: the committed YAML, run by kfp's subprocess runner, with the real steps.

One sweep of two trials that learn and one that diverges; the same again; and one trial that is killed while it trains.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tendon.cli import main

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.chain

TRAINING = "training.offline_steps=2000 training.save_freq=100 training.valid_freq=1000 training.num_threads=1"
GOOD, OTHER, DIVERGING = 1e-3, 3e-4, 1e30
ARGUMENTS = {
    "data_source_uri": "demo://reach?episodes=20&seed=1",
    "policy_config": f"experiment=reach_bc {TRAINING}",
    "evaluate_episodes": 6,
    "evaluate_confirm_episodes": 6,
}
IMAGE = "tendon-test:1@sha256:0"  # what an image or a runner says of itself
SWEEP = [{"key": "training.lr", "name": "lr", "group": 0, "values": [GOOD, OTHER, DIVERGING]}]
RUN = """
import json, sys
from dataclasses import asdict
from tendon.errors import reported
from tendon.runner import default_yaml, run_local
with reported("run"):
    result = run_local(default_yaml(), json.loads(sys.argv[2]), store_uri=sys.argv[1])
    print("RESULT " + json.dumps(asdict(result)))
"""


@dataclass(frozen=True)
class Ran:
    """A run that ended."""

    exit_code: int
    out: str
    err: str
    store: Path

    @property
    def result(self):
        return json.loads(self.out.rpartition("RESULT ")[2])

    def read(self, name):
        return json.loads(Path(self.result["run_uri"], name).read_text())


def start(store, arguments):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(store), json.dumps(arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "TENDON_IMAGE": IMAGE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def run(store, arguments):
    process = start(store, arguments)
    out, err = process.communicate(timeout=900)
    return Ran(process.returncode, out, err, Path(store))


def snapshot(*folders):
    """Every file with its size and time of change."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def weights(trial):
    """Digest of the weights of a trial's last checkpoint."""
    last = max((trial / "checkpoints").glob("*/pretrained_model"))
    files = sorted(last.glob("*.safetensors"))
    assert files, sorted(path.name for path in last.iterdir())
    return last.parent.name, [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def outcomes(ran):
    """Of every trial of a run: what became of it."""
    return {outcome["trial"]: outcome for outcome in ran.read("selection.json")["outcomes"]}


def alive(ran):
    return [name for name, outcome in outcomes(ran).items() if outcome["status"] == "ok"]


def trial_of(ran, name):
    return ran.store / "trials" / outcomes(ran)[name]["run_key"]


def processes_of(store):
    """Of processes that name the store on their command line: (pid, command line)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(store) in line:
                found.append((int(entry.name), line))
    return found


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The sweep, run once for all tests of this file."""
    ran = run(tmp_path_factory.mktemp("chain") / "store", {**ARGUMENTS, "policy_sweep": SWEEP})
    assert ran.exit_code == 0, ran.out + ran.err
    return ran


def test_a_sweep_ends_with_a_report_and_lists_the_trial_that_died(swept):
    selection = swept.read("selection.json")
    assert len(alive(swept)) == 2
    (dead,) = outcomes(swept).keys() - alive(swept)
    assert outcomes(swept)[dead]["failed_step"] == "train"
    assert dead in [row["name"] for row in selection["leaderboard"]]
    assert selection["winner"] in alive(swept)
    assert f"train {dead} ... trial failed" in swept.out
    report = Path(swept.result["report_path"]).read_text(encoding="utf-8")
    assert len(report) < 5_000_000
    assert dead in report
    assert selection["winner"] in report
    images = swept.read("record.json")["images"]
    of_trials = {f"{step}/{name}" for step in ("train", "export", "evaluate") for name in alive(swept)}
    assert set(images) == {"convert", "stats", "confirm/winner", "report", *of_trials}
    assert set(images.values()) == {IMAGE}
    assert IMAGE in report
    assert Path(swept.result["run_uri"], "confirmation.json").exists()


def test_the_same_again_tries_only_the_trial_that_failed(swept):
    folders = [swept.store / "datasets", swept.store / "demos", *(trial_of(swept, name) for name in alive(swept))]
    before = snapshot(*folders)
    again = run(swept.store, {**ARGUMENTS, "policy_sweep": SWEEP})
    assert again.exit_code == 0, again.out + again.err
    assert snapshot(*folders) == before
    assert again.result["cached"] == ["convert", "stats"]
    assert again.result["run_uri"] == swept.result["run_uri"]
    (dead,) = outcomes(swept).keys() - alive(swept)
    assert {name for name in again.result["seconds"] if name.startswith("train")} == {f"train {dead}"}


@pytest.mark.long
def test_a_finished_run_again_goes_from_plan_to_the_report_that_is_there(tmp_path):
    short = {
        "policy_config": "experiment=reach_bc training.offline_steps=20 training.save_freq=20",
        "evaluate_episodes": 2,
        "evaluate_confirm_episodes": 2,
    }
    first = run(tmp_path / "store", {**ARGUMENTS, **short})
    assert first.exit_code == 0, first.out + first.err
    report = Path(first.result["report_path"])
    shown = report.read_bytes()
    again = run(tmp_path / "store", {**ARGUMENTS, **short})
    assert again.exit_code == 0, again.out + again.err
    assert set(again.result["seconds"]) == {"plan", "finish"}
    assert again.result["report_path"] == str(report)
    assert report.read_bytes() == shown, "a good report is never overwritten"


@pytest.mark.long
def test_trials_that_share_a_pod_end_as_those_that_do_not(swept, tmp_path):
    ran = run(tmp_path / "store", {**ARGUMENTS, "policy_sweep": SWEEP, "policy_trials_per_pod": 3})
    assert ran.exit_code == 0, ran.out + ran.err
    assert len([name for name in ran.result["seconds"] if name.startswith("train")]) == 1
    assert sorted(alive(ran)) == sorted(alive(swept)), "the one that diverges ends none of its siblings"
    assert ran.read("selection.json")["winner"] == swept.read("selection.json")["winner"]
    for name in alive(swept):
        assert weights(trial_of(ran, name)) == weights(trial_of(swept, name))


@pytest.mark.long
def test_two_workers_make_the_dataset_that_one_makes(swept, tmp_path):
    recorded = tmp_path / "demos.hdf5"  # the episodes of an expert and the file of them are one dataset
    words = ["demo-data", "env=reach", "--episodes", "20", "--seed", "1", "-o", str(recorded)]
    subprocess.run([sys.executable, "-m", "tendon", *words], check=True, cwd=ROOT)
    short = {
        "policy_config": "experiment=reach_bc training.offline_steps=20 training.save_freq=20",
        "evaluate_episodes": 2,
        "evaluate_confirm_episodes": 2,
    }
    ran = run(tmp_path, {**ARGUMENTS, **short, "data_source_uri": str(recorded), "data_convert_workers": 2})
    assert ran.exit_code == 0, ran.out + ran.err
    assert {"convert 0/2", "convert 1/2"} <= set(ran.result["seconds"])
    digests = [one.read("record.json")["dataset_digest"] for one in (swept, ran)]
    assert digests[0] == digests[1]


@pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(), reason="finds the processes to kill in /proc, which only Linux has"
)
def test_killed_while_training_the_next_run_ends_with_the_same_weights(swept, tmp_path):
    store = tmp_path / "store"
    arguments = {**ARGUMENTS, "policy_config": f"{ARGUMENTS['policy_config']} training.lr={GOOD}"}
    victim = start(store, arguments)
    end = time.monotonic() + 120
    while not list(store.glob("trials/*/checkpoints/*/training_state")):
        assert victim.poll() is None, victim.communicate()
        assert time.monotonic() < end, "no checkpoint in two minutes"
        time.sleep(0.01)
    step = [pid for pid, line in processes_of(store) if "tendon.runner.child" in line]
    for pid in [*step, victim.pid]:
        os.kill(pid, signal.SIGKILL)
    victim.communicate()
    while processes_of(store):
        assert time.monotonic() < end, processes_of(store)
        time.sleep(0.05)
    (trial,) = (store / "trials").iterdir()
    stopped_at = max(path.name for path in (trial / "checkpoints").iterdir() if path.name.isdigit())
    assert stopped_at < "002000", "training was over before it was killed: the test needs more steps"

    again = run(store, arguments)
    assert again.exit_code == 0, again.out + again.err
    trials = swept.read("plan.json")["trials"]
    reference = next(row["name"] for row in trials if f"training.lr={GOOD}" in row["overrides"])
    assert weights(trial) == weights(trial_of(swept, reference))


def test_promote_is_the_next_command_while_it_would_do_something(swept, capsys):
    run_uri = swept.result["run_uri"]
    would = swept.read("confirmation.json")["verdict"]["decision"] in ("promote", "first")
    assert main(["report", "--run-uri", run_uri]) == 0
    assert (f"next    tendon promote --run-uri {run_uri}" in capsys.readouterr().out) == would
    if would:
        assert main(["promote", "--run-uri", run_uri]) == 0
        assert main(["report", "--run-uri", run_uri]) == 0
        assert "next" not in capsys.readouterr().out
