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
    "metrics": {"success_rate": 0.9, "episodes": 50.0, "loss": math.nan},
}


SHA256 = "0" * 64
PLACE = {
    "gpu_type": "g",
    "image": "i",
    "nodes": 1,
    "node_gpus": "1",
    "queue": "",
    "node_cpu": "1",
    "node_memory": "2Gi",
    "trust": "",
}


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
    fake.allow = lambda trust: fake.called.update(allow=trust)
    logs.setup = lambda step: fake.called.setdefault("logs", step)
    for name, module in (("steps", fake), ("logs", logs)):
        monkeypatch.setitem(sys.modules, f"tendon.{name}", module)
        monkeypatch.setattr(tendon, name, module, raising=False)
    return fake


@pytest.fixture
def artifact(tmp_path):
    return lambda kind, name="artifact": kind(name=name, uri=str(tmp_path / name), metadata={})


SIZES = {
    f"{quantity}_{kind}": f"{quantity} of {kind}" for quantity in ("cpu", "memory") for kind in ("data", "train", "sim")
}
NODE_SIZES = {"cpu_node": "cpu of a node", "memory_node": "memory of a node"}
WAITING = {"cpu_waiting": "100m", "memory_waiting": "128Mi", "limit_waiting": "1Gi"}
PLANNED = {
    "run_uri": "/s/runs/r",
    "store_uri": "/s",
    "source_digest": "d",
    "dataset_uri": "/s/data",
    "conversion": {"skip_episodes": ["demo_1"], "resize": [84, 84]},
    "shares": ["0/2", "1/2"],
    "groups": [["lr_0.1", "lr_0.2"], ["lr_0.3"]],
    "work": True,
    "reason": "3 trials are left",
    "resources": SIZES | NODE_SIZES | WAITING,
    "trials": [{"name": "lr_0.1", "overrides": "training.lr=0.1"}],
    "evaluation_shares": [(["lr_0.3"], "0/2"), (["lr_0.3"], "1/2")],
}
ASKED = {
    "source_uri": "demo://reach",
    "store_uri": "",
    "dataset_name": "demos",
    "convert_workers": 2,
    "evaluate_workers": 2,
    "budget_gpu_hours": 3.0,
    "budget_gpu_hour_price": 2.5,
    "budget_cpu_hour_price": 0.0,
    "halving": False,
    "config": "a=1",
    "sweep": [{"key": "training.seed", "values": [0.0, 1.0, 0.5, 1e30]}],
    "episodes": 5,
    "confirm_episodes": 6,
    "champion": "c",
    "promote": True,
    "trials_per_pod": 2,
    "trial_retries": 3,
    "gate_floor": 0.5,
    "gate_margin": 0.0,
    "gate_alpha": 0.05,
    "gate_test": "fixed",
    "perturb": "",
    "nodes": 1,
    "only_new": True,
    "force": False,
    "train_image": "t",
    "sim_image": "s",
    "trust": "",
    "job_id": "j1",
}
NAMED = (
    "run_uri",
    "store",
    "dataset_uri",
    "source_digest",
    "conversion",
    "first_share",
    "extra_shares",
    "extra_needed",
    "evaluation_shares",
    "evaluation_shared",
)
TRAIN_POD = ("cpu_train_pod", "memory_train_pod", "memory_train_limit")
NAMED = (*NAMED, "work", "reason", *SIZES, *NODE_SIZES, *TRAIN_POD)


def run_plan(tmp_path, table, nodes=1, **asked_sizes):
    asked = {f"asked_{size}": asked_sizes.get(size, "") for size in SIZES}
    files = {name: str(tmp_path / name) for name in NAMED}
    items = component("plan").python_func(**ASKED | {"nodes": nodes}, **asked, trial_table=table, **files)
    return items, {name: (tmp_path / name).read_text() for name in NAMED}


def test_plan_writes_its_named_outputs_and_returns_the_items_of_the_fan_out(steps, artifact, tmp_path):
    steps.answers("plan", SimpleNamespace(**PLANNED))
    table = artifact(dsl.Artifact)
    items, files = run_plan(tmp_path, table)
    place = {"run_uri": "/s/runs/r", "dataset_uri": "/s/data"}
    assert items == [{"trials": '["lr_0.1", "lr_0.2"]', **place}, {"trials": '["lr_0.3"]', **place}]
    assert files == {
        "run_uri": "/s/runs/r",
        "store": "/s",
        "dataset_uri": "/s/data",
        "source_digest": "d",
        "conversion": '{"skip_episodes": ["demo_1"], "resize": [84, 84]}',
        "first_share": "0/2",
        "extra_shares": '["1/2"]',
        "extra_needed": "yes",
        "evaluation_shares": json.dumps(
            [{"trials": '["lr_0.3"]', "run_uri": "/s/runs/r", "share": share} for share in ("0/2", "1/2")]
        ),
        "evaluation_shared": "yes",
        "work": "shared",
        "reason": "3 trials are left",
        **SIZES,
        **NODE_SIZES,
        "cpu_train_pod": SIZES["cpu_train"],
        "memory_train_pod": SIZES["memory_train"],
        "memory_train_limit": SIZES["memory_train"],
    }
    assert json.loads(Path(table.path).read_text()) == PLANNED["trials"]
    called = steps.called["plan"]
    assert called["artifact_uri"] == table.uri
    assert [type(value) for value in called["sweep"][0]["values"]] == [int, int, float, float]
    handed_on = [name for name in ASKED if name not in ("sweep", "nodes", "trust")]
    assert {name: called[name] for name in handed_on} == {name: ASKED[name] for name in handed_on}


def test_plan_hands_on_sizes_that_were_asked_for_and_says_when_there_is_nothing_to_do(steps, artifact, tmp_path):
    steps.answers("plan", SimpleNamespace(**PLANNED | {"shares": ["0/1"], "groups": [], "work": False}))
    items, files = run_plan(tmp_path, artifact(dsl.Artifact), cpu_sim="7", memory_train="9Gi")
    assert items == []
    assert (files["work"], files["extra_needed"], files["extra_shares"], files["first_share"]) == (
        "no",
        "no",
        "[]",
        "0/1",
    )
    assert {size: files[size] for size in SIZES} == SIZES | {"cpu_sim": "7", "memory_train": "9Gi"}


def test_a_pod_that_waits_for_nodes_asks_for_next_to_nothing(steps, artifact, tmp_path):
    """It asked for 4 CPU and 16 GiB, in the quota that its nodes need."""
    steps.answers("plan", SimpleNamespace(**PLANNED))
    _, files = run_plan(tmp_path, artifact(dsl.Artifact), nodes=2)
    assert [files[name] for name in TRAIN_POD] == ["100m", "128Mi", "1Gi"]
    assert {name: files[name] for name in NODE_SIZES} == NODE_SIZES
    assert files["memory_train"] == SIZES["memory_train"], "export asks for it"
    _, files = run_plan(tmp_path, artifact(dsl.Artifact), nodes=2, memory_train="9Gi", cpu_train="3")
    assert [files[name] for name in (*TRAIN_POD, *NODE_SIZES)] == ["100m", "128Mi", "1Gi", "3", "9Gi"]


def test_convert_keeps_data_out_of_the_artifact(steps, artifact):
    steps.answers(
        "convert",
        SimpleNamespace(dataset_uri="/s/data", digest="d2", num_episodes=3, num_frames=30, manifest={"shards": [1]}),
    )
    manifest, options = artifact(dsl.Dataset), {"skip_episodes": ["demo_1"], "resize": [84.0, 84.0]}
    result = component("convert").python_func("u", "d", "/s", "demos", "/s/data", options, "1/2", SHA256, manifest)
    assert steps.called["allow"] == SHA256
    assert result == ("/s/data", "d2")
    assert json.loads(Path(manifest.path).read_text()) == {"shards": [1]}
    assert manifest.metadata == {"dataset_uri": "/s/data", "digest": "d2", "num_episodes": 3, "num_frames": 30}
    assert {name: steps.called["convert"][name] for name in ("worker", *options)} == {"worker": "1/2", **options}


def test_stats(steps, artifact):
    steps.answers("stats", SimpleNamespace(stats_uri="/s/stats.json", stats={"action": 1}))
    statistics = artifact(dsl.Artifact)
    assert component("stats").python_func("/s/data", "d2", statistics) == "/s/stats.json"
    assert json.loads(Path(statistics.path).read_text()) == {"action": 1}
    assert statistics.metadata["dataset_digest"] == "d2"


@pytest.mark.parametrize(("step", "address"), [("train", "checkpoint_uri"), ("export", "bundle_uri")])
def test_steps_of_a_trial_describe_their_model_flat(steps, artifact, step, address):
    steps.answers(f"{step}_trials", [json.dumps(OUTCOME)])
    model = artifact(dsl.Model)
    inputs = {"trials": '["t0"]', "dataset_uri": "/s/data", **PLACE} if step == "train" else {"outcomes": "[{}]"}
    kind = "checkpoint" if step == "train" else "bundle"
    (outcome,) = json.loads(component(step).python_func(run_uri="/s/runs/r", **inputs, **{kind: model}))
    assert outcome["trial"] == "t0"
    shown = {"trial": "t0", "run_key": "k0", "status": "ok", address: OUTCOME[address]}
    assert model.metadata == {**shown, "display_name": f"{kind} t0"}


def test_a_group_of_trials_goes_through_its_steps_together(steps, artifact):
    pair = [
        json.dumps(OUTCOME),
        json.dumps(OUTCOME | {"trial": "t1", "run_key": "k1", "metrics": {"success_rate": 0.1}}),
    ]
    for step in ("train", "export", "evaluate"):
        steps.answers(f"{step}_trials", pair)
    model, metrics = artifact(dsl.Model), artifact(dsl.Metrics, "metrics")
    given = {"trials": '["t0", "t1"]', "dataset_uri": "/d", **PLACE}
    trained = component("train").python_func(run_uri="/r", **given, checkpoint=model)
    assert steps.called["train_trials"]["trials"] == ["t0", "t1"]
    assert (model.metadata["trial"], model.metadata["status"]) == ("t0, t1", "ok, ok")
    component("export").python_func("/r", trained, artifact(dsl.Model))
    assert [json.loads(one)["trial"] for one in steps.called["export_trials"]["outcomes"]] == ["t0", "t1"]
    outcomes, ended = component("evaluate").python_func("/r", trained, 1, "", metrics)
    assert [one["trial"] for one in json.loads(outcomes)] == ["t0", "t1"]
    assert ended == "ok ok"
    numbers = {"t0/success_rate": 0.9, "t0/episodes": 50.0, "t1/success_rate": 0.1}
    assert metrics.metadata == {"trial": "t0, t1", **numbers}


def test_on_several_nodes_train_asks_for_a_job(steps, artifact):
    steps.answers("train_trials_on_nodes", [json.dumps(OUTCOME)])
    given = {
        "run_uri": "/r",
        "trials": '["t0"]',
        "dataset_uri": "/d",
        **PLACE,
        "nodes": 4,
        "node_gpus": "8",
        "queue": "q",
    }
    component("train").python_func(**given, checkpoint=artifact(dsl.Model))
    called = steps.called["train_trials_on_nodes"]
    assert (called["nodes"], called["gpus"], called["image"], called["queue"]) == (4, "8", "i", "q")
    assert (called["cpu"], called["memory"]) == ("1", "2Gi")


@pytest.mark.parametrize(
    ("ending", "shown"), [("succeeded", "how it ended"), ("failed", "failure page"), ("stopped", "failure page")]
)
def test_evaluate_bundle_and_finish_write_their_pages(steps, artifact, ending, shown):
    metrics = {"success_rate": 0.5, "n": 7.0, "loss": math.nan}
    steps.answers("evaluate_bundle", SimpleNamespace(metrics=metrics, verdict="better", html="<html>"))
    steps.answers("finish", SimpleNamespace(html="<html>", headline="so it was", report_uri="/r.html", ending=ending))
    logged, page = artifact(dsl.Metrics, "metrics"), artifact(dsl.HTML, "page")
    assert component("evaluate_bundle").python_func("/b", "/c", "s3://b/x", "", 7, "", "j", logged, page) == "better"
    assert logged.metadata == {"success_rate": 0.5, "episodes": 7.0}
    called = steps.called["evaluate_bundle"]
    assert (called["store_uri"], called["artifact_uri"], called["baseline_uri"]) == ("s3://b/x", page.uri, "/c")
    status = dsl.PipelineTaskFinalStatus("COMPLETE", "res", "task", 9, "it broke")
    ended = component("finish").python_func("job", "", "always", False, status, page)
    assert ended == (ending, "so it was", "/r.html")
    assert page.metadata["display_name"] == shown
    assert (steps.called["finish"]["state"], steps.called["finish"]["error"]) == ("COMPLETE", "it broke")


def test_evaluate_logs_finite_numbers_only_with_the_name_of_the_trial(steps, artifact):
    steps.answers("evaluate_trials", [json.dumps(OUTCOME)])
    metrics = artifact(dsl.Metrics)
    component("evaluate").python_func("/s/runs/r", "[{}]", 1, SHA256, metrics)
    assert steps.called["allow"] == SHA256
    assert metrics.metadata == {"trial": "t0", "success_rate": 0.9, "episodes": 50.0}


def test_select_confirm_report_promote(steps, artifact):
    numbers = {"success_rate": 0.9, "n": 5.0}
    steps.answers("select", SimpleNamespace(winner="t0", leaderboard=[{"trial": "t0"}], metrics=numbers))
    steps.answers("confirm", SimpleNamespace(metrics={"success_rate": 0.8, "n_episodes": 6.0}, verdict="better"))
    steps.answers("report", SimpleNamespace(html="<html>", report_uri="/s/report.html", record_uri="/s/record.json"))
    steps.answers("promote", SimpleNamespace(promoted=True, reason="better"))
    board, metrics, page = artifact(dsl.Artifact, "board"), artifact(dsl.Metrics, "metrics"), artifact(dsl.HTML, "page")
    assert component("select").python_func("/r", board, metrics) == "t0"
    assert json.loads(Path(board.path).read_text()) == [{"trial": "t0"}]
    assert board.metadata["display_name"] == "leaderboard"
    assert metrics.metadata == {"trial": "t0", "success_rate": 0.9, "episodes": 5.0}
    confirmed = artifact(dsl.Metrics, "confirmed")
    assert component("confirm").python_func("/r", "", confirmed) == "better"
    assert confirmed.metadata == {"success_rate": 0.8, "episodes": 6.0}
    assert component("report").python_func("/r", page) == ("/s/report.html", "/s/record.json")
    assert (Path(page.path).read_text(), page.metadata["display_name"]) == ("<html>", "report")
    assert component("promote").python_func("/r") == (True, "better")


def test_conclude_is_the_four_of_them_in_one(steps, artifact):
    metrics = {"success_rate": 0.8, "episodes": 6.0, "loss": math.nan}
    result = SimpleNamespace(metrics=metrics, verdict="better", html="<html>", winner="t0", promoted=True)
    steps.answers("conclude", result)
    page, logged = artifact(dsl.HTML, "page"), artifact(dsl.Metrics, "metrics")
    ended = component("conclude").python_func("/r", "j", ["ok"], SHA256, page, logged)
    assert steps.called["allow"] == SHA256
    assert ended == ("better", "t0", True, "/r/report.html")
    assert logged.metadata == {"trial": "t0", "success_rate": 0.8, "episodes": 6.0}
    assert Path(page.path).read_text() == "<html>"
    assert steps.called["conclude"] == {"run_uri": "/r", "job_id": "j"}


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
