"""submit.py and runs that are there: watched to their end, listed, stopped, looked into; and schedules."""

import json
import os
import webbrowser

import pytest

from pipelines.client import watching
from pipelines.client.connection import message_of
from pipelines.client.pods import explained
from pipelines.client.tasks import fnv1a, step_of
from tests.pipelines.fake_kfp import do, recorded_error, run

FAILURE = {
    "step": "train",
    "part": "lr_0.1",
    "when": "2026-11-29T02:41:09.000+00:00",
    "exit_code": 3,
    "problems": [{"what": "a shard is broken", "where": "shard 7", "why": "its hash differs", "fix": "convert again"}],
    "log": "",
    "soft": False,
}
FOUR_LINES = "error: a shard is broken\nwhere: shard 7\nwhy:   its hash differs\nfix:   convert again"


def end(store, run_id, ending, headline="", failures=(), **more):
    """What finish leaves in the store."""
    folder = store / "jobs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"ending": ending, "headline": headline, "report_uri": f"{store}/report.html", "exit_code": 0}
    (folder / "ended.json").write_text(json.dumps(fields | {"failures": list(failures), "when": ""} | more))


def watch(kubeflow, run_id, *words):
    return do(kubeflow, "watch", run_id, "--poll", "0.01", *words)


def stored(store):
    return {"runtime_config": {"parameters": {"data_store_uri": str(store)}}}


# --------------------------------------------------------------------------------------------------------------- how it ends


@pytest.mark.parametrize(
    ("ending", "engine", "code"),
    [
        ("succeeded", "SUCCEEDED", 0),
        ("nothing to do", "SUCCEEDED", 0),
        ("succeeded", "FAILED", 0),  # the engine's word is about pods; the work is done
        ("part done", "SUCCEEDED", 75),
        ("failed", "SUCCEEDED", 1),
        ("failed", "FAILED", 1),
        ("stopped", "FAILED", 1),
        ("never planned", "FAILED", 1),
    ],
)
def test_what_a_run_came_to_is_read_from_its_store(kubeflow, tmp_path, capfd, ending, engine, code):
    kubeflow.add_run("r7", ["RUNNING", engine], **stored(tmp_path))
    end(tmp_path, "r7", ending, "0.84 (42/50)")
    assert watch(kubeflow, "r7") == code
    captured = capfd.readouterr()
    assert f"run r7: {ending}: 0.84 (42/50)" in captured.out
    assert f"report: {tmp_path}/report.html" in captured.out
    assert ("error:" in captured.err) == (code != 0)


def test_the_step_that_failed_is_named_though_the_run_has_no_error(kubeflow, capfd):
    run_id = kubeflow.add_recorded("mu2-tendon-runner")["run_id"]
    assert watch(kubeflow, run_id) == 1
    err = capfd.readouterr().err
    assert "error: the run failed, at plan" in err
    assert "-618346474" in err  # the end of the name of its pod
    assert "kubectl -n kubeflow logs" in err


def test_the_four_lines_of_the_failing_step_come_from_the_store(kubeflow, tmp_path, capfd):
    kubeflow.add_recorded("mu2-tendon-runner", run_id="r7", **stored(tmp_path))
    kept = {key: FAILURE[key] for key in ("step", "part", "when", "exit_code", "soft")}
    kept |= {"text": FOUR_LINES, "log": "kubectl -n kubeflow logs the-pod -c main"}
    carried = kept | {"soft": True, "text": FOUR_LINES.replace("a shard", "another trial")}
    end(tmp_path, "r7", "failed", "train lr_0.1 failed", [kept, carried])
    assert watch(kubeflow, "r7") == 1
    err = capfd.readouterr().err
    assert "another trial" not in err
    assert "see kubectl -n kubeflow logs the-pod -c main" in err
    assert FOUR_LINES in err


def test_a_store_that_cannot_be_read_does_not_hide_the_ending(kubeflow, capfd):
    kubeflow.add_recorded("mu2-tendon-runner", run_id="r7", **stored("nowhere://x"))
    assert watch(kubeflow, "r7") == 1
    assert "nowhere://x" in capfd.readouterr().err


def test_a_run_that_was_terminated_was_stopped_though_the_engine_says_failed(kubeflow, capfd):
    run_id = kubeflow.add_recorded("runR-64")["run_id"]
    assert watch(kubeflow, run_id) == 1
    captured = capfd.readouterr()
    assert "error: the run was stopped" in captured.err
    assert "failing" not in captured.err
    assert f"run {run_id}: stopped" in captured.out


def test_a_run_without_an_exit_task_is_found(kubeflow, tmp_path, capfd):
    jobs = tmp_path / "jobs"
    (jobs / "r7" / "failures").mkdir(parents=True)
    (jobs / "r7" / "failures" / "plan.json").write_text(json.dumps(FAILURE | {"step": "plan"}))
    kubeflow.add_run("r7", ["FAILED"], **stored(tmp_path), description="tendon abc")
    assert watch(kubeflow, "r7") == 1
    err = capfd.readouterr().err
    assert "died without its exit task" in err
    assert "a shard is broken" in err
    assert do(kubeflow, "list") == 0
    assert "died without its exit task" in capfd.readouterr().out


def test_a_look_that_nobody_answers_does_not_end_the_waiting(kubeflow, capfd, monkeypatch):
    kubeflow.add_run("r7", ["RUNNING", "RUNNING", "SUCCEEDED"])
    closed = [False]

    def close_once(seconds):
        if not closed[0]:
            closed[0] = True
            kubeflow.refuse_connections = 2

    monkeypatch.setattr(watching.time, "sleep", close_once)
    assert watch(kubeflow, "r7") == 0


# ------------------------------------------------------------------------------------------------------ what it waits for

WORKFLOW = "policy-pipeline-6d9fh"
TRAIN = f"{WORKFLOW}(0).root(0).exit-handler-1(0).for-loop-2(0).iteration-item(0:0)(0).train(0).executor(0)"
TIME = "2026-11-29T02:44:21Z"


def pending_tasks(state="PENDING"):
    """A train pod that does not start, as the API tells it: the reason is not in it."""
    parts = TRAIN.split(".")
    tasks = []
    for number in range(1, len(parts) + 1):
        path = ".".join(parts[:number])
        for name in (path.removesuffix("(0)"), path):
            at = f"{WORKFLOW}-{fnv1a(name)}"
            tasks.append((name.split(".")[-1], at))
    details = []
    for (name, _), (_, child) in zip(tasks, [*tasks[1:], ("", "")], strict=True):
        details.append({"display_name": name, "state": "RUNNING", "start_time": TIME, "child_tasks": []})
        if child:
            details[-1]["child_tasks"] = [{"pod_name": child}]
    details[-1] |= {"state": state}
    return {"task_details": details}


def pod(message="", reason="", conditions=(), image="tendon-train:0.1.0"):
    meta = {"name": f"{WORKFLOW}-metadata-{fnv1a(TRAIN)}", "annotations": {"workflows.argoproj.io/node-name": TRAIN}}
    waiting = [{"image": image, "state": {"waiting": {"reason": reason, "message": message}}}]
    status = {"phase": "Pending", "conditions": list(conditions), "containerStatuses": waiting if reason else []}
    return {"items": [{"metadata": meta, "status": status}]}


def test_an_image_that_cannot_be_pulled_is_told_once_while_it_lasts(kubeflow, capfd):
    kubeflow.add_run("r7", ["RUNNING"] * 6 + ["SUCCEEDED"], run_details=pending_tasks())
    message = 'Back-off pulling image "tendon-train:0.1.0"'
    (kubeflow.kubectl / "pods.json").write_text(json.dumps(pod(message, "ImagePullBackOff")))
    assert watch(kubeflow, "r7") == 0
    out = capfd.readouterr().out
    assert out.count("the image cannot be pulled") == 1
    assert "train [0] waits" in out or "train waits" in out
    assert "cluster_image_" in out


def test_a_pod_without_a_node_and_a_full_quota_are_told(kubeflow, capfd):
    (kubeflow.kubectl / "pods.json").write_text(
        json.dumps(
            pod(
                conditions=[
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes are available: 1 Insufficient cpu.",
                    }
                ]
            )
        )
    )
    kubeflow.add_run("r7", ["RUNNING"] * 4 + ["SUCCEEDED"], run_details=pending_tasks())
    assert watch(kubeflow, "r7") == 0
    assert "no node has room for it" in capfd.readouterr().out
    (kubeflow.kubectl / "pods.json").unlink()
    quota = 'pods "x" is forbidden: exceeded quota: tendon, requested: pods=1, used: pods=20, limited: pods=20'
    nodes = {"n": {"name": TRAIN, "phase": "Pending", "message": quota}}
    (kubeflow.kubectl / "workflow.json").write_text(json.dumps({"status": {"nodes": nodes}}))
    kubeflow.add_run("r8", ["RUNNING"] * 4 + ["SUCCEEDED"], run_details=pending_tasks())
    assert watch(kubeflow, "r8") == 0
    assert "the quota tendon is full" in capfd.readouterr().out


def test_an_obstacle_is_told_again_when_it_changes_and_when_it_is_gone(kubeflow, capfd):
    def change(run):
        looks = len([line for line in kubeflow.log if line == "GET /runs/r7"])
        reason, image = ("ErrImagePull", "a:1") if looks < 4 else ("ImagePullBackOff", "b:1")
        message = f'Back-off pulling image "{image}"'
        (kubeflow.kubectl / "pods.json").write_text(json.dumps(pod(message, reason, image=image)))
        if looks >= 7:
            (kubeflow.kubectl / "pods.json").unlink()
            run["run_details"] = pending_tasks("RUNNING")

    kubeflow.add_run("r7", ["RUNNING"] * 9 + ["SUCCEEDED"], run_details=pending_tasks())
    kubeflow.on_look = change
    assert watch(kubeflow, "r7") == 0
    out = capfd.readouterr().out
    assert out.count("cannot be pulled") == 2
    assert "goes on" in out


def test_without_kubectl_a_pod_that_stays_pending_is_told_with_the_command(kubeflow, capfd, monkeypatch):
    monkeypatch.setattr(watching, "PENDING_S", 0.02)
    kubeflow.add_run("r7", ["RUNNING"] * 12 + ["SUCCEEDED"], run_details=pending_tasks())
    assert watch(kubeflow, "r7") == 0
    out = capfd.readouterr().out
    assert out.count("has been pending") == 1
    assert "kubectl -n kubeflow describe pods -l pipeline/runid=r7" in out


def test_an_account_that_is_not_there_is_explained(kubeflow, capfd):
    words = "error looking up service account kubeflow/tendon-runner: serviceaccount not found"
    history = [{"state": "FAILED", "error": {"code": 2, "message": words}}]
    kubeflow.add_run("r7", ["FAILED"], state_history=history, state="FAILED")
    assert watch(kubeflow, "r7") == 1
    assert "kubectl apply -k k8s/overlays/kubeflow" in capfd.readouterr().err
    kubeflow.refuse["POST /runs"] = (400, {"code": 3, "message": words})
    assert run(kubeflow, "--service-account", "tendon-runner") == 4
    assert "kubectl apply -k k8s/overlays/kubeflow" in capfd.readouterr().err


def test_an_account_that_is_not_there_is_refused_where_kubectl_may_look(kubeflow, capfd):
    listing = {"items": [{"metadata": {"name": "pipeline-runner"}}]}
    (kubeflow.kubectl / "serviceaccounts.json").write_text(json.dumps(listing))
    assert run(kubeflow, "--service-account", "tendon-runner", "--kube-context", "kind") == 2
    assert "k8s/overlays/kubeflow" in capfd.readouterr().err
    assert kubeflow.submitted == []
    assert run(kubeflow, "--service-account", "pipeline-runner", "--kube-context", "kind") == 0
    assert kubeflow.submitted[0]["service_account"] == "pipeline-runner"


def test_kinds_of_obstacles_stay_the_same_while_their_words_change():
    first = explained('ErrImagePull: tendon-sim:1: failed to pull and unpack image "tendon-sim:1"')
    assert first[0] == explained('ImagePullBackOff: tendon-sim:1: Back-off pulling image "tendon-sim:1"')[0]
    assert explained("Unschedulable: 1 Insufficient cpu")[0] != explained("Unschedulable: 1 Insufficient memory")[0]


def test_steps_are_known_by_the_paths_of_their_nodes():
    assert step_of(TRAIN) == ("train", "0")
    assert step_of(f"{WORKFLOW}(0).root-driver(0)", "root-driver") == ("", "")
    assert message_of(json.dumps(recorded_error("terminate"))).endswith("Row not found")


# ------------------------------------------------------------------------------------------------------ once, and in parts


def test_what_is_running_already_is_not_started_twice(kubeflow, capfd):
    kubeflow.script = ["RUNNING"]
    assert run(kubeflow, "--timeout", "0", "evaluate_episodes=5") == 0
    kubeflow.add_run("other", ["RUNNING"])  # newer, so that the first is on another page
    assert run(kubeflow, "evaluate_episodes=5") == 0
    out = capfd.readouterr().out
    assert "run r1: RUNNING already" in out
    assert f"{kubeflow.url}/#/runs/details/r1" in out.splitlines()[-2]
    assert len(kubeflow.submitted) == 1
    assert run(kubeflow, "--timeout", "0", "evaluate_episodes=6") == 0
    assert run(kubeflow, "--timeout", "0", "evaluate_episodes=5", "--again") == 0
    assert len(kubeflow.submitted) == 3


def test_what_has_ended_or_is_stopping_is_started_again(kubeflow):
    assert run(kubeflow) == 0
    kubeflow.script = ["RUNNING"]
    assert run(kubeflow, "--timeout", "0") == 0
    assert do(kubeflow, "cancel", "r2") == 0
    assert run(kubeflow, "--timeout", "0") == 0
    assert len(kubeflow.submitted) == 3


def test_batches_go_on_until_the_sweep_is_whole(kubeflow, tmp_path, capfd):
    left = iter([("part done", "part 1: 80 trials left"), ("part done", "part 2: 8 trials left"), ("succeeded", "ok")])
    kubeflow.on_submit = lambda run: end(tmp_path, run["run_id"], *next(left))
    words = ["--batches", f"data_store_uri={tmp_path}"]
    assert run(kubeflow, *words) == 0
    assert len(kubeflow.submitted) == 3
    assert len({json.dumps(sent["runtime_config"]) for sent in kubeflow.submitted}) == 1
    out = capfd.readouterr().out
    assert "part 2: run r2" in out
    assert "part 3: run r3" in out


def test_batches_end_when_a_part_fails_or_gets_nowhere(kubeflow, tmp_path, capfd):
    words = ["--batches", f"data_store_uri={tmp_path}"]
    endings = iter([("part done", "part 1: 80 trials left"), ("failed", "plan failed")])
    kubeflow.on_submit = lambda run: end(tmp_path, run["run_id"], *next(endings))
    assert run(kubeflow, *words) == 1
    kubeflow.on_submit = lambda run: end(tmp_path, run["run_id"], "part done", "part 1: 80 trials left")
    assert run(kubeflow, *words) == 1
    assert "the parts do not go on" in capfd.readouterr().err
    assert len(kubeflow.submitted) == 4


def test_batches_want_a_store_that_can_be_read(kubeflow, capfd):
    assert run(kubeflow, "--batches") == 2
    assert "data_store_uri" in capfd.readouterr().err
    assert kubeflow.submitted == []


# ---------------------------------------------------------------------------------------------------- list, logs, open, stop


def test_our_runs_are_listed_with_what_they_came_to(kubeflow, tmp_path, capfd):
    kubeflow.add_run("ours-1", ["SUCCEEDED"], **stored(tmp_path), description="tendon a")
    kubeflow.add_run("ours-2", ["RUNNING"], display_name="retrain-pipeline 2026-11-29 03:00")
    kubeflow.add_run("theirs", ["RUNNING"])
    kubeflow.add_recorded("runR-64", description="tendon b")
    end(tmp_path, "ours-1", "nothing to do", "unchanged since yesterday")
    assert do(kubeflow, "list") == 0
    lines = {line.split()[0]: line for line in capfd.readouterr().out.splitlines()}
    assert "nothing to do: unchanged since yesterday" in lines["ours-1"]
    assert "RUNNING" in lines["ours-2"]
    assert "stopped" in lines["a851b7db-c840-456e-9657-462fd260e971"]
    assert "theirs" not in lines


def test_a_run_whose_schedule_was_deleted_is_not_listed_as_running(kubeflow, capfd):
    kubeflow.schedules.append({"recurring_run_id": "s1", "display_name": "kept"})
    kubeflow.add_run("alive", ["RUNNING"], description="tendon a", recurring_run_id="s1")
    kubeflow.add_run("orphan", ["RUNNING"], description="tendon a", recurring_run_id="gone")
    assert do(kubeflow, "list") == 0
    lines = {line.split()[0]: line for line in capfd.readouterr().out.splitlines()}
    assert "died without its exit task: its schedule was deleted" in lines["orphan"]
    assert "died" not in lines["alive"]


def test_logs_name_the_pod_and_print_its_text(kubeflow, capfd):
    run_id = kubeflow.add_recorded("mu2-tendon-runner")["run_id"]
    assert do(kubeflow, "logs", run_id, "--step", "plan") == 0
    out = capfd.readouterr().out
    assert f"kubectl -n kubeflow get pods -l pipeline/runid={run_id} -o name | grep -e -618346474$" in out
    assert "finish" not in out
    name = "policy-pipeline-6d9fh-metadata-0-2-system-container-impl-618346474"
    (kubeflow.kubectl / "pods.json").write_text(json.dumps({"items": [{"metadata": {"name": name}}]}))
    (kubeflow.kubectl / f"{name}.log").write_text("error: no S3 credentials were found")
    assert do(kubeflow, "logs", run_id) == 0
    out = capfd.readouterr().out
    assert f"kubectl -n kubeflow logs {name} -c main" in out
    assert "no S3 credentials were found" in out
    assert "== finish: SUCCEEDED" in out
    assert do(kubeflow, "logs", run_id, "--step", "trian") == 2


def test_a_page_is_opened_where_there_is_a_display(kubeflow, capfd, monkeypatch):
    kubeflow.add_run("r7", ["RUNNING"])
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert do(kubeflow, "open", "r7") == 0
    assert opened == []
    monkeypatch.setenv("DISPLAY", ":0")
    assert do(kubeflow, "open", "r7") == 0
    assert opened == [f"{kubeflow.url}/#/runs/details/r7"]
    assert do(kubeflow, "open", "nobody") == 4
    assert "Run ID not found" in capfd.readouterr().err


def test_cancel_can_be_repeated(kubeflow, capfd):
    kubeflow.add_run("r7", ["RUNNING"])
    for _ in range(2):
        assert do(kubeflow, "cancel", "r7") == 0
        assert "stopping" in capfd.readouterr().out
    assert kubeflow.terminated == ["r7"]
    for _ in range(3):
        kubeflow.move("r7")
    assert do(kubeflow, "cancel", "r7") == 0
    assert "has ended" in capfd.readouterr().out


def test_a_run_that_ends_while_it_is_cancelled_is_no_error(kubeflow, capfd):
    kubeflow.add_run("r7", ["RUNNING", "RUNNING", "SUCCEEDED"])
    kubeflow.refuse["POST /runs/r7:terminate"] = (400, recorded_error("terminate"))
    assert do(kubeflow, "cancel", "r7") == 0
    assert "SUCCEEDED: it has ended" in capfd.readouterr().out
    kubeflow.add_run("r8", ["RUNNING"])
    kubeflow.refuse["POST /runs/r8:terminate"] = (400, {"code": 3, "message": "something else"})
    assert do(kubeflow, "cancel", "r8") == 4


# -------------------------------------------------------------------------------------------------------------- schedules


def mine(kubeflow):
    return [one for one in kubeflow.schedules if one["display_name"] == "tendon-retrain"]


def test_a_schedule_exists_once_enabled_and_with_typed_arguments(kubeflow, capfd):
    other = {"recurring_run_id": "o", "display_name": "other", "description": "x"}
    kubeflow.schedules.append(other)
    words = ["evaluate_episodes=100", "data_force=false", "data_store_uri=s3://b/x"]
    assert do(kubeflow, "schedule", *words) == 0
    assert do(kubeflow, "schedule", *words) == 0
    (one,) = mine(kubeflow)
    assert one["runtime_config"]["parameters"] == {
        "evaluate_episodes": 100,
        "data_force": False,
        "data_store_uri": "s3://b/x",
    }
    assert one["mode"] == "ENABLE"
    assert one["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert one["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "retrain-pipeline"
    assert "there already" in capfd.readouterr().out
    assert do(kubeflow, "schedule", "evaluate_episodes=200", *words[1:]) == 0
    (one,) = mine(kubeflow)
    assert one["runtime_config"]["parameters"]["evaluate_episodes"] == 200
    assert other in kubeflow.schedules


def test_a_schedule_is_replaced_without_killing_its_run(kubeflow, capfd):
    assert do(kubeflow, "schedule") == 0
    (old,) = mine(kubeflow)
    started = {"recurring_run_id": old["recurring_run_id"], "experiment_id": old["experiment_id"]}
    kubeflow.add_run("nightly", ["RUNNING"], **started)
    kubeflow.add_run("later", ["SUCCEEDED"], experiment_id=old["experiment_id"])  # the first page
    assert do(kubeflow, "schedule", "evaluate_episodes=200") == 0
    assert kubeflow.killed == []
    assert {one["mode"] for one in mine(kubeflow)} == {"DISABLE", "ENABLE"}
    assert old["mode"] == "DISABLE"
    assert "its run nightly goes on" in capfd.readouterr().out
    kubeflow.coming["nightly"] = ["SUCCEEDED"]
    kubeflow.move("nightly")
    assert do(kubeflow, "schedule", "evaluate_episodes=200") == 0
    (one,) = mine(kubeflow)
    assert one["mode"] == "ENABLE"
    assert kubeflow.killed == []


def test_a_schedule_that_is_refused_leaves_the_one_that_works(kubeflow, capfd):
    assert do(kubeflow, "schedule") == 0
    kubeflow.refuse["POST /recurringruns"] = (400, {"code": 3, "message": "Schedule cron is invalid"})
    assert do(kubeflow, "schedule", "evaluate_episodes=200") == 4
    (one,) = mine(kubeflow)
    assert one["mode"] == "ENABLE"
    assert "Schedule cron is invalid" in capfd.readouterr().err


def test_a_schedule_that_was_paused_is_enabled_again(kubeflow, capfd):
    assert do(kubeflow, "schedule") == 0
    mine(kubeflow)[0].update(mode="DISABLE", status="DISABLED")
    assert do(kubeflow, "schedule") == 0
    assert mine(kubeflow)[0]["mode"] == "ENABLE"
    assert do(kubeflow, "schedule", "--disabled") == 0
    (one,) = mine(kubeflow)
    assert one["mode"] == "DISABLE"
    assert os.environ["HOME"] not in capfd.readouterr().out
