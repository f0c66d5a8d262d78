"""A Kubeflow Pipelines API over HTTP that answers as version 2.17.0 did: words, shapes and refusals as they were recorded.

Listings give one item a page. A run moves on by one state at each look. What the engine does to runs is done here too:
a terminated one ends FAILED, and deleting a recurring run kills the run that it started.
"""

import json
import re
import threading
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from pipelines import submit

RECORDED = json.loads(Path(__file__).with_name("recorded_kfp_api.json").read_text(encoding="utf-8"))
API = "/apis/v2beta1"
ENDED = ("SUCCEEDED", "FAILED")
GRPC = {3: 400, 5: 404, 16: 401}


def recorded_error(start):
    """The body of an error, by the beginning of its name in the recording."""
    return next(body for name, body in RECORDED["errors"].items() if name.startswith(start))


class Kubeflow(ThreadingHTTPServer):
    """Keeps what was submitted, published and scheduled."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.multi_user = False
        self.token = ""  # what a caller has to show
        self.script = ["PENDING", "RUNNING", "SUCCEEDED"]  # what a new run goes through
        self.on_submit = None  # called with each new run
        self.on_look = None  # called with each run that is looked at
        self.refuse_connections = 0  # so many requests get no answer
        self.runs = {}
        self.coming = {}  # run id to the states that it will have
        self.submitted = []  # bodies, as they came
        self.terminated = []
        self.killed = []
        self.experiments = {}
        self.pipelines = {}
        self.versions = []
        self.schedules = []
        self.refuse = {}  # path to (status, body)
        self.log = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add_run(self, run_id="r7", states=("RUNNING",), **fields):
        now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
        run = {"run_id": run_id, "display_name": run_id, "storage_state": "AVAILABLE", "created_at": now}
        self.runs[run_id] = run | {"state": "PENDING", "state_history": [], "run_details": {}} | fields
        self.coming[run_id] = list(states)
        self.move(run_id)
        return self.runs[run_id]

    def add_recorded(self, name, **fields):
        """A run as a real cluster told it, by its name in the recording."""
        run = {**RECORDED["runs"][name], **fields}
        self.runs[run["run_id"]], self.coming[run["run_id"]] = run, [run["state"]]
        return run

    def move(self, run_id):
        coming, run = self.coming[run_id], self.runs[run_id]
        state = coming.pop(0) if len(coming) > 1 else coming[0]
        if state != run["state"] or not run["state_history"]:
            run["state_history"] = [*run["state_history"], {"update_time": "2026-11-29T02:41:28Z", "state": state}]
        run["state"] = state

    def serve(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self


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

    def error(self, start):
        body = recorded_error(start)
        self.answer(body, GRPC[body["code"]])

    def paged(self, name, items):
        at = int(self.query.get("page_token", "0") or 0)
        more = {"next_page_token": str(at + 1)} if at + 1 < len(items) else {}
        self.answer({name: items[at : at + 1], "total_size": len(items), **more})

    def handle_one(self, act):
        address = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(address.query).items()}
        raw = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = address.path.removeprefix(API)
        self.server.log.append(f"{self.command} {path}")
        if self.server.refuse_connections:
            self.server.refuse_connections -= 1
            self.close_connection = True
            return None
        for refused, (status, body) in self.server.refuse.items():
            if f"{self.command} {path}".startswith(refused):
                return self.answer(body, status)
        if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            return self.error("no identity")
        return act(path, raw)

    def do_GET(self):
        self.handle_one(self.get)

    def do_POST(self):
        self.handle_one(self.post)

    def do_DELETE(self):
        self.handle_one(self.delete)

    def get(self, path, _):
        server = self.server
        if path == "/healthz":
            return self.answer({"multi_user": server.multi_user, "pipeline_store": "database"})
        if path == "/runs":
            if server.multi_user and not self.query.get("namespace") and not self.query.get("experiment_id"):
                return self.error("list without a namespace")
            runs = sorted(server.runs.values(), key=lambda run: run["created_at"], reverse=True)
            wanted = self.query.get("experiment_id")
            return self.paged("runs", [run for run in runs if not wanted or run.get("experiment_id") == wanted])
        if path.startswith("/runs/"):
            run_id = path.rpartition("/")[2]
            if run_id not in server.runs:
                return self.error("GET run that does not exist")
            if server.on_look:
                server.on_look(server.runs[run_id])
            server.move(run_id)
            return self.answer(server.runs[run_id])
        if path == "/experiments":
            named = re.search(r'"(?:string_value|stringValue)": *"([^"]*)"', self.query.get("filter", ""))
            found = [
                one
                for one in server.experiments.values()
                if (not named or one["display_name"] == named[1])
                and (not server.multi_user or one.get("namespace") == self.query.get("namespace"))
            ]
            return self.answer({"experiments": found, "total_size": len(found)})
        if path.endswith("/versions"):
            return self.paged("pipeline_versions", server.versions)
        if path == "/pipelines":
            return self.answer({"pipelines": list(server.pipelines.values()), "total_size": len(server.pipelines)})
        if path == "/recurringruns":
            return self.paged("recurringRuns", server.schedules)
        return self.answer({"code": 5, "message": f"no {path}"}, 404)

    def post(self, path, raw):
        server = self.server
        if path.endswith(":terminate"):
            return self.terminate(path.split("/")[-1].partition(":")[0])
        if path.startswith("/recurringruns/"):
            identifier, _, verb = path.rpartition("/")[2].partition(":")
            (one,) = [one for one in server.schedules if one["recurring_run_id"] == identifier]
            one |= {"mode": verb.upper(), "status": f"{verb.upper()}D"}
            return self.answer({})
        if path.endswith("/upload_version"):
            version = {"pipeline_version_id": f"v{len(server.versions)}", "display_name": self.query["name"]}
            version |= {"pipeline_id": self.query["pipelineid"], "description": self.query.get("description", "")}
            server.versions.append(version | {"yaml": raw.decode(errors="replace")})
            return self.answer(version)
        body = json.loads(raw or b"{}")
        if path == "/experiments":
            made = body | {"experiment_id": f"e{len(server.experiments)}"}
            server.experiments[made["experiment_id"]] = made
            return self.answer(made)
        if path == "/pipelines":
            server.pipelines["p1"] = body | {"pipeline_id": "p1"}
            return self.answer(server.pipelines["p1"])
        if path == "/recurringruns":
            made = body | {"recurring_run_id": f"s{len(server.log)}", "namespace": "kubeflow"}
            server.schedules.append(made | {"status": f"{body['mode']}D"})
            return self.answer(server.schedules[-1])
        if server.multi_user and body.get("experiment_id") not in server.experiments:
            return self.error("create a run without an experiment")
        server.submitted.append(body)
        run = server.add_run(f"r{len(server.submitted)}", list(server.script), **body)
        if server.on_submit:
            server.on_submit(run)
        return self.answer(run)

    def terminate(self, run_id):
        run = self.server.runs[run_id]
        if run["state"] in (*ENDED, "CANCELING"):
            return self.error("terminate a run that is CANCELING")
        self.server.terminated.append(run_id)
        self.server.coming[run_id] = ["CANCELING", "CANCELING", "FAILED"]
        self.server.move(run_id)
        return self.answer({})

    def delete(self, path, _):
        identifier = path.rpartition("/")[2]
        server = self.server
        server.schedules = [one for one in server.schedules if one["recurring_run_id"] != identifier]
        for run in server.runs.values():
            if run.get("recurring_run_id") == identifier and run["state"] not in ENDED:
                server.killed.append(run["run_id"])
        self.answer({})


def do(kubeflow, verb, *words, host=None):
    """The exit code of a command line."""
    try:
        return submit.main([verb, "--host", host or kubeflow.url, *words])
    except SystemExit as left:
        return left.code


def run(kubeflow, *words, host=None):
    """The exit code of ``submit.py submit``."""
    return do(kubeflow, "submit", "--poll", "0.01", *words, host=host)
