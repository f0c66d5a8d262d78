"""A training that dies costs its own trial and nothing else: the step that waits for it lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tendon import steps
from tendon.errors import DataError, Interrupted, MissingDependency, StorageError, TendonError
from tendon.runs.outcomes import TrialOutcome
from tendon.runs.plan import load_plan
from tendon.storage import open_store
from tendon.train.distributed import attempts
from tendon.train.distributed.attempts import forwarding_stops, train_in_child
from tendon.train.watch.memory_watch import MemoryWatch
from tests.train import trials_that_die
from tests.train.small_trial import make_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "LONGEST_PAUSE_S", 0.0)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT)]))


def tried(trial: Path, words: str, retries: int = 2, memory: MemoryWatch | None = None) -> Any:
    return train_in_child(make_config(), words, str(trial), trials_that_die.train, retries=retries, memory=memory)


def count_tries(trial: Path) -> int:
    return len((trial / "tries").read_text().splitlines())


def test_a_training_that_ends_well_gives_its_result_and_is_not_repeated(tmp_path: Path) -> None:
    assert tried(tmp_path, "well").metrics == {"loss": 0.5}
    assert tried(tmp_path, "kill").step == 10
    assert count_tries(tmp_path) == 1


@pytest.mark.parametrize("word", ["kill", "silent", "lie", "import", "hang", "store"])
def test_a_death_is_tried_again_and_then_ends_well(tmp_path: Path, word: str) -> None:
    """Before: the step died with its training: exit 1, no retry, and the whole sweep was lost."""
    assert tried(tmp_path, f"{word},{word},well").step == 10
    assert count_tries(tmp_path) == 3


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("kill", "killed by SIGKILL"),
        ("silent", "exit code 9"),
        ("lie", "without a finished trial"),
        ("import", "a_module_that_is_nowhere"),
        ("hang", "it waits"),
    ],
)
@pytest.mark.parametrize("retries", [0, 1])
def test_a_death_that_repeats_itself_is_an_error_with_its_reason(
    tmp_path: Path, word: str, reason: str, retries: int
) -> None:
    with pytest.raises(TendonError, match=reason) as caught:
        tried(tmp_path, word, retries)
    assert not isinstance(caught.value, Interrupted), "nobody told this pod to stop, so its trial failed"
    assert count_tries(tmp_path) == retries + 1
    if retries:
        assert "(tried 2 times)" in caught.value.problems[0].why


@pytest.mark.parametrize(("word", "kind"), [("data", DataError), ("missing", MissingDependency)])
def test_what_would_end_the_same_way_again_is_not_tried_again(
    tmp_path: Path, word: str, kind: type[TendonError]
) -> None:
    with pytest.raises(kind) as caught:
        tried(tmp_path, word)
    assert count_tries(tmp_path) == 1
    assert "tried" not in caught.value.problems[0].why


def test_a_store_that_stays_away_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="503"):
        tried(tmp_path, "store", retries=1)


def test_a_killed_trial_does_not_end_its_siblings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: a killed process cost the whole sweep, and select to promote were left out."""
    run = steps.plan(
        source_uri="demo://reach?episodes=4&seed=1", store_uri=str(tmp_path), dataset_name="d",
        config="experiment=reach_bc", episodes=1, confirm_episodes=1, champion="c", promote=False, trial_retries=1,
        sweep=[{"key": "training.lr", "name": "lr", "group": 0, "values": [0.1, 0.2]}], trials_per_pod=2,
    )  # fmt: skip
    first, second = (trial.name for trial in load_plan(run.run_uri).trials)
    plan = load_plan(run.run_uri)
    trials_that_die.finish(plan.trial_uri(second))
    monkeypatch.setattr(steps, "train", trials_that_die.train)
    outcomes = steps.train_trials(run_uri=run.run_uri, trials=[first, second], dataset_uri="kill")
    dead, alive = map(TrialOutcome.from_json, outcomes)
    assert (dead.status, dead.failed_step, alive.status) == ("failed", "train", "ok")
    assert "SIGKILL" in dead.error
    assert count_tries(Path(plan.trial_uri(first))) == 2
    stored = open_store(run.run_uri).read(f"outcomes/{first}.json").decode()
    assert TrialOutcome.from_json(stored).status == "failed"


def step_process(trial: Path, words: str) -> subprocess.Popen[str]:
    """A step in a process of its own, as a container runs it."""
    code = (
        "import sys\n"
        "from tendon import errors\n"
        "from tendon.train.distributed.attempts import forwarding_stops, train_in_child\n"
        "with errors.reported('train'), forwarding_stops():\n"
        "    from tendon.config.compose import compose\n"
        "    from tests.train import trials_that_die\n"
        "    config = compose(['experiment=reach_bc', 'data.uri=x'])\n"
        f"    train_in_child(config, {words!r}, {str(trial)!r}, trials_that_die.train, retries=2)\n"
        "assert 'torch' not in sys.modules\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=ROOT)


def wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_sigterm_is_handed_on_and_the_step_leaves_with_75_within_a_second_of_the_save(tmp_path: Path) -> None:
    step = step_process(tmp_path, "wait")
    wait_for((tmp_path / "waiting").exists)
    told_at = time.time()
    step.terminate()
    assert step.wait(10) == 75
    saved_at = float((tmp_path / "saved").read_text())
    assert saved_at - told_at < 0.5, "handed on at once"
    assert time.time() - saved_at < 1.0
    assert count_tries(tmp_path) == 1, "a pod that is told to stop begins nothing"
    assert "interrupted at step 3" in step.communicate()[1]


def test_ctrl_c_reaches_a_training_in_a_session_of_its_own(tmp_path: Path) -> None:
    step = step_process(tmp_path, "wait")
    wait_for((tmp_path / "waiting").exists)
    step.send_signal(signal.SIGINT)
    assert step.wait(10) == 75
    assert (tmp_path / "saved").exists()


def test_a_step_without_torch_waits_for_a_good_training(tmp_path: Path) -> None:
    step = step_process(tmp_path, "well")
    error = step.communicate()[1]
    assert step.returncode == 0, error


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells a child of its parent's death on Linux only")
def test_no_training_outlives_a_step_that_is_killed(tmp_path: Path) -> None:
    step = step_process(tmp_path, "wait")
    wait_for((tmp_path / "waiting").exists)
    step.kill()
    step.communicate()
    wait_for((tmp_path / "saved").exists)
    child = int((tmp_path / "tries").read_text())
    wait_for(lambda: not is_alive(child))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_a_stop_that_comes_before_the_next_trial_begins_none(tmp_path: Path) -> None:
    with forwarding_stops():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            tried(tmp_path, "well")
    assert not (tmp_path / "tries").exists()


# ----------------------------------------------------------------------------------------------------------------- memory


def cgroup(folder: Path, used: int, limit: str = "1000", cached: int = 0, kills: int = 0, group: str = "1") -> Path:
    """The files of cgroup v2 that are read."""
    folder.mkdir(exist_ok=True)
    files = {
        "memory.max": limit,
        "memory.current": str(used),
        "memory.stat": f"anon {used}\nactive_file {cached}\ninactive_file 0",
        "memory.events": f"low 0\noom 0\noom_kill {kills}",
        "memory.oom.group": group,
    }
    for name, text in files.items():
        (folder / name).write_text(text + "\n")
    return folder


def test_memory_is_full_without_what_the_kernel_can_give_back(tmp_path: Path) -> None:
    assert MemoryWatch(cgroup(tmp_path, 970)).is_full()
    assert not MemoryWatch(cgroup(tmp_path, 970, cached=100)).is_full()
    assert not MemoryWatch(cgroup(tmp_path, 900)).is_full()
    assert not MemoryWatch(cgroup(tmp_path, 970, limit="max")).is_full()
    assert not MemoryWatch(cgroup(tmp_path, 970, group="0")).is_full(), "the kernel kills the largest one only"
    assert not MemoryWatch(tmp_path / "nowhere").is_full()
    watch = MemoryWatch(cgroup(tmp_path, 970, kills=1))
    assert not watch.was_full(), "an earlier kill"
    cgroup(tmp_path, 970, kills=2)
    assert watch.was_full()


def test_a_training_is_killed_before_the_container_is(tmp_path: Path) -> None:
    """Before: the kernel killed the step too (memory.oom.group), and the page said "it left no message"."""
    folder = cgroup(tmp_path / "cgroup", 970)
    trial = tmp_path / "trial"
    with pytest.raises(TendonError, match="more memory than its container has") as caught:
        tried(trial, "wait", retries=0, memory=MemoryWatch(folder))
    assert "cluster_memory_train" in caught.value.problems[0].fix
    assert not (trial / "saved").exists()
