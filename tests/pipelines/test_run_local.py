"""The compiled pipeline, run by kfp's subprocess runner on this machine, with steps that do nothing."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

COMPILED = Path(__file__).resolve().parents[2] / "pipelines" / "compiled"
SWEEP = {"policy_sweep": [{"values": 3}], "policy_config": "dead=t1"}


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def train_pid(fake):
    return next((call["pid"] for call in fake.calls() if call["step"] == "train"), 0)


def test_a_sweep_with_a_dead_trial_runs_to_its_end_and_again_for_free(fake):
    first = fake.run(arguments=SWEEP)
    assert first.exit_code == 0, first.err
    assert first.result["report_path"] == f"{fake.store}/runs/r1/report.html"
    assert first.result["run_uri"] == f"{fake.store}/runs/r1"
    assert len(first.result["seconds"]) == 5 + 3 * 3
    assert first.result["cached"] == []
    outcomes = [json.loads(text) for text in next(c for c in fake.calls() if c["step"] == "select")["outcomes"]]
    assert [(outcome["trial"], outcome["status"]) for outcome in outcomes] == [
        ("t0", "ok"),
        ("t1", "failed"),
        ("t2", "ok"),
    ]
    assert "train t1 ... trial failed after" in first.out
    assert "the sweep goes on: the loss is not a number" in first.out
    assert "export t1 ... skipped" in first.out
    assert "[1/8] plan ... done in" in first.out
    assert "train t0 | train: working" in first.out
    assert "KFP Executor" not in first.out + first.err, "kfp's chatter belongs in the log"

    again = fake.run(arguments=SWEEP)
    assert again.exit_code == 0, again.err
    assert again.result["cached"] == ["convert", "stats"]
    assert "[2/8] convert ... cached (0.0 s)" in again.out
    assert max(again.result["seconds"].values()) < 1.0

    fresh = fake.run(arguments=SWEEP, fresh=True)
    assert fresh.result["cached"] == []


def test_the_conversion_fans_out_over_its_workers(fake):
    first = fake.run(arguments={"data_convert_workers": 3})
    assert first.exit_code == 0, first.err
    converted = [call for call in fake.calls() if call["step"] == "convert"]
    assert sorted(call["worker"] for call in converted) == ["0/3", "1/3", "2/3"]
    assert all(call["skip_episodes"] == ["demo_3"] for call in converted)
    assert {f"convert {number}/3" for number in range(3)} <= set(first.result["seconds"])
    again = fake.run(arguments={"data_convert_workers": 3})
    assert again.result["cached"] == ["convert 0/3", "convert 1/3", "convert 2/3", "stats"]


def test_the_evaluation_of_a_group_fans_out_over_its_workers(fake):
    """Before: only the sweep pipeline shared the seeds of an evaluation."""
    arguments = {"evaluate_workers": 2, "policy_trials_per_pod": 2, "policy_sweep": [{"values": 3}]}
    ran = fake.run(arguments=arguments)
    assert ran.exit_code == 0, ran.err
    calls = fake.calls()
    shares = [(call["trials"], call["share"]) for call in calls if call["step"] == "evaluate_share"]
    assert sorted(shares) == [(["t0", "t1"], "0/2"), (["t0", "t1"], "1/2"), (["t2"], "0/2"), (["t2"], "1/2")]
    order = [call["step"] for call in calls]
    assert "evaluate" not in order
    assert order.index("evaluate_share") > max(at for at, step in enumerate(order) if step == "export")
    assert order.index("conclude") > max(at for at, step in enumerate(order) if step == "evaluate_share")


def test_a_worker_that_fails_ends_the_run_and_the_end_is_still_reported(fake):
    ran = fake.run(arguments={"data_convert_workers": 2, "policy_config": "fail=convert:3"})
    assert ran.exit_code == 3
    assert ran.err.count("error: convert does not like this") == 1
    steps = [call["step"] for call in fake.calls()]
    assert "train" not in steps
    assert steps[-1] == "finish"


def test_ints_of_a_sweep_stay_ints(fake):
    fake.run(
        arguments={
            "policy_sweep": [{"values": 1, "seeds": [0, 1], "rates": [0.5, 2.0]}],
            "policy_config": "fail=convert:3",
        }
    )
    (call,) = [call for call in fake.calls() if call["step"] == "plan"]
    assert call["sweep"] == [{"values": 1, "seeds": [0, 1], "rates": [0.5, 2.0]}]
    assert [type(value) for value in call["sweep"][0]["seeds"]] == [int, int]


def test_a_dataset_that_is_gone_is_converted_again(fake):
    fake.run(arguments=SWEEP)
    (fake.store / "dataset" / "stats.json").unlink()
    (fake.store / "dataset").rmdir()
    again = fake.run(arguments=SWEEP)
    assert again.exit_code == 0, again.err
    assert again.result["cached"] == []


@pytest.mark.parametrize(("step", "code"), [("plan", 2), ("train", 4)])
def test_a_failing_step_ends_the_run_with_its_exit_code_and_four_lines(fake, step, code):
    ran = fake.run(arguments={"policy_config": f"fail={step}:{code}"})
    assert ran.exit_code == code
    lines = [line for line in ran.err.splitlines() if line.startswith(("error:", "where:", "why:", "fix:"))]
    assert lines == [
        f"error: {step} does not like this",
        "where: here",
        "why:   it was told so",
        "fix:   tell it otherwise",
    ]
    assert " FAILED after " in ran.out
    assert "report" not in [call["step"] for call in fake.calls()]


def test_a_run_whose_trials_all_fail_is_headed_by_the_first_ones_error_and_names_its_page(fake):
    ran = fake.run(arguments={"policy_sweep": [{"values": 2}], "policy_config": "dead=t0 dead=t1"}, max_parallel=1)
    assert ran.exit_code == 3
    assert ran.err.splitlines()[-5:] == [
        "error: the loss is not a number",
        "where: step 3 of t0",
        "why:   it grew",
        "fix:   a lower lr",
        f"page:  {fake.store}/runs/r1/report.html",
    ]


def test_unknown_parameters_are_named_with_the_nearest_before_anything_starts(fake):
    ran = fake.run(arguments={"evaluate_episods": 3, "champion": "x", "gate_promote": "yes"})
    assert ran.exit_code == 2
    assert "error: gate_promote='yes' has the wrong type" in ran.err
    assert "did you mean evaluate_episodes?" in ran.err
    assert "did you mean gate_champion?" in ran.err
    assert fake.calls() == []


def test_a_file_that_is_no_pipeline_and_a_store_that_cannot_be_written(fake, tmp_path):
    odd = tmp_path / "odd.yaml"
    odd.write_text("a: [")
    ran = fake.run(odd)
    assert ran.exit_code == 2
    assert "error: the pipeline cannot be read" in ran.err
    fake.store.write_text("a file where the store should be")
    ran = fake.run()
    assert ran.exit_code == 4
    assert "error: the store cannot be written" in ran.err


def test_ctrl_c_lets_the_step_save_and_leaves_nothing_behind(fake):
    run = fake.start(arguments={"policy_config": "sleep=train:60"})
    wait_for(lambda: train_pid(fake))
    time.sleep(0.3)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=20)
    assert run.returncode == 75, err
    assert "stopping: the running steps save their work" in err
    assert "fix:   run the same command again: it continues" in err
    assert not alive(train_pid(fake))


@pytest.mark.skipif(
    not os.path.exists("/proc/self/stat"), reason="watches processes through /proc, which only Linux has"
)
def test_a_killed_run_takes_its_steps_along_and_the_next_one_works(fake):
    run = fake.start(arguments={"policy_config": "sleep=train:60"})
    wait_for(lambda: train_pid(fake))
    time.sleep(0.3)
    run.kill()
    run.communicate(timeout=20)
    wait_for(lambda: not alive(train_pid(fake)))
    cache = fake.store / ".kfp" / "cache"
    (cache / "half.json").write_text('{"dataset_uri": "/no')
    (cache / "odd.json").write_text("[]")
    for entry in cache.glob("*.json"):
        if entry.name not in ("half.json", "odd.json"):
            entry.write_text(entry.read_text()[:20])
    again = fake.run()
    assert again.exit_code == 0, again.err
    assert not list((fake.store / ".kfp").glob("workspace-*/*"))


def test_a_killed_step_is_told_as_such(fake):
    run = fake.start(arguments={"policy_config": "sleep=train:60"})
    wait_for(lambda: train_pid(fake))
    os.kill(train_pid(fake), signal.SIGKILL)
    _, err = run.communicate(timeout=20)
    assert run.returncode == 75
    assert "error: train t0 was killed" in err


def test_old_runs_are_forgotten_but_not_what_the_cache_points_to(fake):
    fake.run()
    runs = fake.store / ".kfp" / "runs"
    (first,) = runs.iterdir()
    for number in range(7):
        (runs / f"old-{number}").mkdir()
    ran = fake.run()
    assert ran.result["cached"] == ["convert", "stats"]
    assert first.exists()
    assert len(list(runs.iterdir())) <= 6


def test_an_interrupted_step_is_started_again_and_a_typo_is_not(fake):
    """75 is retried as often as the pipeline says; 2 and 3 once are enough."""
    process = fake.start(arguments={"policy_config": "sleep=train:2"})
    wait_for(lambda: train_pid(fake))
    time.sleep(0.3)
    os.kill(train_pid(fake), signal.SIGTERM)  # as a cluster does when it takes a node back
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len([call for call in fake.calls() if call["step"] == "train"]) == 2
    assert "again, from where it stopped" in out


@pytest.mark.parametrize("code", [2, 3])
def test_what_repeats_itself_is_not_retried(fake, code):
    assert fake.run(arguments={"policy_config": f"fail=train:{code}"}).exit_code == code
    assert len([call for call in fake.calls() if call["step"] == "train"]) == 1


def test_the_end_is_reported_also_of_a_failed_run(fake):
    fake.run(arguments={"policy_config": "fail=convert:3"})
    (end,) = [call for call in fake.calls() if call["step"] == "finish"]
    assert end["state"] == "FAILED"
    assert end["notify_when"] == "failure"
    (planned,) = [call for call in fake.calls() if call["step"] == "plan"]
    assert end["job_id"] == planned["job_id"]


def test_retraining_happens_only_for_new_data_or_on_request(fake):
    retrain = COMPILED / "retrain_pipeline.yaml"
    steps = lambda: [call["step"] for call in fake.calls()]  # noqa: E731
    first = fake.run(retrain)
    assert first.exit_code == 0, first.err
    assert steps().count("train") == 1
    assert steps().count("promote") == 1
    assert next(call for call in fake.calls() if call["step"] == "plan")["promote"] is True
    second = fake.run(retrain)
    assert second.exit_code == 0, second.err
    assert steps().count("plan") == 2
    assert steps().count("train") == steps().count("convert") == 1, "unchanged data must not start a run"
    assert steps().count("finish") == 2
    forced = fake.run(retrain, arguments={"data_force": True})
    assert forced.exit_code == 0, forced.err
    assert steps().count("train") == 2


def test_an_existing_bundle_is_measured(fake):
    ran = fake.run(
        COMPILED / "evaluate_pipeline.yaml",
        arguments={"evaluate_bundle_uri": "/b", "evaluate_baseline_uri": "/c", "evaluate_confirm_episodes": 7},
    )
    assert ran.exit_code == 0, ran.err
    (call,) = [call for call in fake.calls() if call["step"] == "evaluate_bundle"]
    assert (call["bundle_uri"], call["baseline_uri"], call["episodes"]) == ("/b", "/c", 7)


def test_trials_that_share_a_pod_are_told_apart(fake):
    ran = fake.run(arguments={**SWEEP, "policy_trials_per_pod": 2})
    assert ran.exit_code == 0, ran.err
    assert {"train t0, t1", "train t2", "evaluate t0, t1"} <= set(ran.result["seconds"])
    assert "train t0 ... done in" in ran.out
    assert "train t1 ... trial failed after" in ran.out
    assert "the sweep goes on: the loss is not a number" in ran.out
    assert "evaluate t1 ... skipped" in ran.out
    assert [call["trial"] for call in fake.calls() if call["step"] == "train" and call["trial"] != "t2"] == ["t0", "t1"]


def test_a_run_with_nothing_to_do_goes_from_plan_to_its_report(fake):
    first = fake.run()
    again = fake.run(arguments={"policy_config": "finished"})
    assert again.exit_code == 0, again.err
    assert set(again.result["seconds"]) == {"plan", "finish"}
    assert again.result["report_path"] == first.result["report_path"] == f"{fake.store}/runs/r1/report.html"


def test_one_worker_is_one_task_and_nothing_waits_for_more(fake):
    ran = fake.run()
    assert [name for name in ran.result["seconds"] if name.startswith("convert")] == ["convert"]
