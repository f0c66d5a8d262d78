"""A TrainJob against an API server that answers like Kubernetes'."""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tendon.errors import ConfigError, Interrupted, StorageError, TendonError
from tendon.train.distributed import trainjob
from tendon.train.distributed.trainjob import GROUP, ClusterApi, JobSpec, run_job

SPEC = JobSpec("tendon-k0", "image:1", ("train", "--run-uri", "s3://b/r", "--trial", "t0"), 2, "8", queue="robots")


class Cluster(BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass

    def reply(self, status, body=None):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body or {}).encode())

    def handle_one(self, body=None):
        server = self.server
        assert self.headers["Authorization"] == "Bearer hush"
        assert self.path.startswith(f"{GROUP}/namespaces/robots/trainjobs")
        if server.refuse:
            return self.reply(server.refuse)
        if self.command == "POST":
            if server.job:
                return self.reply(409)
            server.job, server.made = body, server.made + 1
            return self.reply(201, body)
        if not server.job:
            return self.reply(404)
        if self.command == "DELETE":
            server.job = None
            return self.reply(200)
        state = server.states.pop(0) if len(server.states) > 1 else server.states[0]
        condition = {"type": state, "status": "True", "message": "out of memory"}
        return self.reply(200, {**server.job, "status": {"conditions": [condition] if state else []}})

    def do_GET(self):
        self.handle_one()

    def do_DELETE(self):
        self.handle_one()

    def do_POST(self):
        self.handle_one(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))


@pytest.fixture
def cluster():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
    server.job, server.made, server.states, server.refuse = None, 0, ["", "", "Complete"], 0
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def api(cluster, tmp_path):
    (tmp_path / "namespace").write_text("robots\n")
    (tmp_path / "token").write_text("hush\n")
    return ClusterApi(f"http://127.0.0.1:{cluster.server_address[1]}", tmp_path)


def test_a_job_is_made_waited_for_and_removed(cluster, api):
    run_job(SPEC, api, poll_s=0.01)
    assert cluster.made == 1
    assert cluster.job is None


def test_the_manifest_says_what_was_asked():
    made = SPEC.manifest()
    trainer = made["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 8)
    assert trainer["resourcesPerNode"]["limits"] == {"nvidia.com/gpu": "8"}
    assert trainer["command"] + trainer["args"] == ["tendon", *SPEC.command]
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "robots"
    assert [entry["name"] for entry in trainer["env"] if "value" in entry] == ["TENDON_PIPELINE_ROOT"], (
        "secrets are references"
    )


@pytest.mark.parametrize("wrong", [{"nodes": 1}, {"gpus": "eight"}])
def test_nonsense_is_refused_before_the_cluster_is_asked(wrong):
    with pytest.raises(ConfigError):
        JobSpec(**{"name": "x", "image": "i", "command": (), "nodes": 2, **wrong}).manifest()


def test_a_second_attempt_takes_the_job_over(cluster, api):
    api.create(SPEC.manifest())
    run_job(SPEC, api, poll_s=0.01)
    assert cluster.made == 1


def test_a_failed_job_says_why_and_can_be_made_again(cluster, api):
    cluster.states = ["", "Failed"]
    with pytest.raises(TendonError, match="out of memory"):
        run_job(SPEC, api, poll_s=0.01)
    assert cluster.job is None


def test_told_to_stop_the_job_is_deleted_and_the_exit_code_is_75(cluster, api):
    cluster.states = [""]
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Interrupted):
        run_job(SPEC, api, poll_s=0.01)
    assert cluster.job is None


def test_refused_and_lost(cluster, api, monkeypatch):
    cluster.refuse = 403
    with pytest.raises(StorageError, match=r"rbac|rights"):
        run_job(SPEC, api, poll_s=0.01)
    cluster.refuse = 0
    monkeypatch.setattr(trainjob, "LOST_S", 0.05)
    cluster.states = [""]
    threading.Timer(0.1, lambda: setattr(cluster, "refuse", 500)).start()
    with pytest.raises(StorageError):
        run_job(SPEC, api, poll_s=0.01)


def test_outside_of_a_cluster_it_says_so(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="inside a cluster"):
        ClusterApi()


def test_gpus_that_training_would_not_use_are_refused(tmp_path, monkeypatch):
    from tendon import steps

    plan = steps.plan(
        source_uri="demo://reach?episodes=4&seed=1",
        store_uri=str(tmp_path),
        dataset_name="demos",
        config="experiment=reach_bc",
        sweep=[],
        episodes=2,
        confirm_episodes=2,
        champion="c",
        promote=False,
    )
    monkeypatch.setattr(trainjob, "run_job", lambda spec: pytest.fail("it must not start"))
    (outcome,) = steps.train_trials_on_nodes(
        run_uri=plan.run_uri, trials=plan.groups[0], dataset_uri=plan.dataset_uri, image="i", nodes=2, gpus="8"
    )
    assert json.loads(outcome)["status"] == "failed"
    assert "training.num_gpus=8" in json.loads(outcome)["error"]


def test_a_job_that_completes_without_a_finished_trial_is_no_reason_to_train_in_the_small_pod_that_waits(
    tmp_path, monkeypatch
):
    from tendon import steps

    plan = steps.plan(
        source_uri="demo://reach?episodes=4&seed=1", store_uri=str(tmp_path), dataset_name="demos",
        config="experiment=reach_bc", sweep=[], episodes=2, confirm_episodes=2, champion="c", promote=False,
    )  # fmt: skip
    monkeypatch.setattr(trainjob, "run_job", lambda spec: None)
    monkeypatch.setattr(steps, "train", lambda **given: pytest.fail("it must not train here"))
    (outcome,) = steps.train_trials_on_nodes(
        run_uri=plan.run_uri, trials=plan.groups[0], dataset_uri=plan.dataset_uri, image="i", nodes=2
    )
    assert "without a finished trial" in json.loads(outcome)["error"]


def test_nodes_reach_the_store_of_a_stock_install(monkeypatch):
    monkeypatch.setenv("TENDON_PIPELINE_ROOT", "minio://mlpipeline/v2/artifacts")
    manifest = JobSpec("tendon-1", "image", ("train",), 2).manifest()
    environment = {item["name"]: item for item in manifest["spec"]["trainer"]["env"]}
    assert environment["TENDON_PIPELINE_ROOT"]["value"] == "minio://mlpipeline/v2/artifacts"
    for name, key in (("TENDON_STOCK_ACCESS_KEY", "accesskey"), ("TENDON_STOCK_SECRET_KEY", "secretkey")):
        reference = environment[name]["valueFrom"]["secretKeyRef"]
        assert reference == {"name": "mlpipeline-minio-artifact", "key": key, "optional": True}
