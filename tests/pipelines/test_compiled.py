"""The committed YAML: fresh, complete, and what kfp's own spec classes understand."""

import json
import re
import shutil

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines import compile as compiling
from pipelines import drawing, pages
from pipelines.parameters import PIPELINES, parameters_of, with_parameters
from pipelines.resources import STEPS

TYPES = {str: "STRING", int: "NUMBER_INTEGER", bool: "BOOLEAN", list: "LIST", dict: "STRUCT"}
TEXTS = {name: compiling.COMPILED.with_name(f"{name}.yaml").read_text(encoding="utf-8") for name in PIPELINES}
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, faster
DOCUMENTS = {name: list(yaml.load_all(text, LOADER)) for name, text in TEXTS.items()}
SPECS = {name: documents[0] for name, documents in DOCUMENTS.items()}
PLATFORMS = {name: documents[1] for name, documents in DOCUMENTS.items()}
every_pipeline = pytest.mark.parametrize("name", PIPELINES)


@pytest.fixture(scope="module")
def raw():
    return SPECS["policy_pipeline"]


def tasks_of(raw):
    """Every task of a pipeline, those inside groups too."""
    return {
        name: task
        for dag in [raw["root"]["dag"], *(c["dag"] for c in raw["components"].values() if "dag" in c)]
        for name, task in dag["tasks"].items()
        if "dag" not in raw["components"][task["componentRef"]["name"]]
    }


def executors_of(name):
    """What the cluster is asked for, by step."""
    return {
        executor.removeprefix("exec-"): wanted
        for executor, wanted in PLATFORMS[name]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items()
    }


def test_nothing_generated_is_stale():
    assert [str(path) for path in compiling.stale_files()] == []


def test_check_names_what_is_stale(monkeypatch, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(compiling.ROOT / "pipelines", copy / "pipelines")
    shutil.copytree(compiling.ROOT / "components", copy / "components")
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
    assert "plan ──► ┌ convert ┐" in (copy / "README.md").read_text()


def test_the_steps_are_there_in_their_order(raw):
    order = [inner.name for node in drawing.read_nodes(raw) for inner in (node.inside or (node,))]
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
        "finish",
    ]


@every_pipeline
def test_every_parameter_has_a_group_a_description_a_type_and_a_default(name):
    spec = json_format.ParseDict(SPECS[name], pipeline_spec_pb2.PipelineSpec())
    inputs = spec.root.input_definitions.parameters
    assert set(inputs) == set(PIPELINES[name])
    for parameter in parameters_of(name):
        found = inputs[parameter.name]
        assert found.description.replace("\n", " ") == parameter.help
        assert found.description.startswith(f"[{parameter.group}]")
        assert found.is_optional
        assert json_format.MessageToDict(found.default_value) == parameter.default
        assert pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Name(found.parameter_type) == TYPES[parameter.type]


def test_a_signature_that_leaves_the_table_is_refused():
    def policy_pipeline(source_uri: str):
        """Nothing."""

    with pytest.raises(TypeError):
        with_parameters(policy_pipeline)


@every_pipeline
def test_caching_retries_and_resources_are_those_of_the_table(name):
    tasks, wanted_of = tasks_of(SPECS[name]), executors_of(name)
    for step, task in tasks.items():
        wanted, asked = STEPS[step], wanted_of[step]
        assert bool(task["cachingOptions"].get("enableCache")) == wanted.cache
        assert task.get("retryPolicy", {}).get("maxRetryCount", 0) == wanted.retries
        assert asked["activeDeadlineSeconds"] == str(wanted.hours * 3600)
        assert asked["podMetadata"]["labels"]["tendon.io/step"] == step
        assert ("nodeSelector" in asked, "tolerations" in asked) == (wanted.chosen_node, wanted.chosen_node)
        mounts = [(m["mountPath"], m["medium"], m["sizeLimit"]) for m in asked.get("emptyDirMounts", ())]
        assert mounts == ([("/dev/shm", "Memory", wanted.shared_memory)] if wanted.shared_memory else [])
        resources = SPECS[name]["deploymentSpec"]["executors"][f"exec-{step}"]["container"]["resources"]
        assert resources["resourceCpuLimit"] == wanted.cpu
        assert resources["resourceMemoryLimit"] == wanted.memory


def test_only_steps_whose_errors_are_outcomes_are_retried():
    """Whatever the cluster's policy: a typo (2) or broken data (3) leaves these steps with code 0, so what is retried is not it."""
    assert {step for step, wanted in STEPS.items() if wanted.retries} == {"train", "export", "evaluate"}
    assert [step for step, wanted in STEPS.items() if wanted.cache] == ["convert", "stats"]


@every_pipeline
def test_no_pod_installs_anything_and_every_image_is_a_parameter(name):
    for step, task in tasks_of(SPECS[name]).items():
        container = SPECS[name]["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
        assert not [part for part in container["command"] if "pip install" in part]
        assert re.fullmatch(
            r"\{\{\$\.inputs\.parameters\['pipelinechannel--image_(data|train|sim)'\]\}\}", container["image"]
        )
        assert "env" not in container
        parameter = re.search(r"image_\w+", container["image"])[0]
        assert task["inputs"]["parameters"][f"pipelinechannel--{parameter}"], "the driver could not resolve it"


@every_pipeline
def test_what_a_task_or_a_group_reads_is_handed_down_to_it(name):
    """kfp 2.17 forgets to hand resource parameters down into groups; a limit that cannot be resolved is dropped silently."""
    raw = SPECS[name]
    for component in (raw["root"], *raw["components"].values()):
        known = set(component.get("inputDefinitions", {}).get("parameters", {}))
        for task_name, task in component.get("dag", {}).get("tasks", {}).items():
            loop = {task["parameterIterator"]["itemInput"]} if "parameterIterator" in task else set()
            for value in task.get("inputs", {}).get("parameters", {}).values():
                if "componentInputParameter" in value:
                    assert value["componentInputParameter"] in known | loop, (task_name, value)


def test_gpus_are_parameters_of_type_text():
    """A number would be resolved to an empty string, and the limit dropped."""
    train = SPECS["policy_pipeline"]["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]
    assert "gpu_count" in train["accelerator"]["resourceCount"]
    assert "gpu_type" in train["accelerator"]["resourceType"]
    parameters = SPECS["policy_pipeline"]["root"]["inputDefinitions"]["parameters"]
    assert {parameters[gpu]["parameterType"] for gpu in ("gpu_count", "gpu_type", "trainjob_gpus")} == {"STRING"}


@every_pipeline
def test_secrets_are_references_and_optional(name):
    for step, asked in executors_of(name).items():
        secrets = {one["secretName"] for one in asked["secretAsEnv"]}
        assert secrets == ({"tendon-store", "tendon-notify"} if step == "finish" else {"tendon-store"})
        assert all(one["optional"] for one in (*asked["secretAsEnv"], *asked["configMapAsEnv"]))


@every_pipeline
def test_small_and_without_a_secret(name):
    """Far below the 1 MiB of a workflow: a loop's templates are shared by its trials, so 150 of them add no text."""
    assert len(TEXTS[name]) < 120_000
    assert not re.search(r"(?i)password|AKIA[0-9A-Z]{16}|https?://(?!kubernetes)|/home/|/root/|/work/", TEXTS[name])


@every_pipeline
def test_the_end_is_an_exit_task(name):
    (finish,) = [t for n, t in SPECS[name]["root"]["dag"]["tasks"].items() if n == "finish"]
    assert finish["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def test_for_one_cluster_images_are_pinned_and_pods_queue(tmp_path, capsys):
    table = {
        kind: {"reference": f"registry.example/tendon-{kind}@sha256:{'0' * 64}"} for kind in ("data", "train", "sim")
    }
    (tmp_path / "images.json").write_text(json.dumps(table))
    words = ["--output", str(tmp_path / "out"), "--images", str(tmp_path / "images.json"), "--queue", "robots"]
    words += ["--priority", "low"]
    assert compiling.main(words) == 0
    for name in PIPELINES:
        spec, platform = yaml.safe_load_all((tmp_path / "out" / f"{name}.yaml").read_text())
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        defaults = spec["root"]["inputDefinitions"]["parameters"]
        assert {defaults[p]["defaultValue"] for p in defaults if p.startswith("image_")} <= {
            built["reference"] for built in table.values()
        }
        for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
            labels = executor["podMetadata"]["labels"]
            assert labels["kueue.x-k8s.io/queue-name"] == "robots"
            assert labels["kueue.x-k8s.io/priority-class"] == "low"
            assert "tendon.io/step" in labels
    assert "tendon-data:0.1.0" not in (tmp_path / "out" / "policy_pipeline.yaml").read_text().split("root:")[1]


@pytest.mark.parametrize("name", ["policy_pipeline", "retrain_pipeline"])
def test_inside_the_fan_out_no_other_steps_output_is_read(name):
    """kfp's local engine gives the loop item to every input that is another step's output."""
    loops = [component for label, component in SPECS[name]["components"].items() if label.startswith("comp-for-loop")]
    of_conversion = SPECS[name]["components"]["comp-conversion"]["inputDefinitions"]["parameters"]
    assert len(loops) == 2
    for task in (task for loop in loops for task in loop["dag"]["tasks"].values()):
        read = [
            v["componentInputParameter"]
            for v in task["inputs"]["parameters"].values()
            if "componentInputParameter" in v
        ]
        channels = {found.removeprefix("pipelinechannel--") for found in read}
        items = {"plan-Output-loop-item", "shares-loop-item"}
        assert channels - items <= {*PIPELINES[name], *of_conversion}


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
