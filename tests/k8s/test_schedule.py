"""The CronJob's script against an API server that answers as a real one was recorded, in both kinds of install."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from pipelines.parameters import OLD_NAMES, PIPELINES
from pipelines.resources import STORE_SECRET
from tests.k8s.rendering import K8S, OVERLAYS, of_kind, rendered
from tests.pipelines.fake_kfp import ENDED, Handler, Kubeflow

SCRIPT = K8S / "schedule" / "start_run.py"
COMPILED = K8S.parent / "pipelines" / "compiled" / "retrain_pipeline.yaml"
TOKEN = "hush-hush"


class WithPipelines(Handler):
    """What the client's tests do not ask: pipelines by namespace and name, versions sorted, one of them by its id."""

    def get(self, path, raw):
        server = self.server
        if path == "/pipelines":
            name = json.loads(self.query["filter"])["predicates"][0]["string_value"]
            found = [one for one in server.pipelines.values() if one["display_name"] == name]
            found = [one for one in found if one.get("namespace", "") == self.query.get("namespace", "")]
            return self.answer({"pipelines": found} if found else {})
        if path.endswith("/versions"):
            order, _, down = self.query.get("sort_by", "created_at").partition(" ")
            return self.paged(
                "pipeline_versions", sorted(server.versions, key=lambda one: one[order], reverse=down == "desc")
            )
        if "/versions/" in path:
            return self.answer(server.whole_versions[path.rpartition("/")[2]])
        return super().get(path, raw)


@pytest.fixture(scope="module")
def retrain():
    """The published pipeline as the API tells it: a YAML of two documents comes as two fields."""
    spec, platform = yaml.load_all(COMPILED.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {"pipeline_spec": spec, "platform_spec": platform}


@pytest.fixture
def kubeflow(retrain):
    server = Kubeflow().serve()
    server.RequestHandlerClass = WithPipelines
    server.pipelines = {"p1": {"pipeline_id": "p1", "display_name": "retrain-pipeline"}}
    older = {"pipeline_version_id": "v8", "pipeline_id": "p1", "display_name": "old", "created_at": "2026-01-01"}
    newer = {"pipeline_version_id": "v9", "pipeline_id": "p1", "display_name": "new", "created_at": "2026-02-01"}
    server.versions = [older | {"pipeline_spec": {}}, newer | {"pipeline_spec": retrain}]
    server.script = ["RUNNING"]
    yield server
    server.shutdown()
    server.server_close()


def container():
    template = of_kind(rendered("schedule"), "CronJob")["tendon-retrain"]["spec"]["jobTemplate"]["spec"]["template"]
    (only,) = template["spec"]["containers"]
    return only


@pytest.fixture
def start(kubeflow, tmp_path):
    """Runs the script with the environment of the CronJob's pod, against this server; the arguments too, unless given."""

    def start(*words, namespace="robots", token=TOKEN, **settings):
        (tmp_path / "token").write_text(f"{token}\n")
        manifest = {one["name"]: one.get("value", namespace) for one in container()["env"]}
        mine = {"KF_PIPELINES_ENDPOINT": f"{kubeflow.url}/", "KF_PIPELINES_SA_TOKEN_PATH": str(tmp_path / "token")}
        command = [sys.executable, str(SCRIPT), *(words or container()["args"])]
        environment = {"PATH": os.environ["PATH"]} | manifest | mine | settings
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert TOKEN not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return start


@pytest.mark.parametrize("multi_user", [False, True])
def test_the_cron_job_as_it_is_starts_the_newest_version(kubeflow, start, multi_user):
    """Without an experiment a multi-user install says "Experiment id can not be empty in multi-user mode"."""
    kubeflow.multi_user, kubeflow.token = multi_user, TOKEN
    done = start()
    assert done.returncode == 0, done.stderr
    (body,) = kubeflow.submitted
    assert body["pipeline_version_reference"] == {"pipeline_id": "p1", "pipeline_version_id": "v9"}
    assert body["runtime_config"]["parameters"] == {
        "data_source_uri": "s3://BUCKET/demonstrations.hdf5",
        "data_store_uri": "s3://BUCKET/tendon",
        "gate_champion": "default",
    }
    assert body["service_account"] == "tendon-runner"
    experiment = kubeflow.experiments[body["experiment_id"]]
    assert experiment["display_name"] == "tendon"
    assert experiment.get("namespace") == ("robots" if multi_user else None)
    assert "run r1 of version new" in done.stdout


def test_the_experiment_of_another_namespace_is_not_taken(kubeflow, start):
    kubeflow.multi_user = True
    kubeflow.experiments["e9"] = {"experiment_id": "e9", "display_name": "tendon", "namespace": "strangers"}
    kubeflow.experiments["e5"] = {"experiment_id": "e5", "display_name": "tendon", "namespace": "robots"}
    assert start().returncode == 0
    assert kubeflow.submitted[0]["experiment_id"] == "e5"
    assert len(kubeflow.experiments) == 2


def test_a_multi_user_install_wants_a_namespace(kubeflow, start):
    kubeflow.multi_user = True
    done = start(namespace="")
    assert done.returncode == 2
    assert "no namespace is named" in done.stderr


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("evaluate_episodes=100", 100),
        ("data_force=true", True),
        ('policy_sweep=[{"key": "training.lr", "values": [0.1]}]', [{"key": "training.lr", "values": [0.1]}]),
        ('cluster_node_selector={"pool": "gpu"}', {"pool": "gpu"}),
        ("cluster_gpu_count=1", "1"),
        ("policy_config=experiment=reach_bc training.lr=0.1", "experiment=reach_bc training.lr=0.1"),
    ],
)
def test_parameters_have_the_types_of_the_form(kubeflow, start, word, value):
    assert start(word).returncode == 0
    (sent,) = kubeflow.submitted[0]["runtime_config"]["parameters"].values()
    assert sent == value
    assert type(sent) is type(value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["evaluate_episodes=many"], "evaluate_episodes=many is not a whole number"),
        (["evaluate_episodes=1.5"], "a whole number"),
        (["data_force=yes"], "true or false"),
        (["policy_sweep={}"], "a JSON list"),
        (["data_name=a", "data_name=b"], "data_name is given twice"),
        (["data_sorce_uri=x"], "did you mean data_source_uri=...?"),
        (["data_name"], "NAME=VALUE"),
        (["zzz=1"], "one of budget_"),
    ],
)
def test_wrong_parameters_start_nothing(kubeflow, start, words, told):
    done = start(*words)
    assert done.returncode == 2
    assert told in done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "where", "why", "fix"]
    assert not kubeflow.submitted


@pytest.mark.parametrize("old", [old for old, new in OLD_NAMES.items() if new in PIPELINES["retrain_pipeline"]])
def test_an_old_name_is_refused_with_the_new_one(start, old):
    assert f"did you mean {OLD_NAMES[old]}=...?" in start(f"{old}=x").stderr


def test_one_run_at_a_time(kubeflow, start):
    assert start().returncode == 0
    kubeflow.add_run("other", experiment_id="e0", description="by hand")
    again = start()
    assert again.returncode == 0
    assert "run r1 of an earlier call goes on: nothing was started" in again.stdout
    assert len(kubeflow.submitted) == 1
    kubeflow.runs["r1"]["state"] = ENDED[0]
    assert start().returncode == 0
    assert len(kubeflow.submitted) == 2


def test_a_run_that_died_without_a_word_does_not_stop_the_schedule(kubeflow, start):
    """A run whose owner was deleted stays RUNNING for good."""
    assert start().returncode == 0
    kubeflow.runs["r1"]["created_at"] = "2020-01-01T00:00:00Z"
    assert start().returncode == 0
    assert len(kubeflow.submitted) == 2


def test_a_pipeline_of_the_namespace_comes_before_the_shared_one(kubeflow, start):
    kubeflow.multi_user = True
    assert start().returncode == 0, "the shared one"
    kubeflow.pipelines["p2"] = {"pipeline_id": "p2", "display_name": "retrain-pipeline", "namespace": "robots"}
    kubeflow.runs.clear()
    assert start().returncode == 0
    assert "GET /pipelines/p2/versions" in kubeflow.log


def test_a_listing_without_the_form_is_asked_for_it(kubeflow, start, retrain):
    short = {key: value for key, value in kubeflow.versions[1].items() if key != "pipeline_spec"}
    kubeflow.whole_versions = {"v9": short | {"pipeline_spec": retrain["pipeline_spec"]}}
    kubeflow.versions = [short]
    assert start("evaluate_episodes=7").returncode == 0
    assert kubeflow.submitted[0]["runtime_config"]["parameters"] == {"evaluate_episodes": 7}


def test_a_pipeline_that_nobody_published(kubeflow, start):
    kubeflow.pipelines = {}
    done = start()
    assert done.returncode == 2
    assert "submit.py publish --pipeline retrain" in done.stderr


def test_refusals_are_told_in_four_lines(kubeflow, start):
    kubeflow.token = "another"
    done = start()
    assert done.returncode == 4
    assert "HTTP 401: Failed to list runs: ... Unauthenticated" in done.stderr
    assert "k8s/overlays/profile" in done.stderr
    kubeflow.token = ""
    missing = {"code": 13, "message": "error looking up service account kubeflow/tendon-runner"}
    kubeflow.refuse["POST /runs"] = (500, missing)
    done = start()
    assert done.returncode == 4
    assert "apply an overlay" in done.stderr


def test_a_server_that_is_not_there(start):
    done = start(KF_PIPELINES_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 4
    assert "Kubeflow cannot be reached" in done.stderr


def test_the_pod_has_what_the_script_reads():
    job = of_kind(rendered("schedule", "robots"), "CronJob")["tendon-retrain"]["spec"]["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    variables = {one["name"]: one for one in container()["env"]}
    assert variables["NAMESPACE"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    mounts = {one["name"]: one["mountPath"] for one in container()["volumeMounts"]}
    (source,) = next(one["projected"]["sources"] for one in pod["volumes"] if "projected" in one)
    token = source["serviceAccountToken"]
    assert token["audience"] == "pipelines.kubeflow.org"
    assert variables["KF_PIPELINES_SA_TOKEN_PATH"]["value"] == f"{mounts['token']}/{token['path']}"
    assert container()["command"][1].startswith(mounts["script"])
    assert "start_run.py" in of_kind(rendered("schedule"), "ConfigMap")["tendon-retrain"]["data"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"] == {"containerName": "start", "operator": "In", "values": [2]}


def test_the_accounts_of_the_schedule_are_made_by_every_overlay():
    pod = of_kind(rendered("schedule"), "CronJob")["tendon-retrain"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    run_as = {one["name"]: one.get("value") for one in container()["env"]}["SERVICE_ACCOUNT"]
    assert not pod["automountServiceAccountToken"]
    assert STORE_SECRET not in yaml.safe_dump(pod), "it starts a run and reads nothing of the store"
    for overlay in OVERLAYS:
        accounts = of_kind(rendered(f"overlays/{overlay}"), "ServiceAccount")
        assert {pod["serviceAccountName"], run_as} <= set(accounts)
