"""What the runner assumes of kfp, and what it makes of the words of a step."""

import io
import json
import time
from pathlib import Path

import pytest
from kfp.local import logging_utils, subprocess_task_handler
from kfp.local.orchestrator import enhanced_dag_orchestrator, task_executor

from tendon.errors import MissingDependency
from tendon.runner import StepEvent, default_arguments, default_yaml
from tendon.runner.kfp_patches import TARGETS, Task, TaskMonitor, _silent_end, check_kfp, patched_kfp, problems_in
from tendon.runner.local import kfp_home
from tendon.runner.processes import Finished, Processes, _direct, forward
from tendon.runner.progress import Console


def test_kfp_still_has_what_we_replace():
    """Fails when an upgrade of kfp moves or changes a function: look at the new one before changing TARGETS."""
    assert set(check_kfp()) == {name for name, _, _ in TARGETS}
    assert enhanced_dag_orchestrator.ParallelExecutor().conservative_max == 2


def test_another_kfp_is_refused_in_four_lines(monkeypatch):
    import kfp

    monkeypatch.setattr(kfp, "__version__", "2.18.0")
    with pytest.raises(MissingDependency, match=r"2\.18\.0"):
        check_kfp()


def test_a_changed_function_is_refused(monkeypatch):
    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", lambda command: 0)
    with pytest.raises(MissingDependency, match="changed inside"):
        check_kfp()


def test_kfp_is_as_before_after_a_run_and_uncapped_within(tmp_path):
    before = [
        task_executor.execute_single_task,
        subprocess_task_handler.run_local_subprocess,
        logging_utils.indented_print,
    ]
    with patched_kfp(TaskMonitor([], lambda event: None, Processes()), 5, tmp_path / "log"):
        assert enhanced_dag_orchestrator.ParallelExecutor(4).conservative_max == 5
        assert task_executor.execute_single_task is not before[0]
    assert before == [
        task_executor.execute_single_task,
        subprocess_task_handler.run_local_subprocess,
        logging_utils.indented_print,
    ]


def test_the_shell_of_kfp_is_left_out(tmp_path):
    executor_input = json.dumps({"outputs": {"outputFile": str(tmp_path / "executor_output.json")}})
    command = ["sh", "-ec", "... python3 -m kfp.dsl.executor_main ...", "print(1)", "--executor_input", executor_input]
    assert _direct(command, tmp_path)[1:3] == ["-m", "tendon.runner.child"]
    assert (tmp_path / "ephemeral_component.py").read_text() == "print(1)"
    assert json.loads((tmp_path / "request.json").read_text())["arguments"] == command[4:]
    assert _direct(["python", "x.py"], tmp_path) == ["python", "x.py"]


def test_four_line_errors_are_found_among_other_words():
    words = [
        "train: step 3",
        "error: a",
        "where: b",
        "why:   c",
        "  and more",
        "fix:   d",
        "bye",
        "error: e",
        "where: f",
        "why:   g",
        "fix:   h",
    ]
    first, second = problems_in(words)
    assert (first.what, first.where, first.why, first.fix) == ("a", "b", "c\n  and more", "d")
    assert second.fix == "h"
    assert problems_in(["error: half of one", "where: it broke off"]) == ()


def test_errors_and_lists_are_left_to_the_end_and_to_the_log():
    words, said = [], []
    hear = forward(words, said.append)
    lines = ["step:100 loss:0.1", "INFO cfg:", "  seed 1000", "", "error: a", "where: b", "why:   c", "fix:   d"]
    for line in lines:
        hear(line)
    assert said == ["step:100 loss:0.1"]
    assert words == lines


def test_a_step_that_could_not_write_blames_the_store():
    task = Task("stats", "")
    full = Finished(1, ("Traceback ...", "OSError: [Errno 28] No space left on device: 'x'"), Path("log.txt"))
    code, problem = _silent_end(task, full)
    assert code == 4
    assert "No space left" in problem.why
    assert _silent_end(task, Finished(1, (), Path("log.txt")))[0] == 1


def test_the_console_prints_one_line_for_a_quick_step_and_two_for_a_slow_one():
    stream = io.StringIO()
    console = Console(stream)
    console(StepEvent("started", "plan", "", 1, 10))
    console(StepEvent("done", "plan", "", 1, 10, seconds=0.12))
    console(StepEvent("started", "train", "lr_0.1", 4, 10))
    console(StepEvent("line", "train", "lr_0.1", 4, 10, text="INFO 2026-11-20 10:59:12 on/steps.py:246 train 1/600"))
    console(StepEvent("line", "train", "lr_0.1", 4, 10, text="WARNING 2026-11-20 10:59:12 on/steps.py:246 odd"))
    console(StepEvent("failed", "train", "lr_0.1", 4, 10, seconds=2.0, text="exit code 3"))
    console(StepEvent("started", "report", "", 9, 10))
    time.sleep(1.2)
    assert stream.getvalue().splitlines() == [
        "[1/10] plan ... done in 0.1 s",
        "[4/10] train lr_0.1 ...",
        "    train lr_0.1 | train 1/600",
        "    train lr_0.1 | WARNING odd",
        "[4/10] train lr_0.1 ... FAILED after 2.0 s: exit code 3",
        "[9/10] report ...",
    ]


def test_kfps_own_files_go_into_the_store_or_beside_it(tmp_path, monkeypatch):
    assert kfp_home(str(tmp_path)) == tmp_path / ".kfp"
    assert kfp_home(f"file://{tmp_path}") == tmp_path / ".kfp"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kfp_home("s3://bucket/a").parent == tmp_path / "tendon" / "kfp"
    assert kfp_home("s3://bucket/a") != kfp_home("s3://bucket/b")


def test_the_committed_pipeline_is_found_with_its_defaults():
    defaults = default_arguments(default_yaml())
    assert defaults["evaluate_episodes"] == 50
    assert type(defaults["evaluate_episodes"]) is int
    assert defaults["policy_sweep"] == []
    assert defaults["gate_promote"] is False
