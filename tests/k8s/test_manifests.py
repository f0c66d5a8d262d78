"""The manifests: what kustomize would make of them, held against Kubernetes' own schemas and against the pipelines."""

import copy
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from pipelines.resources import NOTIFY_SECRET, STORE_KEYS, STORE_SECRET, STORE_SETTINGS
from tendon.errors import EXIT_CODES
from tendon.train.distributed.trainjob import JobSpec

K8S = Path(__file__).resolve().parents[2] / "k8s"
FOLDERS = ("base", "schedule", "retries", "overlays/local", "overlays/gpu")
CUSTOM = ("kueue.x-k8s.io", "external-secrets.io")
CLUSTER_WIDE = ("Namespace", "ResourceFlavor", "ClusterQueue", "WorkloadPriorityClass")


def load(path):
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def built(folder):
    """The objects of a kustomization: the parts of kustomize that these use, and an error for any other."""
    (made,) = load(folder / "kustomization.yaml")
    known = {"apiVersion", "kind", "namespace", "resources", "patches", "configMapGenerator", "generatorOptions"}
    assert set(made) <= known, "teach this test about it"
    objects = []
    for resource in made["resources"]:
        path = (folder / resource).resolve()
        assert path.exists(), resource
        objects += built(path) if path.is_dir() else load(path)
    for patch in made.get("patches", ()):
        matched = [o for o in objects if (o["kind"], o["metadata"]["name"]) == tuple(patch["target"].values())]
        assert len(matched) == 1, patch["target"]
        for change in yaml.safe_load(patch["patch"]):
            *parents, last = (part.replace("~1", "/") for part in change["path"].strip("/").split("/"))
            at = matched[0]
            for part in parents:
                at = at[part]
            assert change["op"] == "add" or last in at, change
            at[last] = change["value"]
    for generator in made.get("configMapGenerator", ()):
        data = {name: (folder / name).read_text() for name in generator["files"]}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data})
    for one in objects:
        if one["kind"] not in CLUSTER_WIDE:
            one["metadata"]["namespace"] = made["namespace"]
    return copy.deepcopy(objects)


def of_kind(objects, kind):
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_object_fits_the_schema_of_its_kind(folder):
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate").validate
    objects = built(K8S / folder)
    assert objects
    for one in objects:
        if not one["apiVersion"].startswith(CUSTOM):
            validate(one, "1.31", strict=True)


def test_the_schema_checker_finds_a_typo():
    checker = pytest.importorskip("kubernetes_validate")
    job = of_kind(built(K8S / "schedule"), "CronJob")["tendon-retrain"]
    job["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(checker.ValidationError):
        checker.validate(job, "1.31", strict=True)


@pytest.mark.parametrize("path", sorted(K8S.rglob("*.yaml")), ids=lambda path: str(path.relative_to(K8S)))
def test_every_file_is_an_object_without_a_value_of_a_secret(path):
    for one in load(path):
        assert {"apiVersion", "kind"} <= set(one)
        if one["kind"] == "Secret":
            assert not any(one["stringData"].values())
    assert not re.search(r"AKIA[0-9A-Z]{16}", path.read_text())


def test_nothing_is_left_out_of_a_kustomization():
    for folder in map(K8S.joinpath, FOLDERS):
        (made,) = load(folder / "kustomization.yaml")
        there = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
        assert there == {name for name in made["resources"] if name.endswith(".yaml")}


def test_names_are_those_of_the_pipelines():
    examples = {one["metadata"]["name"]: one for one in load(K8S / "examples" / "secret.yaml")}
    assert set(examples) == {STORE_SECRET, NOTIFY_SECRET}
    assert set(examples[STORE_SECRET]["stringData"]) <= set(STORE_KEYS)
    for overlay in ("local", "gpu"):
        maps = of_kind(built(K8S / "overlays" / overlay), "ConfigMap")
        assert set(maps[STORE_SECRET]["data"]) <= set(STORE_SETTINGS)


def test_the_account_has_least_rights():
    objects = built(K8S / "base")
    rules = of_kind(objects, "Role")["tendon-runner"]["rules"]
    assert not of_kind(objects, "ClusterRole")
    for rule in rules:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert "secrets" not in rule["resources"]
    (jobs,) = [rule for rule in rules if "trainjobs" in rule["resources"]]
    assert jobs["apiGroups"] == [JobSpec("x", "i", (), 2).manifest()["apiVersion"].split("/")[0]]


def test_pods_of_the_schedule_are_locked_down():
    pod = of_kind(built(K8S / "schedule"), "CronJob")["tendon-retrain"]["spec"]["jobTemplate"]["spec"]["template"][
        "spec"
    ]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(
    ("status", "code", "again"),
    [("Error", "", True), ("Failed", "75", True), ("Failed", "137", True), ("Failed", "4", True)]
    + [("Failed", code, False) for code in ("1", "2", "3", "5", "6")],
)
def test_the_retry_rule_knows_an_interruption_from_a_typo(status, code, again):
    """Argo evaluates this with the expr language; for these operators Python reads it alike."""
    (made,) = load(K8S / "retries" / "workflow-controller.yaml")
    rule = yaml.safe_load(made["data"]["workflowDefaults"])["spec"]["templateDefaults"]["retryStrategy"]
    assert rule["retryPolicy"] == "Always"
    words = re.sub(r"lastRetry\.(\w+)", r"last['\1']", rule["expression"]).replace("||", " or ")
    assert eval(words, {}, {"last": {"status": status, "exitCode": code}}) is again
    assert not code or int(code) in {*EXIT_CODES, 137}


class Server(BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass

    def reply(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self):
        if "/versions" in self.path:
            assert "created_at%20desc" in self.path
            return self.reply({"pipeline_versions": [{"pipeline_version_id": "v9", "display_name": "new"}]})
        return self.reply({"pipelines": [{"pipeline_id": "p"}] if self.server.published else []})

    def do_POST(self):
        self.server.asked.append(
            (self.headers["Authorization"], json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        )
        self.reply({"run_id": "r1"})


@pytest.fixture
def server():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    made.published, made.asked = True, []
    threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
    yield made
    made.shutdown()


def test_the_schedule_starts_the_newest_version_with_its_arguments(server, tmp_path):
    (tmp_path / "token").write_text("hush\n")
    job = of_kind(built(K8S / "schedule"), "CronJob")["tendon-retrain"]
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]

    def start():
        environment = {
            **os.environ,
            "KF_PIPELINES_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
            "KF_PIPELINES_SA_TOKEN_PATH": str(tmp_path / "token"),
        }
        command = [sys.executable, str(K8S / "schedule" / "start_run.py"), *container["args"]]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)

    done = start()
    assert done.returncode == 0, done.stderr
    ((token, body),) = server.asked
    assert token == "Bearer hush"
    assert "hush" not in done.stdout + done.stderr
    assert body["pipeline_version_reference"] == {"pipeline_id": "p", "pipeline_version_id": "v9"}
    assert body["runtime_config"]["parameters"]["gate_champion"] == "default"
    server.published = False
    assert start().returncode == 2
