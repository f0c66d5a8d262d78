"""The committed YAML: fresh, complete, and what kfp's own spec classes understand."""

import re
import shutil

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines import compile as compiling
from pipelines import drawing, pages
from pipelines.parameters import PARAMETERS, with_parameters
from pipelines.resources import STEPS

TYPES = {str: "STRING", int: "NUMBER_INTEGER", bool: "BOOLEAN", list: "LIST"}


@pytest.fixture(scope="module")
def text():
    return compiling.COMPILED.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def raw(text):
    return next(yaml.safe_load_all(text))


@pytest.fixture(scope="module")
def spec(raw):
    return json_format.ParseDict(raw, pipeline_spec_pb2.PipelineSpec())


def test_nothing_generated_is_stale():
    assert [str(path) for path in compiling.stale_files()] == []


def test_check_names_what_is_stale(monkeypatch, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(compiling.ROOT / "pipelines", copy / "pipelines")
    monkeypatch.setattr(compiling, "ROOT", copy)
    monkeypatch.setattr(compiling, "COMPILED", copy / "pipelines" / "compiled" / "policy_pipeline.yaml")
    compiling.main([])
    assert compiling.main(["--check"]) == 0
    (copy / "pipelines" / "README.md").write_text("<!-- dag -->\nold\n<!-- /dag -->\n")
    (copy / "README.md").write_text("<!-- dag -->\nold\n<!-- dag -->\n")
    assert compiling.main(["--check"]) == 2
    out = capsys.readouterr().out
    assert "error: pipelines/README.md is stale" in out
    assert "error: README.md is stale" in out
    compiling.main(["--picture"])
    assert compiling.main(["--check"]) == 0
    assert "plan ──► convert" in (copy / "README.md").read_text()


def test_the_ten_steps_are_there_in_their_order(raw):
    order = [inner.name for node in drawing.read_nodes(raw) for inner in (node.inside or (node,))]
    assert order == list(STEPS)
    assert order == [
        "plan",
        "convert",
        "stats",
        "train",
        "export",
        "evaluate",
        "select",
        "confirm",
        "report",
        "promote",
    ]


def test_every_parameter_has_a_description_a_type_and_a_default(spec):
    inputs = spec.root.input_definitions.parameters
    assert set(inputs) == {parameter.name for parameter in PARAMETERS}
    for parameter in PARAMETERS:
        found = inputs[parameter.name]
        assert found.description.replace("\n", " ") == parameter.help
        assert found.is_optional
        assert json_format.MessageToDict(found.default_value) == parameter.default
        assert pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Name(found.parameter_type) == TYPES[parameter.type]


def test_a_signature_that_leaves_the_table_is_refused():
    def pipeline(source_uri: str):
        """Nothing."""

    with pytest.raises(TypeError):
        with_parameters(pipeline)


def test_caching_and_retries_are_those_of_the_table(raw):
    loop = next(component["dag"]["tasks"] for component in raw["components"].values() if "dag" in component)
    tasks = raw["root"]["dag"]["tasks"] | loop
    for step, wanted in STEPS.items():
        assert bool(tasks[step]["cachingOptions"].get("enableCache")) == wanted.cache
        assert tasks[step].get("retryPolicy", {}).get("maxRetryCount", 0) == wanted.retries
    assert [step for step, wanted in STEPS.items() if wanted.cache] == ["convert", "stats"]


def test_no_pod_installs_anything_and_every_image_is_named(raw):
    for executor in raw["deploymentSpec"]["executors"].values():
        container = executor["container"]
        assert not [part for part in container["command"] if "pip install" in part]
        assert re.fullmatch(r"tendon-(data|train|sim):[\w.]+", container["image"])
        assert "env" not in container


def test_small_and_without_a_secret(text):
    assert len(text) < 100_000  # the limit of a workflow is 1 MiB, and kfp copies specs into it
    assert not re.search(r"(?i)secret|password|token|AKIA[0-9A-Z]{16}|/home/|/root/|/work/", text)


def test_inside_the_fan_out_only_the_item_is_read(raw):
    """kfp's local engine gives the loop item to every input that is another step's output."""
    loop = next(component for component in raw["components"].values() if "dag" in component)
    outside = [name for name in loop["inputDefinitions"]["parameters"] if not name.endswith(("Output", "loop-item"))]
    assert outside == []


def test_pictures_show_edges_of_the_graph_and_nothing_that_follows_from_them():
    spec = {
        "components": {name: {"executorLabel": "e"} for name in "abcd"},
        "deploymentSpec": {"executors": {"e": {"container": {"image": "host/x:1"}}}},
        "root": {
            "dag": {
                "tasks": {
                    "a": {"componentRef": {"name": "a"}},
                    "b": {
                        "componentRef": {"name": "b"},
                        "dependentTasks": ["a"],
                        "cachingOptions": {"enableCache": True},
                    },
                    "c": {"componentRef": {"name": "c"}, "dependentTasks": ["a"]},
                    "d": {"componentRef": {"name": "d"}, "dependentTasks": ["a", "b", "c"]},
                }
            }
        },
    }
    nodes = drawing.read_nodes(spec)
    assert drawing.text(nodes) == "a ──► b + c ──► d"
    picture = drawing.mermaid(nodes)
    assert "step_a --> step_d" not in picture
    assert 'step_b(["b<br/><small>x, cached</small>"])' in picture


def test_blocks_are_replaced_and_text_without_markers_is_kept():
    assert pages.filled("x <!-- dag -->old<!-- /dag --> y", "dag", "new") == "x <!-- dag -->\nnew\n<!-- /dag --> y"
    assert pages.filled("nothing here", "dag", "new") == "nothing here"
