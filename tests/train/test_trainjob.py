"""A TrainJob against an API server that answers like Kubernetes': making, waiting, ending."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from tendon.errors import ConfigError, Interrupted
from tendon.train.distributed import trainjob
from tendon.train.distributed.cluster_api import ClusterApi
from tendon.train.distributed.job_spec import JobSpec
from tendon.train.distributed.trainjob import run_job
from tests.train.fake_cluster import Cluster, PodEnd

SPEC = JobSpec(
    "tendon-k0", "image:1", ("--run-uri", "s3://b/r", "--trial", "t0"), 2, "8", queue="robots", processes=8, memory="4Gi",
    cpu="2",
)  # fmt: skip


@pytest.fixture
def cluster():
    server = Cluster().serve()
    yield server
    server.close()


@pytest.fixture
def api(cluster, tmp_path):
    return ClusterApi(cluster.address, cluster.account(tmp_path / "account"))


@pytest.fixture
def spec(tmp_path):
    return replace(SPEC, trial_uri=str(tmp_path / "trial"), queue="")


@pytest.fixture
def finished(monkeypatch):
    """Whether the store has the finished trial."""
    state = {"is": False}
    monkeypatch.setattr(trainjob, "find_finished", lambda uri: object() if state["is"] else None)
    return state


def test_a_job_is_made_waited_for_and_removed(cluster, api, spec):
    run_job(spec, api, poll_s=0.01)
    assert cluster.made == 1
    assert not cluster.jobs
    assert not cluster.pods


def test_the_manifest_says_what_was_asked():
    made = SPEC.manifest()
    trainer = made["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 8)
    assert trainer["resourcesPerNode"] == {
        "requests": {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "8"},
        "limits": {"memory": "4Gi", "nvidia.com/gpu": "8"},
    }
    assert trainer["args"] == list(SPEC.arguments)
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "robots"
    assert [entry["name"] for entry in trainer["env"] if "value" in entry] == ["TENDON_PIPELINE_ROOT"], (
        "secrets are references"
    )


@pytest.mark.parametrize("wrong", [{"nodes": 1}, {"gpus": "eight"}])
def test_nonsense_is_refused_before_the_cluster_is_asked(wrong):
    with pytest.raises(ConfigError):
        JobSpec(**{"name": "x", "image": "i", "arguments": (), "nodes": 2, **wrong}).manifest()


def test_a_second_attempt_takes_the_job_over(cluster, api, spec):
    api.create(spec.manifest())
    run_job(spec, api, poll_s=0.01)
    assert cluster.made == 1


def test_a_failed_job_can_be_made_again(cluster, api, spec):
    cluster.ends = lambda index, attempt: PodEnd(2, "")
    with pytest.raises(ConfigError, match="exit code 2"):
        run_job(spec, api, poll_s=0.01)
    assert not cluster.jobs
    cluster.ends = lambda index, attempt: PodEnd()
    run_job(spec, api, poll_s=0.01)
    assert cluster.made == 2


def test_told_to_stop_the_job_is_deleted_and_the_exit_code_is_75(cluster, api, spec):
    cluster.ends = lambda index, attempt: PodEnd(after_s=60)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Interrupted, match="the job was deleted"):
        run_job(spec, api, poll_s=0.05)
    assert not cluster.jobs
    assert not cluster.pods, "it stays until they are gone"


def test_gpu_hours_of_all_nodes_count_while_their_pods_run_and_end_the_job(cluster, api, planned, monkeypatch):
    """Two nodes of a GPU each: the trial is stopped, told with what was taken, and the job is gone."""
    from tendon.runs.budget import HOUR, RunBudget, spent_gpu_s
    from tendon.runs.plan import load_plan, save_plan

    run = load_plan(planned.run_uri)
    save_plan(replace(run, budget=RunBudget(gpu_hours=1 / HOUR)))
    cluster.ends = lambda index, attempt: PodEnd(after_s=60)
    monkeypatch.setattr(trainjob, "ClusterApi", lambda: api)
    monkeypatch.setattr(trainjob.run_job, "__kwdefaults__", trainjob.run_job.__kwdefaults__ | {"poll_s": 0.05})
    outcome = on_nodes(planned, gpus="1", memory="4Gi")
    assert (outcome["status"], outcome["failed_step"]) == ("stopped", "budget")
    assert not cluster.jobs
    assert 1 <= spent_gpu_s(run.run_uri) < 30
    made = cluster.made
    assert on_nodes(planned, gpus="1", memory="4Gi")["status"] == "stopped"
    assert cluster.made == made, "a budget that is spent begins no job"


def test_outside_of_a_cluster_it_says_so(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="inside a cluster"):
        ClusterApi()


@pytest.fixture
def planned(tmp_path):
    from tendon import steps

    return steps.plan(
        source_uri="demo://reach?episodes=4&seed=1", store_uri=str(tmp_path / "store"), dataset_name="demos",
        config="experiment=reach_bc", sweep=[], episodes=2, confirm_episodes=2, champion="c", promote=False,
    )  # fmt: skip


def on_nodes(plan, **given):
    from tendon import steps

    given = {"image": "i", "nodes": 2, "gpus": "0"} | given
    (outcome,) = steps.train_trials_on_nodes(
        run_uri=plan.run_uri, trials=plan.groups[0], dataset_uri=plan.dataset_uri, **given
    )
    return json.loads(outcome)


def test_gpus_that_training_would_not_use_are_refused(planned, monkeypatch):
    monkeypatch.setattr(trainjob, "run_job", lambda *words, **names: pytest.fail("it must not start"))
    outcome = on_nodes(planned, gpus="8")
    assert outcome["status"] == "failed"
    assert "training.num_gpus=8" in outcome["error"]


def test_a_job_that_completes_without_a_finished_trial_is_no_reason_to_train_in_the_small_pod_that_waits(
    planned, monkeypatch
):
    from tendon import steps

    monkeypatch.setattr(trainjob, "run_job", lambda *words, **names: None)
    monkeypatch.setattr(steps, "train", lambda **given: pytest.fail("it must not train here"))
    assert "without a finished trial" in on_nodes(planned)["error"]


def test_nodes_reach_the_store_of_a_stock_install(monkeypatch):
    monkeypatch.setenv("TENDON_PIPELINE_ROOT", "minio://mlpipeline/v2/artifacts")
    manifest = replace(SPEC, gpus="0").manifest()
    environment = {item["name"]: item for item in manifest["spec"]["trainer"]["env"]}
    assert environment["TENDON_PIPELINE_ROOT"]["value"] == "minio://mlpipeline/v2/artifacts"
    for name, key in (("TENDON_STOCK_ACCESS_KEY", "accesskey"), ("TENDON_STOCK_SECRET_KEY", "secretkey")):
        reference = environment[name]["valueFrom"]["secretKeyRef"]
        assert reference == {"name": "mlpipeline-minio-artifact", "key": key, "optional": True}


def test_a_step_that_waits_imports_no_torch():
    """It asks for 128 MiB."""
    words = "import sys, tendon.steps, tendon.train.distributed.trainjob as t; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
