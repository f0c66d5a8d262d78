"""The committed YAML: fresh, complete, and what kfp's own spec classes understand."""

import inspect
import json
import re
import shutil

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec import pipeline_spec_pb2

from components import images
from pipelines import compile as compiling
from pipelines import drawing, pages, parameters
from pipelines.parameters import PIPELINES, Parameter, parameters_of
from pipelines.resources import STEPS

GPUS = ("cluster_gpu_count", "cluster_gpu_type", "cluster_trainjob_gpus")
TYPES = {str: "STRING", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", bool: "BOOLEAN", list: "LIST", dict: "STRUCT"}
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
    """Every task of a pipeline, those inside groups too, by its executor."""
    return {
        raw["components"][task["componentRef"]["name"]]["executorLabel"]: task
        for dag in [raw["root"]["dag"], *(c["dag"] for c in raw["components"].values() if "dag" in c)]
        for task in dag["tasks"].values()
        if "dag" not in raw["components"][task["componentRef"]["name"]]
    }


def executors_of(name, platforms=PLATFORMS):
    """What the cluster is asked for, by executor."""
    return platforms[name]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def step_of(executor):
    """The step of an executor; a step that is there twice has a number behind the second."""
    return re.sub(r"-\d+$", "", executor.removeprefix("exec-")).replace("-", "_")


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
    picture = (copy / "README.md").read_text()
    assert "plan ──► convert + ┌ convert ┐ ──► stats ──► ┌ train" in picture
    assert "evaluate ┐ ──► ┌ evaluate-share ┐ ──► conclude ──► finish" in picture


def test_the_steps_are_there_in_their_order(raw):
    order = [inner.name for node in drawing.read_nodes(raw) for inner in (node.inside or (node,))]
    assert order == [
        "plan",
        "convert",
        "convert",
        "stats",
        "train",
        "export",
        "evaluate",
        "evaluate-share",
        "conclude",
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


def test_a_parameter_is_one_entry_of_the_table(monkeypatch):
    """The pipeline function has its signature from there; one that it does not know is refused."""
    fields = (*parameters_of("policy_pipeline"), Parameter("policy_new", int, 3, "New."))
    monkeypatch.setattr(parameters, "parameters_of", lambda name: fields)
    forms = []

    @parameters.with_parameters
    def policy_pipeline(form):
        """One."""
        forms.append(form)

    signature = inspect.signature(policy_pipeline)
    assert (signature.parameters["policy_new"].default, signature.parameters["policy_new"].annotation) == (3, int)
    assert "    policy_new: [policy] New." in policy_pipeline.__doc__
    policy_pipeline(*(field.default for field in fields))
    assert forms[0].policy_new == 3
    with pytest.raises(TypeError):
        policy_pipeline(policy_old=3)


def test_names_group_themselves_and_every_old_one_has_a_new_one():
    assert {p.name.partition("_")[0] for p in parameters.TABLE} == {
        "data",
        "policy",
        "evaluate",
        "gate",
        "budget",
        "cluster",
        "trust",
    }
    assert set(parameters.OLD_NAMES.values()) <= set(parameters.BY_NAME)
    assert not set(parameters.OLD_NAMES) & set(parameters.BY_NAME)
    committed_before = (
        "source_uri store_uri dataset_name convert_workers config sweep episodes confirm_episodes champion promote force "
        "bundle_uri against_uri changes gpu_count gpu_type image_data image_train image_sim node_selector "
        "node_tolerations trainjob_nodes trainjob_gpus trainjob_queue notify_when"
    )
    assert set(parameters.OLD_NAMES) == set(committed_before.split())


@every_pipeline
def test_caching_retries_and_resources_are_those_of_the_table(name):
    tasks, wanted_of = tasks_of(SPECS[name]), executors_of(name)
    for executor, task in tasks.items():
        step = step_of(executor)
        wanted, asked = STEPS[step], wanted_of[executor]
        assert task["taskInfo"]["name"] == wanted.title
        assert bool(task["cachingOptions"].get("enableCache")) == wanted.cache
        assert task.get("retryPolicy", {}).get("maxRetryCount", 0) == wanted.retries
        assert asked["activeDeadlineSeconds"] == str(wanted.hours * 3600)
        assert asked["podMetadata"]["labels"]["tendon.io/step"] == step
        assert ("nodeSelector" in asked, "tolerations" in asked) == (wanted.chosen_node, wanted.chosen_node)
        mounts = [(m["mountPath"], m["medium"], m["sizeLimit"]) for m in asked.get("emptyDirMounts", ())]
        assert mounts == ([("/dev/shm", "Memory", wanted.shared_memory)] if wanted.shared_memory else [])
        assert asked["securityContext"] == {"runAsNonRoot": True}
        resources = SPECS[name]["deploymentSpec"]["executors"][executor]["container"]["resources"]
        if step == "train":  # or it only waits for nodes, and asks for less than it may use
            assert "memory_train_pod" in resources["resourceMemoryRequest"]
            assert "memory_train_limit" in resources["resourceMemoryLimit"]
        else:
            assert resources["resourceMemoryRequest"] == resources["resourceMemoryLimit"]
        assert "resourceCpuLimit" not in resources, "a step may use idle processors while it starts"
        for key, quantity in (("resourceCpuRequest", "cpu"), ("resourceMemoryRequest", "memory")):
            fixed = getattr(wanted, quantity)
            source = re.escape(fixed) if fixed else rf".*--(plan-|cluster_)?{quantity}_{wanted.image}(_pod)?'\]\}}\}}"
            assert re.fullmatch(source, resources[key]), (executor, resources[key])


@every_pipeline
def test_whatever_a_pod_is_asked_with_is_an_input_of_its_task(name):
    """kfp 2.17 drops a limit silently when the driver cannot find its parameter among the task's inputs."""
    tasks = tasks_of(SPECS[name])
    for executor, task in tasks.items():
        container = SPECS[name]["deploymentSpec"]["executors"][executor]["container"]
        asked = json.dumps([container["image"], container.get("resources", {})])
        for parameter in re.findall(r"inputs\.parameters\['([^']+)'\]", asked):
            assert parameter in task["inputs"]["parameters"], (executor, parameter)


def test_retries_are_not_ended_by_argos_clock():
    """Argo's maximum counts from the first attempt: 600 s meant that a pod lost after 11 minutes was not tried again."""
    for executor, task in tasks_of(SPECS["policy_pipeline"]).items():
        wanted = STEPS[step_of(executor)]
        if wanted.retries:
            last_s = int(task["retryPolicy"]["backoffMaxDuration"].removesuffix("s"))
            assert last_s >= wanted.retries * wanted.hours * 3600
            assert task["retryPolicy"]["backoffFactor"] == 1.0, "the tenth retry must not wait for hours"


def test_only_steps_whose_errors_are_outcomes_are_retried():
    """Whatever the cluster's policy: a typo (2) or broken data (3) leaves these steps with code 0, so what is retried is not it."""
    soft = {"train", "export", "evaluate", "train_rung", "evaluate_rung", "evaluate_share"}
    assert {step for step, wanted in STEPS.items() if wanted.retries} == soft
    assert [step for step, wanted in STEPS.items() if wanted.cache] == ["convert", "stats"]


@every_pipeline
def test_no_pod_installs_anything_and_every_image_is_a_parameter(name):
    for executor, task in tasks_of(SPECS[name]).items():
        container = SPECS[name]["deploymentSpec"]["executors"][executor]["container"]
        assert not [part for part in container["command"] if "pip install" in part]
        assert re.fullmatch(
            r"\{\{\$\.inputs\.parameters\['pipelinechannel--cluster_image_(data|train|sim)'\]\}\}", container["image"]
        )
        assert "env" not in container
        parameter = re.search(r"cluster_image_\w+", container["image"])[0]
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
    assert "cluster_gpu_count" in train["accelerator"]["resourceCount"]
    assert "cluster_gpu_type" in train["accelerator"]["resourceType"]
    parameters = SPECS["policy_pipeline"]["root"]["inputDefinitions"]["parameters"]
    assert {parameters[gpu]["parameterType"] for gpu in GPUS} == {"STRING"}


@every_pipeline
def test_secrets_are_references_and_optional(name):
    for executor, asked in executors_of(name).items():
        secrets = {one["secretName"]: one["keyToEnv"] for one in asked["secretAsEnv"]}
        notice = {"tendon-notify"} if step_of(executor) == "finish" else set()
        assert set(secrets) == {"tendon-store", "mlpipeline-minio-artifact", *notice}
        assert {key["secretKey"]: key["envVar"] for key in secrets["mlpipeline-minio-artifact"]} == {
            "accesskey": "TENDON_STOCK_ACCESS_KEY",
            "secretkey": "TENDON_STOCK_SECRET_KEY",
        }
        assert all(one["optional"] for one in (*asked["secretAsEnv"], *asked["configMapAsEnv"]))


@every_pipeline
def test_small_and_without_a_secret(name):
    """Far below the 1 MiB of a workflow: a loop's templates are shared by its trials, so 150 of them add no text."""
    assert len(TEXTS[name]) < (50_000 if name == "evaluate_pipeline" else 260_000)
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
        assert {defaults[p]["defaultValue"] for p in defaults if p.startswith("cluster_image_")} <= {
            built["reference"] for built in table.values()
        }
        for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
            labels = executor["podMetadata"]["labels"]
            assert labels["kueue.x-k8s.io/queue-name"] == "robots"
            assert labels["kueue.x-k8s.io/priority-class"] == "low"
            assert "tendon.io/step" in labels
    assert "tendon-data:0.1.0" not in (tmp_path / "out" / "policy_pipeline.yaml").read_text().split("root:")[1]


def test_a_cluster_gets_what_no_parameter_can_say(tmp_path, capsys):
    words = ["--output", str(tmp_path), "--image-prefix", "registry.example/team", "--parallel-trials", "9"]
    assert compiling.main([*words, "--shared-memory", "32Gi", "--pull-secret", "registry-key"]) == 0
    for name in PIPELINES:
        spec, platform = yaml.load_all((tmp_path / f"{name}.yaml").read_text(), LOADER)
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        defaults = spec["root"]["inputDefinitions"]["parameters"]
        images = [p["defaultValue"] for key, p in defaults.items() if key.startswith("cluster_image_")]
        assert all(image.startswith("registry.example/team/tendon-") for image in images)
        for executor in executors_of(name, {name: platform}).values():
            json_format.ParseDict(executor, KubernetesExecutorConfig())
            assert executor["imagePullSecret"][0]["secretName"] == "registry-key"
            assert {mount["sizeLimit"] for mount in executor.get("emptyDirMounts", ())} <= {"32Gi"}
        limits = [t["iteratorPolicy"] for dag in spec["components"].values() for t in tasks_with_limits(dag)]
        loops = {"evaluate_pipeline": 0, "sweep_pipeline": 5}.get(name, 3)  # trials twice, and evaluations; rungs
        assert limits == [{"parallelismLimit": 9}] * loops
        about = spec["pipelineInfo"]["description"]
        assert "Compiled for 9 trials at once; /dev/shm 32Gi for train" in about
        assert "pull secret registry-key" in about
        assert "Compiled for 4 trials at once; /dev/shm 8Gi for train" in SPECS[name]["pipelineInfo"]["description"]
        assert "imagePullSecret" not in TEXTS[name], "an empty one would hide those of the service account"


def tasks_with_limits(component):
    return [task for task in component.get("dag", {}).get("tasks", {}).values() if "iteratorPolicy" in task]


def test_options_of_a_cluster_need_a_folder(capsys):
    with pytest.raises(SystemExit) as left:
        compiling.main(["--image-prefix", "registry.example/"])
    assert left.value.code == 2
    assert "--output FOLDER" in capsys.readouterr().err


def test_a_release_pulls_its_images_by_digest(monkeypatch):
    monkeypatch.setattr(images, "DIGESTS", {"data": "sha256:" + "0" * 64})
    assert images.default_image("data", images.REGISTRY) == f"tendon-data@sha256:{'0' * 64}"
    assert images.default_image("train", images.REGISTRY) == f"tendon-train:{images.VERSION}"
    assert images.default_images("other.example")["data"] == f"other.example/tendon-data:{images.VERSION}", (
        "another registry need not have the same bytes"
    )


@pytest.mark.parametrize("name", ["policy_pipeline", "retrain_pipeline"])
def test_nothing_is_nested_for_one_worker_and_the_end_is_one_pod(name):
    """Every nesting costs a driver pod of ten seconds: the graph for one worker has the loop over trials and nothing else."""
    groups = {
        task["taskInfo"]["name"]
        for component in [SPECS[name]["root"], *SPECS[name]["components"].values()]
        for task in component.get("dag", {}).get("tasks", {}).values()
        if "dag" in SPECS[name]["components"][task["componentRef"]["name"]]
    }
    shared = {"more workers of the conversion", "more than one worker", "workers"}
    shared |= {"more workers of the evaluation", "more than one evaluator", "evaluations"}
    assert groups == {"run", "work", "shared work", "trials"} | shared
    within_work = next(
        tasks
        for component in SPECS[name]["components"].values()
        if "conclude" in (tasks := component.get("dag", {}).get("tasks", {}))
    )
    assert {task["taskInfo"]["name"] for task in within_work.values()} & groups == {"trials"}
    assert {"convert", "stats"} <= set(within_work)


def test_no_two_artifacts_of_a_run_have_one_name_but_metrics():
    spec = SPECS["policy_pipeline"]
    names = [
        artifact
        for label, component in spec["components"].items()
        if "executorLabel" in component and not re.search(r"-\d+$", label)  # of the graph with shares
        for artifact in component.get("outputDefinitions", {}).get("artifacts", {})
    ]
    assert sorted(names) == [
        *(
            "bundle",
            "checkpoint",
            "ending_page",
            "manifest",
            "metrics",
            "metrics",
            "report",
            "statistics",
            "trial_table",
        ),
    ]


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
