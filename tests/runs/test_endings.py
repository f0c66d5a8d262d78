"""What a run came to is read from what it left in the store, whatever word the engine has for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tendon import steps
from tendon.errors import ConfigError, DataError, Interrupted, Problem, StorageError, TendonError
from tendon.registry.protocol import protocol_of_run
from tendon.registry.standing import champion_now
from tendon.runs import jobs
from tendon.runs.conclusion import load_conclusion, mark_concluded
from tendon.runs.endings import judge
from tendon.runs.failures import NO_TRIAL_FINISHED, StepFailure, failures_in, recording_failures
from tendon.runs.outcomes import TrialOutcome, save_outcome
from tendon.runs.plan import load_plan
from tendon.storage import open_store

WORDS = ("COMPLETE", "FAILED", "RUNNING", "CANCELING", "SUCCEEDED", "")  # of MLMD, of the API, of nobody


def plan(store: Path, job: str = "j1", **more: Any) -> steps.PlanResult:
    arguments: dict[str, Any] = {
        "source_uri": "demo://reach?episodes=4&seed=1",
        "store_uri": str(store),
        "dataset_name": "demos",
        "config": "experiment=reach_bc",
        "sweep": [],
        "episodes": 5,
        "confirm_episodes": 5,
        "champion": "best",
        "promote": False,
        "job_id": job,
    }
    return steps.plan(**arguments | more)


def finish(store: Path, state: str = "RUNNING", job: str = "j1", **more: Any) -> steps.FinishResult:
    return steps.finish(job_id=job, store_uri=str(store), state=state, **more)


def end_well(run_uri: str, job: str = "j1") -> str:
    """What the good end of a run leaves: outcomes, the report, the mark."""
    run = load_plan(run_uri)
    for trial in run.trials:
        uris = {name: f"{run.trial_uri(trial.name)}/{name}" for name in ("bundle_uri", "evaluation_uri")}
        for uri in uris.values():
            open_store(uri).write(".complete.json", b"{}")
        save_outcome(run_uri, TrialOutcome(trial.name, trial.run_key, **uris))
    page = f"<html><main>\nthe report of {run.run_id}</main></html>"
    open_store(run_uri).write("report.html", page.encode())
    mark_concluded(
        run, job, winner=run.trials[0].name, verdict="0.90 is better", promoted=False, champion=champion_now(run)
    )
    return page


def ended(store: Path, job: str = "j1") -> dict[str, Any]:
    return dict(json.loads(open_store(str(store)).read(f"jobs/{job}/ended.json")))


@pytest.mark.parametrize("word", WORDS)
def test_a_good_run_keeps_its_report_whatever_the_engine_calls_it(tmp_path: Path, word: str) -> None:
    """Before: COMPLETE, MLMD's word for a good run, wrote "Failed. The run ended as COMPLETE" over the report."""
    run = plan(tmp_path)
    page = end_well(run.run_uri)
    end = finish(tmp_path, word)
    assert (end.ending, end.html) == ("succeeded", page)
    assert open_store(run.run_uri).read("report.html").decode() == page
    assert end.report_uri == f"{run.run_uri}/report.html"
    assert ended(tmp_path)["exit_code"] == 0


@pytest.mark.parametrize("word", WORDS)
def test_a_run_whose_work_was_skipped_had_nothing_to_do(tmp_path: Path, word: str) -> None:
    """Before: MLMD leaves a run whose If was skipped RUNNING, which was told as a failure."""
    run = plan(tmp_path)
    page = end_well(run.run_uri)
    finish(tmp_path)
    again = plan(tmp_path, "j2")
    assert (again.work, again.groups) == (False, [])
    end = finish(tmp_path, word, "j2")
    assert (end.ending, end.html, end.notified) == ("nothing to do", page, False)
    assert ended(tmp_path, "j2")["exit_code"] == 0


@pytest.mark.parametrize("word", WORDS)
def test_a_run_that_left_neither_mark_nor_failure_was_stopped(tmp_path: Path, word: str) -> None:
    """Terminated, killed from outside, an image that cannot be pulled: MLMD says RUNNING, which is no ending."""
    run = plan(tmp_path)
    end = finish(tmp_path, word)
    assert (end.ending, end.headline) == ("stopped", "the run was stopped")
    assert ended(tmp_path)["exit_code"] == 75
    assert end.report_uri == str(tmp_path / "jobs/j1/report.html")
    assert open_store(run.run_uri).head("report.html") is None
    assert "The run was stopped" in open_store(str(tmp_path)).read("jobs/j1/report.html").decode()


def test_a_stopped_run_does_not_write_over_the_good_report_of_an_earlier_one(tmp_path: Path) -> None:
    run = plan(tmp_path)
    page = end_well(run.run_uri)
    finish(tmp_path)
    plan(tmp_path, "j2", force=True)
    assert finish(tmp_path, "FAILED", "j2").ending == "stopped"
    assert open_store(run.run_uri).read("report.html").decode() == page


@pytest.mark.parametrize(("error", "code"), [(DataError, 3), (StorageError, 4), (TendonError, 1)])
def test_a_step_that_left_a_failure_is_named_with_its_exit_code(
    tmp_path: Path, error: type[TendonError], code: int
) -> None:
    run = plan(tmp_path)
    with pytest.raises(error), recording_failures(run.run_uri, "confirm"):
        raise error("the bundle is gone", where="here", why="deleted", fix="make it again")
    end = finish(tmp_path, "RUNNING")
    assert end.ending == "failed"
    assert end.headline == "the run failed at confirm: the bundle is gone"
    note = ended(tmp_path)
    assert note["exit_code"] == code
    assert [(failure["step"], failure["exit_code"]) for failure in note["failures"]] == [("confirm", code)]
    assert note["failures"][0]["text"].startswith("error: the bundle is gone\nwhere: here\n")


def test_a_step_that_was_interrupted_and_not_continued_was_stopped(tmp_path: Path) -> None:
    run = plan(tmp_path)
    with pytest.raises(Interrupted), recording_failures(run.run_uri, "train", "base", soft=True):
        raise Interrupted("training was interrupted at step 7", where="t", why="SIGTERM", fix="again")
    end = finish(tmp_path, "FAILED")
    assert (end.ending, end.headline) == ("stopped", "the run was stopped at train base")
    assert "it saved its work and continues there" in end.html


def test_what_an_earlier_attempt_of_a_step_said_is_gone_when_a_later_one_succeeds(tmp_path: Path) -> None:
    """Before: a conversion that was interrupted, continued and ended well was still "what stopped it"."""
    run = plan(tmp_path)
    with pytest.raises(StorageError), recording_failures(run.run_uri, "confirm"):
        raise StorageError("the store was away", where="s3", why="503", fix="again")
    with recording_failures(run.run_uri, "confirm"):
        pass
    assert failures_in(run.run_uri) == []
    assert finish(tmp_path).ending == "stopped"


def test_a_mistake_found_by_plan_failed_and_a_plan_that_never_ran_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        plan(tmp_path, config="experiment=reach_bc training.learning_rate=1")
    end = finish(tmp_path, "RUNNING")
    assert (end.ending, ended(tmp_path)["exit_code"]) == ("failed", 2)
    assert "training.learning_rate" in end.html
    never = finish(tmp_path, "RUNNING", "unknown")
    assert (never.ending, ended(tmp_path, "unknown")["exit_code"]) == ("never planned", 75)
    assert "before anything was planned" in never.html


def test_a_store_that_cannot_be_read_has_a_page_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: finish failed as plan had, so that a first run without a store had no page at all."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    end = steps.finish(job_id="j1", store_uri="s3://nobody/here", state="FAILED", error="plan failed")
    assert end.ending == "never planned"
    assert end.report_uri == ""
    assert "its store cannot be read" in end.headline
    assert "error: " in end.html


def test_a_schedule_remembers_what_ended_well_or_was_finished_already_and_nothing_else(tmp_path: Path) -> None:
    """Before: the mark waited for the word SUCCEEDED, which no cluster says, so the schedule retrained every night."""

    def trained() -> jobs.Trained | None:
        return jobs.last_trained(load_plan(run.run_uri), protocol_of_run)

    run = plan(tmp_path, only_new=True)
    assert run.work
    finish(tmp_path, "RUNNING", remember=True)
    assert trained() is None, "a run that was stopped has trained on nothing"
    plan(tmp_path, "j2", only_new=True)
    end_well(run.run_uri, "j2")
    finish(tmp_path, "COMPLETE", "j2")
    assert trained() is None, "it was not asked to be remembered"
    finished = plan(tmp_path, "j3", only_new=True)
    assert not finished.work
    finish(tmp_path, "RUNNING", "j3", remember=True)
    assert trained() is not None
    unchanged = plan(tmp_path, "j4", only_new=True, config="experiment=reach_bc training.lr=0.5")
    assert (unchanged.work, "nothing changed since" in unchanged.reason) == (False, True)
    end = finish(tmp_path, "RUNNING", "j4", remember=True)
    assert (end.ending, end.report_uri) == ("nothing to do", str(tmp_path / "jobs/j4/report.html"))
    assert "data_force=true" in end.html
    assert trained().run_uri == run.run_uri  # type: ignore[union-attr]
    assert plan(tmp_path, "j5", only_new=True, source_uri="demo://reach?episodes=5&seed=1").work
    assert plan(tmp_path, "j6", only_new=True, champion="another", config="experiment=reach_bc training.lr=0.5").work
    assert plan(tmp_path, "j7", only_new=True, force=True, config="experiment=reach_bc training.lr=0.5").work


def test_two_tasks_on_one_schedule_name_do_not_hide_each_other(tmp_path: Path) -> None:
    """Before: the mark of a dataset and a champion hid a second task with the same demonstrations for ever."""
    run = plan(tmp_path, only_new=True)
    end_well(run.run_uri)
    finish(tmp_path, "COMPLETE", remember=True)
    longer = {"only_new": True, "config": "experiment=reach_bc env.episode_length=90"}
    assert plan(tmp_path, "j2", **longer).work
    again = plan(tmp_path, "j3", only_new=True, config="experiment=reach_bc training.lr=0.5")
    assert "nothing changed since" in again.reason


def test_the_mark_of_an_old_store_still_holds_for_its_task(tmp_path: Path) -> None:
    run = plan(tmp_path, only_new=True)
    end_well(run.run_uri)
    fields = {"source_digest": run.source_digest, "run_uri": run.run_uri, "when": "2025-01-01T00:00:00+00:00"}
    open_store(str(tmp_path)).write("retrain/demos-best.json", json.dumps(fields).encode())
    other = {"only_new": True, "config": "experiment=reach_bc training.lr=0.5"}
    assert "nothing changed since 2025-01-01" in plan(tmp_path, "j2", **other).reason
    assert plan(tmp_path, "j3", **other | {"config": "experiment=reach_bc env.episode_length=90"}).work


def test_a_run_that_died_without_its_exit_task_is_told_by_the_next_one_and_only_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan(tmp_path, "dead")
    assert [job.job_id for job in steps.unfinished_jobs(str(tmp_path))] == ["dead"]
    caplog.clear()
    run = plan(tmp_path, "next")
    assert "job dead of" in caplog.text
    assert "left no end" in caplog.text
    plan(tmp_path, "next")  # a second attempt of the same pod
    end_well(run.run_uri, "next")
    page = finish(tmp_path, "COMPLETE", "next")
    assert page.ending == "succeeded"
    assert page.html.count("job dead of") == 1
    assert "job dead" not in open_store(run.run_uri).read("report.html").decode()
    caplog.clear()
    plan(tmp_path, "third")
    assert "job dead" not in caplog.text
    assert [job.job_id for job in steps.unfinished_jobs(str(tmp_path))] == ["dead", "third"]


def test_the_conclusion_of_an_earlier_job_is_not_that_of_this_one(tmp_path: Path) -> None:
    run = plan(tmp_path)
    end_well(run.run_uri)
    again = plan(tmp_path, "j2", force=True)
    assert again.run_uri == run.run_uri
    assert load_conclusion(run.run_uri).job_id == "j1"  # type: ignore[union-attr]
    assert finish(tmp_path, "COMPLETE", "j2").ending == "stopped"


def test_a_part_of_a_batch_says_how_many_trials_are_left(tmp_path: Path) -> None:
    sweep = [{"key": "training.lr", "name": "lr", "group": 0, "values": [0.1, 0.01, 0.001]}]
    run = plan(tmp_path, sweep=sweep)
    first = load_plan(run.run_uri).trials[0]
    save_outcome(run.run_uri, TrialOutcome(first.name, first.run_key, status="failed", failed_step="train"))
    part = steps.conclude(run_uri=run.run_uri, job_id="j1")
    assert (part.verdict, part.winner, part.metrics) == ("part 1: 2 trials left", "", {})
    assert steps.conclude(run_uri=run.run_uri, job_id="j1").verdict == part.verdict, "a second attempt of the pod"
    end = finish(tmp_path, "COMPLETE")
    assert (end.ending, ended(tmp_path)["exit_code"]) == ("part done", 75)
    assert "Start the same run again" in end.html
    assert open_store(run.run_uri).head("report.html") is None
    plan(tmp_path, "j2", sweep=sweep)
    assert steps.conclude(run_uri=run.run_uri, job_id="j2").verdict == "part 2: 2 trials left"


def test_the_log_of_a_failure_is_found_by_the_name_of_its_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: HOSTNAME, which Kubernetes cuts at 63 characters, so that kubectl finds no such pod."""
    pod = "policy-pipeline-7f6xk-system-container-impl-2890000000-and-more-than-63-characters"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("HOSTNAME", pod[:63])
    monkeypatch.setenv("KFP_POD_NAME", pod)
    run = plan(tmp_path)
    with pytest.raises(DataError), recording_failures(run.run_uri, "confirm"):
        raise DataError("x", where="x", why="x", fix="x")
    assert f"logs {pod} -c main" in finish(tmp_path).html


def test_the_headline_is_the_first_cause_where_all_trials_failed() -> None:
    def failure(step: str, part: str, minute: int, what: str, *, soft: bool) -> StepFailure:
        when = f"2026-01-01T00:0{minute}:00.000+00:00"
        return StepFailure(step, part, when, 3, (Problem(what, "here", "so", "mend it"),), "", soft)

    job = jobs.Job("runs/r1", "2026-01-01T00:00:00.000+00:00", True, "")
    late = failure("train", "b", 2, "the loss is not a number", soft=True)
    early = failure("train", "a", 1, "a shard is broken", soft=True)
    ended = failure("conclude", "", 3, NO_TRIAL_FINISHED, soft=False)
    assert judge(job, None, [ended, late, early]).headline == "the run failed at train a: a shard is broken"
    other = failure("conclude", "", 3, "the store is full", soft=False)
    assert judge(job, None, [other, late, early]).headline == "the run failed at conclude: the store is full"
