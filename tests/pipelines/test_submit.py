"""submit.py against a server that answers like the Kubeflow Pipelines API."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines import submit
from tendon.errors import ConfigError

API = "/apis/v2beta1"


class Kubeflow(ThreadingHTTPServer):
    """Keeps what was submitted; runs go through ``states``."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.states = ["PENDING", "RUNNING", "SUCCEEDED"]
        self.submitted = []
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

    def do_GET(self):
        if self.path.startswith(f"{API}/runs/"):
            state = self.server.states.pop(0) if len(self.server.states) > 1 else self.server.states[0]
            self.answer({"run_id": "r7", "state": state})
        elif self.path.startswith(f"{API}/experiments"):
            self.answer({"experiments": [{"experiment_id": "e1", "display_name": "tendon"}]})
        else:
            self.answer({"multi_user": False})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.refuse:
            self.answer({"error": "you shall not pass"}, self.server.refuse)
        elif self.path.startswith(f"{API}/runs"):
            self.server.submitted.append(body)
            self.answer({"run_id": "r7", "display_name": body["display_name"], "state": "PENDING"})
        else:
            self.answer({"experiment_id": "e1"})


@pytest.fixture
def kubeflow(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    server = Kubeflow()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()


def run(kubeflow, *words, host=None):
    with pytest.raises(SystemExit) as left:
        raise SystemExit(submit.main(["submit", "--host", host or kubeflow.url, "--poll", "0.01", *words]))
    return left.value.code


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
    assert sent["pipeline_spec"]["pipelineInfo"]["name"] == "policy-pipeline"
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
