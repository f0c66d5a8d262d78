"""submit.py against a server that answers like the Kubeflow Pipelines API."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from pipelines import submit
from tendon.errors import ConfigError

API = "/apis/v2beta1"


class Kubeflow(ThreadingHTTPServer):
    """Keeps what was submitted, published and scheduled; runs go through ``states``."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.states = ["PENDING", "RUNNING", "SUCCEEDED"]
        self.submitted = []
        self.terminated = []
        self.pipelines = {}  # id to name
        self.versions = []
        self.schedules = []
        self.refuse = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass

    def answer(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def paged(self, name, items):
        """One item per page, so that whoever reads the first page only is found out."""
        asked = parse_qs(urlsplit(self.path).query)
        at = int(asked.get("page_token", ["0"])[0] or 0)
        more = {"next_page_token": str(at + 1)} if at + 1 < len(items) else {}
        self.answer({name: items[at : at + 1], "total_size": len(items), **more})

    def do_GET(self):
        path = urlsplit(self.path).path
        if path.startswith(f"{API}/runs/"):
            state = self.server.states.pop(0) if len(self.server.states) > 1 else self.server.states[0]
            self.answer({"run_id": "r7", "state": state})
        elif path.startswith(f"{API}/experiments"):
            self.answer({"experiments": [{"experiment_id": "e1", "display_name": "tendon"}]})
        elif path.endswith("/versions"):
            self.paged("pipeline_versions", self.server.versions)
        elif path == f"{API}/pipelines":
            found = [{"pipeline_id": k, "display_name": v, "name": v} for k, v in self.server.pipelines.items()]
            self.answer({"pipelines": found, "total_size": len(found)})
        elif path == f"{API}/recurringruns":
            self.paged("recurringRuns", self.server.schedules)
        else:
            self.answer({"multi_user": False})

    def do_DELETE(self):
        name = urlsplit(self.path).path.rpartition("/")[2]
        self.server.schedules = [one for one in self.server.schedules if one["recurring_run_id"] != name]
        self.answer({})

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path, asked = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if self.server.refuse:
            return self.answer({"error": "you shall not pass"}, self.server.refuse)
        if path.endswith(":terminate"):
            self.server.terminated.append(path.split("/")[-1].partition(":")[0])
            return self.answer({})
        if path.endswith("/upload_version"):
            version = {"pipeline_version_id": f"v{len(self.server.versions)}", "display_name": asked["name"][0]}
            self.server.versions.append(version | {"pipeline_id": asked["pipelineid"][0]})
            return self.answer(self.server.versions[-1])
        body = json.loads(raw)
        if path == f"{API}/pipelines":
            self.server.pipelines["p1"] = body["display_name"]
            return self.answer({"pipeline_id": "p1", "display_name": body["display_name"]})
        if path == f"{API}/recurringruns":
            self.server.schedules.append(body | {"recurring_run_id": f"s{len(self.server.schedules)}"})
            return self.answer(self.server.schedules[-1])
        if path.startswith(f"{API}/runs"):
            self.server.submitted.append(body)
            return self.answer({"run_id": "r7", "display_name": body["display_name"], "state": "PENDING"})
        return self.answer({"experiment_id": "e1"})


@pytest.fixture
def kubeflow(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    server = Kubeflow()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()


def do(kubeflow, verb, *words, host=None):
    with pytest.raises(SystemExit) as left:
        raise SystemExit(submit.main([verb, "--host", host or kubeflow.url, *words]))
    return left.value.code


def run(kubeflow, *words, host=None):
    return do(kubeflow, "submit", "--poll", "0.01", *words, host=host)


def test_a_run_is_submitted_with_typed_arguments_and_waited_for(kubeflow, capfd):
    sweep = '[{"key": "training.lr", "name": "lr", "group": 0, "values": [0.1, 0.01]}]'
    assert run(kubeflow, "episodes=100", "promote=true", "dataset_name=5", f"sweep={sweep}") == 0
    (sent,) = kubeflow.submitted
    assert sent["runtime_config"]["parameters"] == {
        "episodes": 100,
        "promote": True,
        "dataset_name": "5",
        "sweep": json.loads(sweep),
    }
    assert sent["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "policy-pipeline"
    out = capfd.readouterr().out
    assert f"{kubeflow.url}/#/runs/details/r7" in out
    assert "SUCCEEDED" in out


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_a_run_that_ends_badly_has_an_exit_code(kubeflow, capfd, state):
    kubeflow.states = ["RUNNING", state]
    assert run(kubeflow) == 1
    err = capfd.readouterr().err
    assert f"error: the run ended as {state}" in err
    assert "fix:" in err


def test_waiting_ends_but_the_run_goes_on(kubeflow, capfd):
    kubeflow.states = ["RUNNING"]
    assert run(kubeflow, "--timeout", "0.05") == 75


def test_refused_and_unreachable_say_so_without_a_secret(kubeflow, capfd, monkeypatch):
    monkeypatch.setenv(submit.TOKEN, "hush-hush")
    kubeflow.refuse = 401
    assert run(kubeflow) == 4
    assert run(kubeflow, host="http://127.0.0.1:9") == 4
    err = capfd.readouterr().err
    assert submit.TOKEN in err
    assert "hush-hush" not in err
    assert err.count("error:") == 2


def test_wrong_arguments_are_all_named_before_anything_is_sent(kubeflow, capfd):
    assert run(kubeflow, "episods=3", "promote=maybe", "episodes=2.5", "sweep={}") == 2
    err = capfd.readouterr().err
    assert err.count("error:") == 4
    assert "did you mean episodes=...?" in err
    assert kubeflow.submitted == []


def test_words_that_are_no_arguments_are_refused():
    with pytest.raises(ConfigError):
        submit.typed(["episodes"])


def test_another_pipeline_has_another_form(kubeflow, capfd):
    assert run(kubeflow, "--pipeline", "retrain", "force=true", 'node_selector={"pool": "gpu"}') == 0
    (sent,) = kubeflow.submitted
    assert sent["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "retrain-pipeline"
    assert sent["runtime_config"]["parameters"] == {"force": True, "node_selector": {"pool": "gpu"}}
    assert run(kubeflow, "--pipeline", "retrain", "promote=true") == 2
    assert run(kubeflow, "--pipeline", "nothing.yaml") == 2


def test_a_version_is_published_once(kubeflow, capfd, tmp_path):
    kubeflow.versions.append({"pipeline_version_id": "v", "display_name": "somebody else's", "pipeline_id": "p1"})
    assert do(kubeflow, "publish") == 0
    assert do(kubeflow, "publish") == 0
    assert [version["pipeline_id"] for version in kubeflow.versions] == ["p1", "p1"]
    assert list(kubeflow.pipelines.values()) == ["policy-pipeline"]
    assert "there already" in capfd.readouterr().out
    changed = tmp_path / "changed.yaml"
    changed.write_text((submit.COMPILED / "policy_pipeline.yaml").read_text() + "# changed\n")
    assert do(kubeflow, "publish", "--pipeline", str(changed)) == 0
    names = [version["display_name"] for version in kubeflow.versions[1:]]
    assert len(set(names)) == 2


def test_a_schedule_exists_once_enabled_and_with_typed_arguments(kubeflow, capfd):
    other = {"recurring_run_id": "o", "display_name": "other", "description": "x"}
    kubeflow.schedules.append(other)
    words = ["episodes=100", "force=false", "store_uri=s3://b/x"]
    assert do(kubeflow, "schedule", *words) == 0
    assert do(kubeflow, "schedule", *words) == 0
    (mine,) = [one for one in kubeflow.schedules if one["display_name"] == "tendon-retrain"]
    assert mine["runtime_config"]["parameters"] == {"episodes": 100, "force": False, "store_uri": "s3://b/x"}
    assert mine["mode"] == "ENABLE"
    assert mine["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert mine["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "retrain-pipeline"
    assert "there already" in capfd.readouterr().out
    assert do(kubeflow, "schedule", "episodes=200", *words[1:]) == 0
    (mine,) = [one for one in kubeflow.schedules if one["display_name"] == "tendon-retrain"]
    assert mine["runtime_config"]["parameters"]["episodes"] == 200
    assert other in kubeflow.schedules
    assert do(kubeflow, "schedule", "--cron", "0 3 * * *") == 2


def test_watch_and_cancel(kubeflow, capfd):
    kubeflow.states = ["RUNNING", "FAILED"]
    assert do(kubeflow, "watch", "r7", "--poll", "0.01") == 1
    kubeflow.states = ["RUNNING"]
    assert do(kubeflow, "cancel", "r7") == 0
    assert kubeflow.terminated == ["r7"]
    kubeflow.states = ["SUCCEEDED"]
    assert do(kubeflow, "cancel", "r7") == 0
    assert kubeflow.terminated == ["r7"]
    assert f"{kubeflow.url}/#/runs/details/r7" in capfd.readouterr().out


def test_the_workflow_that_retrains_uses_words_that_exist():
    workflow = yaml.safe_load((submit.ROOT / ".github" / "workflows" / "retrain.yml").read_text(encoding="utf-8"))
    assert {"schedule", "workflow_dispatch"} <= set(workflow[True])  # YAML reads `on` as true
    commands = "\n".join(step.get("run", "") for step in workflow["jobs"]["retrain"]["steps"])
    fields = submit.Form.of("retrain").fields
    keys = set(re.findall(r'"(\w+)=\$', commands))
    assert keys == {"source_uri", "store_uri", "config", "force"}
    assert keys <= set(fields)
    assert "secrets." not in commands
    (line,) = [line for line in commands.replace("\\\n", " ").splitlines() if "submit.py submit" in line]
    options = submit._parser().parse_args(line.split("submit.py ")[1].split("${SOURCE")[0].replace('"', "").split())
    assert options.pipeline == "retrain"
