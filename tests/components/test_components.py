"""Each component is one call of tendon.steps: the right arguments in, the right files and values out."""

import ast
import importlib
import json
import math
import sys
from datetime import datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from kfp import dsl

import tendon
from components.images import IMAGES
from pipelines.resources import STEPS
from tendon import errors

ROOT = Path(__file__).resolve().parents[2]
OUTCOME = {
    "trial": "t0",
    "run_key": "k0",
    "status": "ok",
    "checkpoint_uri": "/s/checkpoints/1",
    "bundle_uri": "/s/bundle",
    "metrics": {"success_rate": 0.9, "n": 50.0, "loss": math.nan},
}


PLACE = {"gpu_count": "0", "gpu_type": "g", "image": "i", "nodes": 1, "node_gpus": "1", "queue": ""}


def component(step):
    return getattr(importlib.import_module(f"components.{step}.component"), step)


class Steps(ModuleType):
    """tendon.steps that remembers the call and returns what the test wants."""

    def __init__(self):
        super().__init__("tendon.steps")
        self.called = {}

    def answers(self, name, result):
        def step(**arguments):
            self.called[name] = arguments
            if isinstance(result, Exception):
                raise result
            return result

        setattr(self, name, step)


@pytest.fixture
def steps(monkeypatch):
    fake, logs = Steps(), ModuleType("tendon.logs")
    logs.setup = lambda step: fake.called.setdefault("logs", step)
    for name, module in (("steps", fake), ("logs", logs)):
        monkeypatch.setitem(sys.modules, f"tendon.{name}", module)
        monkeypatch.setattr(tendon, name, module, raising=False)
    return fake


@pytest.fixture
def artifact(tmp_path):
    return lambda kind, name="artifact": kind(name=name, uri=str(tmp_path / name), metadata={})


def test_plan_writes_its_named_outputs_and_returns_the_items_of_the_fan_out(steps, artifact, tmp_path):
    trials = [{"name": "lr_0.1", "overrides": "training.lr=0.1"}]
    steps.answers(
        "plan",
        SimpleNamespace(
            run_uri="/s/runs/r",
            store_uri="/s",
            source_digest="d",
            dataset_uri="/s/data",
            conversion={"skip_episodes": ["demo_1"], "resize": [84, 84]},
            shares=["0/2", "1/2"],
            trials=trials,
        ),
    )
    table = artifact(dsl.Artifact)
    names = ("run_uri", "store", "dataset_uri", "source_digest", "conversion", "shares")
    given = {
        "source_uri": "demo://reach",
        "store_uri": "",
        "dataset_name": "demos",
        "convert_workers": 2,
        "config": "a=1",
        "sweep": [{"key": "training.seed", "values": [0.0, 1.0, 0.5, 1e30]}],
        "episodes": 5,
        "confirm_episodes": 6,
        "champion": "c",
        "promote": True,
        "job_id": "j1",
    }
    items = component("plan").python_func(**given, trial_table=table, **{name: str(tmp_path / name) for name in names})
    assert items == [{"trial": "lr_0.1", "run_uri": "/s/runs/r", "dataset_uri": "/s/data"}]
    assert {name: (tmp_path / name).read_text() for name in names} == {
        "run_uri": "/s/runs/r",
        "store": "/s",
        "dataset_uri": "/s/data",
        "source_digest": "d",
        "conversion": '{"skip_episodes": ["demo_1"], "resize": [84, 84]}',
        "shares": '["0/2", "1/2"]',
    }
    assert json.loads(Path(table.path).read_text()) == trials
    called = steps.called["plan"]
    assert called["artifact_uri"] == table.uri
    assert [type(value) for value in called["sweep"][0]["values"]] == [int, int, float, float]
    assert {name: called[name] for name in given if name != "sweep"} == {
        name: given[name] for name in given if name != "sweep"
    }


def test_convert_keeps_data_out_of_the_artifact(steps, artifact):
    steps.answers(
        "convert",
        SimpleNamespace(dataset_uri="/s/data", digest="d2", num_episodes=3, num_frames=30, manifest={"shards": [1]}),
    )
    manifest, options = artifact(dsl.Dataset), {"skip_episodes": ["demo_1"], "resize": [84.0, 84.0]}
    result = component("convert").python_func("u", "d", "/s", "demos", "/s/data", options, "1/2", manifest)
    assert result == ("/s/data", "d2")
    assert json.loads(Path(manifest.path).read_text()) == {"shards": [1]}
    assert manifest.metadata == {"dataset_uri": "/s/data", "digest": "d2", "num_episodes": 3, "num_frames": 30}
    assert {name: steps.called["convert"][name] for name in ("worker", *options)} == {"worker": "1/2", **options}


def test_stats(steps, artifact):
    steps.answers("stats", SimpleNamespace(stats_uri="/s/stats.json", stats={"action": 1}))
    statistics = artifact(dsl.Artifact)
    assert component("stats").python_func("/s/data", ["d2", "d2"], statistics) == "/s/stats.json"
    assert json.loads(Path(statistics.path).read_text()) == {"action": 1}
    assert statistics.metadata["dataset_digest"] == "d2"


@pytest.mark.parametrize(("step", "address"), [("train", "checkpoint_uri"), ("export", "bundle_uri")])
def test_steps_of_a_trial_describe_their_model_flat(steps, artifact, step, address):
    steps.answers(f"{step}_trial", json.dumps(OUTCOME))
    model = artifact(dsl.Model)
    inputs = {"trial": "t0", "dataset_uri": "/s/data", **PLACE} if step == "train" else {"outcome": "{}"}
    outputs = {"checkpoint" if step == "train" else "bundle": model}
    assert json.loads(component(step).python_func(run_uri="/s/runs/r", **inputs, **outputs))["trial"] == "t0"
    assert model.metadata == {"trial": "t0", "run_key": "k0", "status": "ok", address: OUTCOME[address]}


def test_on_several_nodes_train_asks_for_a_job(steps, artifact):
    steps.answers("train_on_nodes", json.dumps(OUTCOME))
    given = {"run_uri": "/r", "trial": "t0", "dataset_uri": "/d", **PLACE, "nodes": 4, "node_gpus": "8", "queue": "q"}
    component("train").python_func(**given, checkpoint=artifact(dsl.Model))
    called = steps.called["train_on_nodes"]
    assert (called["nodes"], called["gpus"], called["image"], called["queue"]) == (4, "8", "i", "q")


@pytest.mark.parametrize(("needed", "answer"), [(True, "yes"), (False, "no")])
def test_check_answers_a_schedule(steps, artifact, needed, answer):
    steps.answers("check_new", SimpleNamespace(needed=needed, reason="why", source_digest="d"))
    made = artifact(dsl.Artifact)
    assert component("check").python_func("u", "", "demos", "c", False, "j", made) == answer
    assert json.loads(Path(made.path).read_text())["reason"] == "why"
    assert steps.called["check_new"]["artifact_uri"] == made.uri


def test_measure_and_finish_write_their_pages(steps, artifact):
    metrics = {"success_rate": 0.5, "loss": math.nan}
    steps.answers("measure", SimpleNamespace(metrics=metrics, verdict="better", html="<html>"))
    steps.answers("finish", SimpleNamespace(html="<html>", headline="it failed"))
    logged, page = artifact(dsl.Metrics, "metrics"), artifact(dsl.HTML, "page")
    assert component("measure").python_func("/b", "/c", "s3://b/x", "", 7, "j", logged, page) == "better"
    assert logged.metadata == {"success_rate": 0.5}
    assert (steps.called["measure"]["store_uri"], steps.called["measure"]["artifact_uri"]) == ("s3://b/x", page.uri)
    status = dsl.PipelineTaskFinalStatus("FAILED", "res", "task", 9, "it broke")
    component("finish").python_func("job", "", "always", False, status, page)
    assert (steps.called["finish"]["state"], steps.called["finish"]["error"]) == ("FAILED", "it broke")


def test_evaluate_logs_finite_numbers_only(steps, artifact):
    steps.answers("evaluate_trial", json.dumps(OUTCOME))
    metrics = artifact(dsl.Metrics)
    component("evaluate").python_func("/s/runs/r", "{}", metrics)
    assert metrics.metadata == {"success_rate": 0.9, "n": 50.0}


def test_select_confirm_report_promote(steps, artifact):
    steps.answers("select", SimpleNamespace(winner="t0", leaderboard=[{"trial": "t0"}], metrics={"success_rate": 0.9}))
    steps.answers("confirm", SimpleNamespace(metrics={"success_rate": 0.8}, verdict="better"))
    steps.answers("report", SimpleNamespace(html="<html>", report_uri="/s/report.html", record_uri="/s/record.json"))
    steps.answers("promote", SimpleNamespace(promoted=True, reason="better"))
    board, metrics, page = artifact(dsl.Artifact, "board"), artifact(dsl.Metrics, "metrics"), artifact(dsl.HTML, "page")
    assert component("select").python_func("/r", ["{}"], board, metrics) == "t0"
    assert json.loads(Path(board.path).read_text()) == [{"trial": "t0"}]
    assert metrics.metadata == {"success_rate": 0.9}
    assert component("confirm").python_func("/r", artifact(dsl.Metrics)) == "better"
    assert component("report").python_func("/r", page) == ("/s/report.html", "/s/record.json")
    assert Path(page.path).read_text() == "<html>"
    assert component("promote").python_func("/r") == (True, "better")


def test_an_error_leaves_with_four_lines_and_its_exit_code(steps, capsys):
    steps.answers("promote", errors.StorageError("no store", where="s3://b", why="it is gone", fix="make one"))
    with pytest.raises(SystemExit) as left:
        component("promote").python_func("/r")
    assert left.value.code == 4
    assert capsys.readouterr().err == "error: no store\nwhere: s3://b\nwhy:   it is gone\nfix:   make one\n"


@pytest.mark.parametrize("step", STEPS)
def test_every_component_follows_the_house_rules(step):
    path = ROOT / "components" / step / "component.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert {name.partition(".")[0] for name in imported} <= {*sys.stdlib_module_names, "kfp", "components"}
    container = component(step).component_spec.implementation.container
    assert container.image in IMAGES.values()
    source = ast.unparse(tree)
    assert f"logs.setup('{step}')" in source
    assert f"errors.reported('{step}')" in source
    documented = component(step).python_func.__doc__
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    assert path.with_name("OWNERS").exists()
    metadata = yaml.safe_load(path.with_name("metadata.yaml").read_text(encoding="utf-8"))
    assert metadata["name"] == step
    assert metadata["stability"] in ("experimental", "alpha", "beta", "stable")
    assert metadata["dependencies"]["kubeflow"][0]["name"] == "Kubeflow Pipelines"
    assert datetime.fromisoformat(metadata["lastVerified"].replace("Z", "+00:00")).tzinfo
    assert [argument.arg for argument in function.args.args if f"    {argument.arg}: " not in documented] == []
    assert (path.parent / "README.md").exists()
