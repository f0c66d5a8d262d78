"""What KFP's launcher does to a component, done here to every one of them with the real steps and a real S3 server.

The launcher makes folders, fills ``{{$}}`` with an executor input, runs the container's command, reads the output file and
parameter files, uploads what lies at an artifact's local path, and refuses addresses outside the run's own prefix, null
and nested metadata, and any argument above 128 KiB. The components' commands are those of the compiled YAMLs.
"""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPILED = ROOT / "pipelines" / "compiled"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, faster
SPECS = [next(yaml.load_all(path.read_text(encoding="utf-8"), LOADER)) for path in sorted(COMPILED.glob("*.yaml"))]
MOST_ARGUMENT = 131_072
JOB = "11111111-2222-3333-4444-555555555555"
TYPES = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": float, "BOOLEAN": bool, "LIST": list, "STRUCT": dict}


@dataclass
class Launcher:
    """One run of a pipeline, as the launcher of each of its pods sees it."""

    folder: Path
    bucket: str
    environment: dict
    ran: list = field(default_factory=list)

    @property
    def prefix(self):
        """Where the launcher lets artifacts live: pipeline root, pipeline, run."""
        return f"v2/artifacts/policy-pipeline/{JOB}"

    def run(self, step, expect=0, **parameters):
        """Parameters in, (output parameters, artifacts by name) out."""
        label = step.replace("_", "-")
        spec = next(spec for spec in SPECS if f"exec-{label}" in spec["deploymentSpec"]["executors"])
        component, container = (
            spec["components"][f"comp-{label}"],
            spec["deploymentSpec"]["executors"][f"exec-{label}"]["container"],
        )
        given = self._typed(component["inputDefinitions"].get("parameters", {}), parameters)
        executor_input, output_file = self._executor_input(step, component, given)
        words = [
            word.replace("{{$}}", json.dumps(executor_input)) for word in (*container["command"], *container["args"])
        ]
        assert max(len(word.encode()) for word in words) < MOST_ARGUMENT, "the kernel would refuse it"
        done = subprocess.run(words, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == expect, done.stdout + done.stderr
        self.ran.append(step)
        if expect:
            return done.stderr
        return self._outputs(component, executor_input, output_file)

    def _typed(self, definitions, parameters):
        """The API server and the driver refuse a wrong name, a wrong type and a missing value."""
        assert set(parameters) <= set(definitions), set(parameters) - set(definitions)
        for name, wanted in definitions.items():
            if wanted["parameterType"] == "TASK_FINAL_STATUS":
                continue
            assert name in parameters or wanted.get("isOptional"), f"{name} is missing"
            assert type(parameters[name]) is TYPES[wanted["parameterType"]], name
        # a list or a struct comes out of protobuf, where every number is a double
        return json.loads(json.dumps(parameters), parse_int=float) | {
            name: value for name, value in parameters.items() if not isinstance(value, list | dict)
        }

    def _executor_input(self, step, component, parameters):
        outputs = component.get("outputDefinitions", {})
        key = f"{self.prefix}/{step}/{len(self.ran)}"
        artifacts, files = {}, {}
        for name, wanted in outputs.get("artifacts", {}).items():
            uri = f"s3://{self.bucket}/{key}/{name}"
            entry = {"name": name, "uri": uri, "type": wanted["artifactType"], "metadata": {}}
            artifacts[name] = {"artifacts": [entry]}
            self._local(uri).parent.mkdir(parents=True, exist_ok=True)
        for name in outputs.get("parameters", {}):
            path = self.folder / "tmp" / "kfp" / f"{step}-{len(self.ran)}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            files[name] = {"outputFile": str(path)}
        output_file = self.folder / "tmp" / "kfp_outputs" / f"{step}-{len(self.ran)}.json"
        output_file.parent.mkdir(parents=True, exist_ok=True)
        found = {"inputs": {"parameterValues": parameters}, "outputs": {"outputFile": str(output_file)}}
        found["outputs"] |= ({"artifacts": artifacts} if artifacts else {}) | ({"parameters": files} if files else {})
        return found, output_file

    def _local(self, uri):
        return Path(self.environment["LAUNCHER_ROOT"]) / uri.replace("s3://", "s3/")

    def _outputs(self, component, executor_input, output_file):
        said = json.loads(output_file.read_text()) if output_file.exists() else {}
        values = dict(said.get("parameterValues", {}))
        definitions = component.get("outputDefinitions", {}).get("parameters", {})
        for name, where in executor_input["outputs"].get("parameters", {}).items():
            if name not in values and Path(where["outputFile"]).exists():
                text = Path(where["outputFile"]).read_text()
                values[name] = text if definitions[name]["parameterType"] == "STRING" else json.loads(text)
        assert set(values) == set(definitions), "a declared output is missing"
        for name, wanted in definitions.items():
            assert type(values[name]) is TYPES[wanted["parameterType"]], name
            assert len(json.dumps(values[name])) < MOST_ARGUMENT
        return values, self._artifacts(executor_input, said)

    def _artifacts(self, executor_input, said):
        s3, found = boto3.client("s3"), {}
        for name, listed in executor_input["outputs"].get("artifacts", {}).items():
            (entry,) = listed["artifacts"]
            (changed,) = said.get("artifacts", {}).get(name, {}).get("artifacts", [{}])
            uri, metadata = changed.get("uri", entry["uri"]), changed.get("metadata", {})
            assert uri.startswith(f"s3://{self.bucket}/{self.prefix}/"), (
                "the launcher refuses an address outside the run"
            )
            for key, value in metadata.items():
                assert type(value) in (str, int, float), f"{name}.{key} is not flat: {value!r}"
            path = self._local(entry["uri"])
            if path.exists():
                assert path.is_file()
                assert path.stat().st_size < 5_000_000, "artifacts are small, data stays in the store"
                s3.upload_file(str(path), self.bucket, uri.split("/", 3)[3])
            found[name] = (path, metadata)
        return found


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    from moto.server import ThreadedMotoServer

    folder = tmp_path_factory.mktemp("launcher")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    (folder / "bin").mkdir()
    program = folder / "bin" / "python3"  # what the image's python3 is to the component: this interpreter, already warm
    client = shlex.join([sys.executable, "-I", "-S", str(folder / "client.py")])
    program.write_text(f'#!/bin/sh\nexec {client} "$@"\n')
    program.chmod(0o755)
    (folder / "client.py").write_text(CLIENT)
    environment = {
        **os.environ,
        **given,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "LAUNCHER_ROOT": str(folder / "root"),
        "LAUNCHER_SERVER": str(folder / "socket"),
        "OMP_NUM_THREADS": "1",
        "_KFP_RUNTIME": "true",
    }
    warm = subprocess.Popen(
        [sys.executable, "-c", SERVER, environment["LAUNCHER_SERVER"]], env=environment, stdout=subprocess.PIPE
    )
    assert warm.stdout.readline() == b"ready\n"
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    boto3.client("s3").create_bucket(Bucket="mlpipeline")
    yield Launcher(folder, "mlpipeline", environment)
    warm.kill()
    warm.communicate()
    server.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


# A step's process is forked from one that has imported what all of them import: importing is most of a small step's time.
# kfp's artifact classes put local files under /s3; a test may not write there.
SERVER = """
import json, os, runpy, socket, sys, traceback, warnings
import boto3, torch
import kfp.dsl.executor
from kfp.dsl.types import artifact_types
import tendon.evaluate.rollout, tendon.export.bundle, tendon.report.gather, tendon.report.page, tendon.steps, tendon.train.loop.training
artifact_types._S3_LOCAL_MOUNT_PREFIX = os.environ["LAUNCHER_ROOT"] + "/s3/"

def work(request):
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    assert request["argv"][0] == "-m"
    sys.argv = request["argv"][1:]
    warnings.simplefilter("ignore")
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    _, files, _, _ = socket.recv_fds(connection, 1, 2)
    text = connection.makefile("rb").read()
    child = os.fork()
    if child == 0:
        code = 0
        try:
            for number, file in enumerate(files, 1):
                os.dup2(file, number)
            work(json.loads(text))
        except SystemExit as left:
            code = left.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    for file in files:
        os.close(file)
    connection.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
    connection.close()
"""
CLIENT = """
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ["LAUNCHER_SERVER"])
request = {"argv": sys.argv[1:], "cwd": os.getcwd(), "environment": dict(os.environ)}
socket.send_fds(connection, [b"."], [1, 2])
connection.sendall(json.dumps(request).encode())
connection.shutdown(socket.SHUT_WR)
sys.exit(int(connection.recv(16)))
"""

TRAINING = (
    "experiment=reach_bc training.offline_steps=60 training.save_freq=30 training.valid_freq=30 training.num_threads=1"
)
PLAN = {
    "source_uri": "demo://reach?episodes=6&seed=1",
    "store_uri": "",
    "dataset_name": "demos",
    "convert_workers": 1,
    "evaluate_workers": 1,
    "budget_gpu_hours": 0.0,
    "budget_gpu_hour_price": 0.0,
    "budget_cpu_hour_price": 0.0,
    "halving": False,
    "config": TRAINING,
    "sweep": [{"key": "training.lr", "name": "lr", "group": 0.0, "values": [1e-3]}],
    "episodes": 2,
    "confirm_episodes": 2,
    "champion": "default",
    "promote": False,
    "trials_per_pod": 1,
    "trial_retries": 0,
    "gate_floor": 0.5,
    "gate_margin": 0.0,
    "gate_alpha": 0.05,
    "gate_test": "fixed",
    "perturb": "",
    "nodes": 1,
    "only_new": True,
    "force": False,
    "train_image": "",
    "sim_image": "",
    "trust": "",
    **{f"asked_{quantity}_{kind}": "" for quantity in ("cpu", "memory") for kind in ("data", "train", "sim")},
    "job_id": JOB,
}
PLACE = {"gpu_type": "nvidia.com/gpu", "image": "x", "nodes": 1, "node_gpus": "1", "queue": "", "trust": ""}
PLACE |= {"node_cpu": "1", "node_memory": "2Gi"}
ALONE = {"select", "confirm", "report", "promote"}  # components of which a run has only the four in one: conclude


def final_status(state, message=""):
    """What the engine says at the end; its words are those of the metadata store, not of the run."""
    words = {"pipelineJobResourceName": "x", "pipelineTaskName": "y"}
    return {"state": state, "error": {"code": 9 if message else 0, "message": message}, **words}


def test_every_component_keeps_the_launchers_contract(launcher):
    planned, _ = launcher.run("plan", **PLAN)
    assert planned["store"] == "s3://mlpipeline/tendon", "beside the pipeline root"
    assert planned["work"] == "yes"
    assert (planned["cpu_train"], planned["memory_train"]) == ("500m", "1Gi")
    (item,) = planned["Output"]
    converted, made = launcher.run(
        "convert",
        source_uri=PLAN["source_uri"],
        source_digest=planned["source_digest"],
        store_uri=planned["store"],
        dataset_name="demos",
        dataset_uri=planned["dataset_uri"],
        conversion=planned["conversion"],
        worker=planned["first_share"],
        trust="",
    )
    assert converted["dataset_uri"] == planned["dataset_uri"] == made["manifest"][1]["dataset_uri"]
    launcher.run("stats", dataset_uri=planned["dataset_uri"], digest=converted["digest"])
    paused, _ = launcher.run("train_rung", **item, rung=1, trust="")
    scored, _ = launcher.run(
        "evaluate_rung", run_uri=item["run_uri"], outcomes=paused["Output"], rung=1, episodes=2, trust=""
    )
    assert scored["Output"] == "ok"
    group = {"dataset_uri": item["dataset_uri"], "trials_per_pod": 1, "workers": 2}
    kept, _ = launcher.run("prune", run_uri=item["run_uri"], **group, rung=1, after=[scored["Output"]])
    assert kept["Output"] == [item | {"share": "0/1"}]
    trained, _ = launcher.run("train", **item, **PLACE)
    exported, bundle = launcher.run("export", run_uri=item["run_uri"], outcomes=trained["Output"])
    shares, _ = launcher.run("prune", run_uri=item["run_uri"], **group, rung=0, after=[exported["Output"]])
    assert [one["share"] for one in shares["Output"]] == ["0/2", "1/2"]
    for one in shares["Output"]:
        launcher.run("evaluate_share", run_uri=one["run_uri"], trials=one["trials"], share=one["share"], trust="")
    evaluated, rated = launcher.run(
        "evaluate", run_uri=item["run_uri"], outcomes=exported["Output"], workers=1, trust=""
    )
    (outcome,) = json.loads(evaluated["outcomes"])
    assert outcome["status"] == evaluated["ended"] == "ok"
    assert (rated["metrics"][1]["episodes"], rated["metrics"][1]["trial"]) == (2, outcome["trial"])

    concluded, made = launcher.run(
        "conclude", run_uri=planned["run_uri"], job_id=JOB, after=[evaluated["ended"]], trust=""
    )
    assert "<html" in made["report"][0].read_text()
    assert (concluded["promoted"], concluded["winner"]) == (False, outcome["trial"])
    assert boto3.client("s3").head_object(Bucket="mlpipeline", Key=concluded["report_uri"].split("/", 3)[3])

    evaluation, _ = launcher.run(
        "evaluate_bundle",
        bundle_uri=bundle["bundle"][1]["bundle_uri"],
        baseline_uri="",
        store_uri="",
        overrides="",
        episodes=2,
        trust="",
        job_id=JOB,
    )
    assert "2" in evaluation["Output"]
    given = {"job_id": JOB, "store_uri": "", "notify_when": "always", "remember": True}
    ended, pages = launcher.run("finish", **given, status=final_status("COMPLETE"))
    assert ended["ending"] == "succeeded", "COMPLETE is how a good run ends"
    assert pages["ending_page"][0].read_text().startswith("<!doctype html>")
    again, _ = launcher.run("plan", **PLAN)
    assert (again["work"], again["Output"]) == ("no", [])
    forced, _ = launcher.run("plan", **{**PLAN, "force": True})
    assert forced["work"] == "yes"
    everything = {path.parent.name for path in (ROOT / "components").glob("*/component.py")}
    assert set(launcher.ran) == everything - ALONE


def test_a_sweep_that_is_too_large_is_refused_at_plan(launcher):
    sweep = [{"key": "training.lr", "name": "lr", "group": 0, "values": [1e-6 * (n + 1) for n in range(151)]}]
    said = launcher.run("plan", expect=2, **{**PLAN, "sweep": sweep})
    assert "151" in said
    assert any(line.startswith("error:") for line in said.splitlines())


def test_a_failed_run_has_a_page_too(launcher):
    given = {"job_id": "99999999-2222-3333-4444-555555555555", "store_uri": "", "notify_when": "failure"}
    status = final_status("FAILED", "plan failed")
    ended, pages = launcher.run("finish", **given, remember=False, status=status)
    assert ended["ending"] == "never planned"
    assert "before anything was planned" in pages["ending_page"][0].read_text()
