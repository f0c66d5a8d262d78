"""A tendon whose steps do nothing, so that the compiled DAG itself can run in seconds, without torch or a simulator."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.pipelines.fake_kfp import Kubeflow

# For each setting of each task kfp reads the source of the whole stack, to name its own caller: half a minute below pytest.
with patch.object(inspect, "stack", lambda context=1: [(None,) * 4] * 2):
    import pipelines.compile  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
LOGS = """
import logging, sys
def setup(step, *, quiet=False):
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger("tendon").addHandler(handler)
"""
# Answers "get KIND" with KIND.json and "logs POD" with POD.log of its folder; without the file it may not look.
KUBECTL = """#!{python}
import pathlib, sys
folder, words = pathlib.Path(__file__).parent, sys.argv[1:]
with open(folder / "calls", "a") as calls:
    calls.write(" ".join(words) + chr(10))
verb = "get" if "get" in words else "logs"
name = words[words.index(verb) + 1] + (".json" if verb == "get" else ".log")
if not (folder / name).exists():
    sys.exit("Error from server (Forbidden)")
print((folder / name).read_text())
"""
RUN = """
import json, sys
from dataclasses import asdict
from tendon.errors import reported
from tendon.runner import run_local
request = json.loads(sys.argv[1])
with reported("run"):
    result = run_local(request["yaml"], request["arguments"], store_uri=request["store"], **request["options"])
    print("RESULT " + json.dumps(asdict(result)))
"""


@dataclass(frozen=True)
class Ran:
    """A run in a process of its own."""

    exit_code: int
    out: str
    err: str

    @property
    def result(self):
        return json.loads(self.out.rpartition("RESULT ")[2])


@dataclass(frozen=True)
class FakeTendon:
    """Runs pipelines with the fake steps; ``calls`` are the steps that really executed."""

    source: Path
    store: Path

    def start(self, yaml_path=None, *, arguments=None, **options):
        request = {
            "yaml": str(yaml_path or ROOT / "pipelines" / "compiled" / "policy_pipeline.yaml"),
            "arguments": arguments or {},
            "store": str(self.store),
            "options": options,
        }
        return subprocess.Popen(
            [sys.executable, "-c", RUN, json.dumps(request)],
            env={**os.environ, "PYTHONPATH": str(self.source)},
            cwd=self.source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, yaml_path=None, *, arguments=None, **options):
        process = self.start(yaml_path, arguments=arguments, **options)
        out, err = process.communicate(timeout=120)
        return Ran(process.returncode, out, err)

    def calls(self):
        path = self.store / "runs" / "r1" / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def fake(tmp_path):
    package = tmp_path / "src" / "tendon"
    shutil.copytree(ROOT / "src" / "tendon", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("fake_steps.py"), package / "steps.py")
    (package / "logs.py").write_text(LOGS)
    return FakeTendon(tmp_path / "src", tmp_path / "store")


@pytest.fixture
def kubeflow(monkeypatch, tmp_path):
    """A Kubeflow over HTTP, and a kubectl that knows no cluster."""
    for name in list(os.environ):
        if name.startswith(("KF_PIPELINES_", "KUBECONFIG")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    answers = tmp_path / "kubectl"
    answers.mkdir()
    command = answers / "kubectl"
    command.write_text(KUBECTL.format(python=sys.executable))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{answers}{os.pathsep}{os.environ['PATH']}")
    server = Kubeflow().serve()
    server.kubectl = answers
    yield server
    server.shutdown()
    server.server_close()
