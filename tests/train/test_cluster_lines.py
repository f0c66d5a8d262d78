"""One test for each line of what a real cluster showed to be wrong with training on several nodes, by its number."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import threading
import time

import pytest

from tendon import steps
from tendon.errors import Interrupted
from tendon.runs.failures import failures_in
from tendon.storage import open_store
from tendon.train.distributed import trainjob
from tendon.train.state import status as trial_status
from tests.train.fake_cluster import FOUR_LINES, Cluster, PodEnd, amount

RUNTIMES = ("TrainingRuntime/tendon-nodes", "ClusterTrainingRuntime/torch-distributed")


class Result:
    """What a finished trial says."""

    checkpoint_uri, metrics, step = "c", {}, 40


class Nodes:
    """A planned run, a cluster that trains it, and the step that waits."""

    def __init__(self, cluster, api, plan, monkeypatch):
        self.cluster, self.api, self.plan, self.is_finished = cluster, api, plan, False
        self.is_over = threading.Event()
        run_job = trainjob.run_job
        monkeypatch.setattr(trainjob, "run_job", lambda spec, **given: run_job(spec, api, poll_s=0.02, **given))
        for module in (trial_status, trainjob):
            monkeypatch.setattr(module, "find_finished", self.find_finished, raising=False)
        cluster.on_complete = lambda job: setattr(self, "is_finished", True)

    def find_finished(self, uri):
        return Result() if self.is_finished else None

    def train(self, within_s=60.0, **given):
        """The outcome of the one trial; who waits too long is told to stop."""
        too_late = threading.Timer(within_s, os.kill, (os.getpid(), signal.SIGTERM))
        too_late.start()
        given = {"image": "image:1", "nodes": 2, "gpus": "0", "memory": "2Gi", "cpu": "500m"} | given
        try:
            (outcome,) = steps.train_trials_on_nodes(
                run_uri=self.plan.run_uri, trials=self.plan.groups[0], dataset_uri=self.plan.dataset_uri, **given
            )
        finally:
            too_late.cancel()
        return json.loads(outcome)

    def later(self, seconds, action):
        """Some time after there is a job."""
        threading.Thread(target=self._later, args=(seconds, action), daemon=True).start()

    def _later(self, seconds, action):
        while not self.cluster.jobs and not self.is_over.wait(0.01):
            pass
        if not self.is_over.wait(seconds):
            action()

    @property
    def job(self):
        (job,) = self.cluster.jobs.values()
        return job

    def delete_job(self):
        with self.cluster.lock:
            self.cluster._delete(self.job["metadata"]["name"], {}, {"propagationPolicy": "Background"})


def make_plan(folder, *overrides):
    return steps.plan(
        source_uri="demo://reach?episodes=4&seed=1", store_uri=str(folder), dataset_name="demos",
        config=" ".join(["experiment=reach_bc", *overrides]), sweep=[], episodes=2, confirm_episodes=2, champion="c",
        promote=False,
    )  # fmt: skip


@pytest.fixture
def cluster():
    server = Cluster(runtimes=RUNTIMES).serve()
    yield server
    server.close()


@pytest.fixture
def nodes(cluster, tmp_path, monkeypatch):
    api = trainjob.ClusterApi(cluster.address, cluster.account(tmp_path / "account"))
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)  # one that comes too late must not end the tests
    nodes = Nodes(cluster, api, make_plan(tmp_path / "store"), monkeypatch)
    yield nodes
    nodes.is_over.set()
    signal.signal(signal.SIGTERM, before)


def test_line_1_nodes_ask_for_memory_and_are_not_killed_by_our_own_limit_range(nodes):
    assert amount(nodes.cluster.faults.default_memory) < amount(nodes.cluster.faults.needs)
    assert nodes.train()["status"] == "ok"


def test_line_1_what_a_node_asks_for_is_more_than_it_took():
    from tendon.runs.sizing import size_node

    cpu, memory = size_node("500m", "1Gi", 1)
    assert amount(memory) > 1.1 * 2**30
    assert (cpu, memory) == ("500m", "2Gi")
    assert size_node("4", "16Gi", 8) == ("32", "129Gi")


def test_line_2_without_a_gpu_a_queued_job_stays_what_it_was(nodes):
    assert nodes.train(gpus="0", queue="tendon", memory="", cpu="", nodes=2)["status"] == "failed"  # too little memory
    nodes.cluster.faults.needs = "1Mi"
    assert nodes.train(gpus="0", queue="tendon", memory="", cpu="")["status"] == "ok"


def test_line_3_a_job_that_is_dying_is_waited_for_and_made_again(nodes):
    nodes.cluster.ends = lambda index, attempt: PodEnd(after_s=0.3)
    nodes.cluster.faults.delete_hangs_s = nodes.cluster.faults.pods_stop_s = 0.8
    nodes.later(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    nodes.cluster.ends = lambda index, attempt: PodEnd(after_s=60)
    with pytest.raises(Interrupted):
        nodes.train()
    nodes.cluster.faults.delete_hangs_s = 1.0
    nodes.later(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        nodes.train()
    nodes.cluster.ends = lambda index, attempt: PodEnd()
    assert nodes.train()["status"] == "ok"
    assert nodes.cluster.made == 3


def test_line_3_a_job_that_is_gone_is_75_and_no_outcome(nodes):
    nodes.cluster.ends = lambda index, attempt: PodEnd(after_s=60)
    nodes.later(0.4, nodes.delete_job)
    with pytest.raises(Interrupted, match="is gone"):
        nodes.train()
    assert not list(open_store(nodes.plan.run_uri).list("outcomes/"))


def test_line_4_the_same_run_in_another_store_has_a_job_of_its_own(nodes, tmp_path):
    nodes.cluster.ends = lambda index, attempt: PodEnd(after_s=60)
    for _ in range(2):
        nodes.later(0.4, lambda: setattr(nodes, "name", nodes.job["metadata"]["name"]))
        nodes.later(0.6, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            nodes.train()
        first, nodes.plan = getattr(nodes, "first", ""), make_plan(tmp_path / "another")
        nodes.first = nodes.name
    assert nodes.name != first
    assert nodes.name.rpartition("-")[0] == first.rpartition("-")[0]


def test_line_4_somebody_else_s_job_of_the_same_name_is_not_deleted(nodes):
    nodes.cluster.ends = lambda index, attempt: PodEnd(3, FOUR_LINES, after_s=0.2)
    delete = nodes.cluster._delete

    def replaced(name, query, body):
        nodes.cluster.jobs[name]["metadata"]["uid"] = "of-another-waiter"
        return delete(name, query, body)

    nodes.cluster._delete = replaced
    assert nodes.train()["status"] == "failed"
    assert nodes.job["metadata"]["uid"] == "of-another-waiter"
    assert "deletionTimestamp" not in nodes.job["metadata"]


def test_line_4_a_finished_trial_is_found_before_its_job_is_gone(nodes):
    nodes.cluster.ends = lambda index, attempt: PodEnd(after_s=60)
    nodes.later(0.4, lambda: (setattr(nodes, "is_finished", True), nodes.delete_job()))
    assert nodes.train()["status"] == "ok"


@pytest.mark.parametrize(("code", "recorded"), [(2, 2), (3, 3), (5, 5)])
def test_line_5_the_node_s_own_error_is_the_step_s(nodes, code, recorded):
    nodes.cluster.ends = lambda index, attempt: PodEnd(code if index == "1" else 75, FOUR_LINES if index == "1" else "")
    outcome = nodes.train()
    assert outcome["status"] == "failed"
    assert "a shard is missing or damaged" in outcome["error"]
    assert "node 1, pod tendon-" in outcome["error"]
    assert "delete the shard" in outcome["error"]
    (failure,) = failures_in(nodes.plan.run_uri)
    assert failure.exit_code == recorded


def test_line_6_a_dying_job_does_not_make_its_pods_again(nodes):
    nodes.cluster.ends = lambda index, attempt: PodEnd(after_s=60)
    nodes.cluster.faults.pods_stop_s = 0.5
    nodes.later(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        nodes.train()
    assert nodes.cluster.jobsets_made == 1
    assert not nodes.cluster.pods, "the step stays until they are gone"


def test_line_8_nodes_may_be_lost_any_number_of_times_while_checkpoints_come(nodes, monkeypatch):
    lost = 25
    nodes.cluster.ends = lambda index, attempt: PodEnd(75 if attempt < lost else 0, after_s=0.02)
    checkpoint = iter(range(10_000))
    newest = "tendon.train.distributed.node_watch.complete"
    monkeypatch.setattr(newest, lambda store: [f"{next(checkpoint):06d}"], raising=False)
    assert nodes.train(nodes=3)["status"] == "ok"


def test_line_8_without_a_checkpoint_it_ends_after_a_stated_number(nodes):
    nodes.cluster.ends = lambda index, attempt: PodEnd(75, "", after_s=0.02)
    outcome = nodes.train()
    assert outcome["status"] == "failed"
    assert trainjob.MOST_LOSSES < times_ended(outcome) <= trainjob.MOST_LOSSES + 5
    assert not nodes.cluster.jobs


def test_line_8_a_bug_is_not_repeated_that_often(nodes):
    nodes.cluster.ends = lambda index, attempt: PodEnd(1, "error: x\nwhere: y\nwhy:   z\nfix:   w\n", after_s=0.02)
    assert 2 < times_ended(nodes.train()) <= 7


def times_ended(outcome):
    """By the error; more than one pod may end between two looks."""
    (count,) = re.findall(r"ended (\d+) times without a new checkpoint", outcome["error"])
    return int(count)


@pytest.mark.parametrize("begins_s", [0.0, 0.4])
def test_line_9_the_controller_restarts(nodes, begins_s):
    nodes.cluster.ends = lambda index, attempt: PodEnd(after_s=1.0)
    faults = nodes.cluster.faults
    if begins_s:
        nodes.later(begins_s, lambda: setattr(faults, "outage_until", time.time() + 1.0))
    else:
        faults.outage_until = time.time() + 1.0
    assert nodes.train()["status"] == "ok"


def test_line_9_an_outage_does_not_cost_the_reason_of_a_failure(nodes):
    nodes.cluster.ends = lambda index, attempt: PodEnd(3, FOUR_LINES, after_s=0.3)
    answer, told = nodes.cluster.answer, []

    def away_when_pods_are_asked_for(method, path, query, body):
        is_failed = any(job["_over"] for job in nodes.cluster.jobs.values())
        if is_failed and path.endswith("/pods") and len(told) < 3:
            told.append(path)
            return 500, {"message": "etcdserver: leader changed"}
        return answer(method, path, query, body)

    nodes.cluster.answer = away_when_pods_are_asked_for
    assert "a shard is missing" in nodes.train()["error"]
    assert len(told) == 3


def test_line_9_an_outage_does_not_cost_the_placement(nodes, monkeypatch):
    nodes.cluster.other_pods["waiter"] = OWN_POD
    monkeypatch.setenv("KFP_POD_NAME", "waiter")
    nodes.cluster.faults.outage_until = time.time() + 0.5
    made = []
    nodes.cluster.on_complete = lambda job: (made.append(job), setattr(nodes, "is_finished", True))
    assert nodes.train()["status"] == "ok"
    assert "nodeSelector" in json.dumps(made[0]["spec"])


def test_line_9_an_outage_without_end_is_75_and_no_outcome(nodes, monkeypatch):
    monkeypatch.setattr(trainjob, "OUTAGE_S", 0.3, raising=False)
    nodes.cluster.faults.outage_until = time.time() + 60
    with pytest.raises(Interrupted, match="failed calling webhook"):
        nodes.train()
    assert not list(open_store(nodes.plan.run_uri).list("outcomes/"))


def test_line_10_the_api_s_own_message_is_shown(nodes):
    nodes.cluster.runtimes.clear()
    error = nodes.train()["error"]
    assert "not found: specified" in error
    assert "k8s/nodes" in error
    assert "Role" not in error


def test_line_10_rights_are_advised_only_when_they_are_missing(nodes):
    nodes.cluster.faults.rights.discard(("trainjobs", "create"))
    error = nodes.train()["error"]
    assert 'cannot create resource "trainjobs"' in error
    assert "Role" in error


@pytest.mark.parametrize(
    ("fault", "value", "told"),
    [
        ("waiting", ("ImagePullBackOff", 'Back-off pulling image "x"'), 'node 0: ImagePullBackOff: Back-off pulling image "x"'),
        ("unschedulable", "0/3 nodes are available: 3 Insufficient cpu.", "node 1: Unschedulable: 0/3 nodes"),
        ("queue_full", "couldn't assign flavors to pod set node: insufficient unused quota for cpu in flavor cpu, 100m more needed",
         "queue tendon: Pending: couldn't assign flavors"),
        ("quota", True, "no pod was made"),
    ],
)  # fmt: skip
def test_line_11_the_waiter_says_why_nothing_begins(nodes, caplog, monkeypatch, fault, value, told):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("tendon.train.distributed.node_watch.NO_PODS_S", 0.2, raising=False)
    setattr(nodes.cluster.faults, fault, value)
    nodes.later(0.6, lambda: setattr(nodes.cluster.faults, fault, None))
    assert nodes.train(queue="tendon" if fault == "queue_full" else "")["status"] == "ok"
    assert told in caplog.text
    trial = open_store(nodes.plan.run_uri.rpartition("/runs/")[0])
    (states,) = [entry.key for entry in trial.list("trials/") if entry.key.endswith("nodes/states.json")]
    assert told in " ".join(state["text"] for state in json.loads(trial.read(states))["history"])


def test_line_11_the_log_of_node_0_and_its_progress_are_shown(nodes, caplog):
    caplog.set_level(logging.INFO)
    nodes.cluster.ends = lambda index, attempt: PodEnd(after_s=1.0)
    trial_uri = f"{nodes.plan.store_uri}/trials"

    def beat():
        (trial,) = {entry.key.split("/")[0] for entry in open_store(trial_uri).list()}
        now = {"state": "running", "step": 12, "stage": "data", "at": time.time(), "every_s": 30}
        open_store(f"{trial_uri}/{trial}").write("heartbeat.json", json.dumps(now).encode())

    nodes.later(0.4, beat)
    assert nodes.train()["status"] == "ok"
    assert "node 0 | node 0 begins" in caplog.text
    assert "node 1 begins" not in caplog.text
    assert caplog.text.count("node 0 begins") == 1
    assert "train: 12 of " in caplog.text


def test_line_11_step_rate_and_time_left():
    from tendon.train.distributed.node_watch import how_far

    assert how_far(1200, 130.0, (1200, 130.0), 3000, 131.0) == "1200 of 3000 steps (40%)"
    assert how_far(1500, 133.0, (1200, 130.0), 3000, 134.0) == "1500 of 3000 steps (50%), 100/s, eta 15 s"
    assert how_far(1500, 133.0, (1200, 130.0), 3000, 400.0).endswith("no sign of life for 4 min")


def test_line_11_the_page_of_the_run_says_it_too(nodes):
    from tendon.report.failure_page import describe_part
    from tendon.runs.plan import load_plan

    nodes.cluster.faults.unschedulable = "0/3 nodes are available: 3 Insufficient cpu."
    nodes.later(0.6, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        nodes.train()
    page = describe_part(load_plan(nodes.plan.run_uri), "It was stopped").html
    assert "node 1: Unschedulable: 0/3 nodes are available" in page


OWN_POD = {
    "metadata": {"name": "waiter", "labels": {"kueue.x-k8s.io/priority-class": "tendon-training"}},
    "spec": {
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [
            {"key": "spot", "operator": "Exists", "effect": "NoSchedule"},
            {
                "key": "node.kubernetes.io/not-ready",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 300,
            },
        ],
        "imagePullSecrets": [{"name": "registry"}],
    },
}


@pytest.mark.parametrize("version", ["2.0", "2.1", "2.2", "2.3"])
def test_line_12_what_places_the_waiting_pod_places_the_nodes(nodes, monkeypatch, version):
    nodes.cluster.version = version
    nodes.cluster.other_pods["waiter"] = OWN_POD
    monkeypatch.setenv("KFP_POD_NAME", "waiter")
    made = []
    nodes.cluster.on_complete = lambda job: (made.append(job), setattr(nodes, "is_finished", True))
    assert nodes.train()["status"] == "ok"
    text = json.dumps(made[0]["spec"])
    assert '"nodeSelector": {"pool": "gpu"}' in text
    assert '"key": "spot"' in text
    assert "not-ready" not in text
    assert ('"imagePullSecrets": [{"name": "registry"}]' in text) == (version != "2.0")


def test_line_12_account_and_labels_come_with_the_runtime(nodes):
    pod = nodes.cluster.node_job["template"]
    assert pod["spec"]["serviceAccountName"] == "tendon-runner"
    assert pod["metadata"]["labels"]["app.kubernetes.io/part-of"] == "tendon"
    made = []
    nodes.cluster.on_complete = lambda job: (made.append(job), setattr(nodes, "is_finished", True))
    assert nodes.train()["status"] == "ok"
    assert made[0]["spec"]["runtimeRef"]["kind"] == "TrainingRuntime"


def test_line_13_priority_and_resources_reach_the_queue(nodes, monkeypatch):
    nodes.cluster.other_pods["waiter"] = OWN_POD
    monkeypatch.setenv("KFP_POD_NAME", "waiter")
    made = []
    nodes.cluster.on_complete = lambda job: (made.append(job), setattr(nodes, "is_finished", True))
    assert nodes.train(queue="tendon")["status"] == "ok"
    assert made[0]["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "tendon-training"
    assert made[0]["spec"]["trainer"]["resourcesPerNode"]["requests"] == {"cpu": "500m", "memory": "2Gi"}


def test_line_13_a_waiting_pod_in_the_queue_of_its_own_job_is_refused(nodes, monkeypatch):
    queued = {"metadata": {"name": "waiter", "labels": {"kueue.x-k8s.io/queue-name": "tendon"}}, "spec": {}}
    nodes.cluster.other_pods["waiter"] = queued
    monkeypatch.setenv("KFP_POD_NAME", "waiter")
    assert "is in the same queue" in nodes.train(queue="tendon")["error"]
    assert nodes.train(queue="another")["status"] == "ok"


def test_line_15_processes_of_a_node_follow_the_configuration_also_without_gpus(nodes, tmp_path):
    nodes.plan = make_plan(tmp_path / "two", "training.num_gpus=2")
    made = []
    nodes.cluster.on_complete = lambda job: (made.append(job), setattr(nodes, "is_finished", True))
    assert nodes.train(gpus="0")["status"] == "ok"
    assert made[0]["spec"]["trainer"]["numProcPerNode"] == 2


def test_line_16_a_failure_record_goes_with_a_later_success(nodes):
    nodes.cluster.ends = lambda index, attempt: PodEnd(after_s=60)
    nodes.later(0.4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        nodes.train()
    assert [failure.exit_code for failure in failures_in(nodes.plan.run_uri)] == [75]
    nodes.cluster.ends = lambda index, attempt: PodEnd()
    assert nodes.train()["status"] == "ok"
    assert not failures_in(nodes.plan.run_uri)
