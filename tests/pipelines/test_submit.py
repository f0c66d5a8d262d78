"""submit.py against a server that answers like the Kubeflow Pipelines API: what is checked and sent, and what is waited for."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from components.images import VERSION
from pipelines import submit
from pipelines.client import forms
from pipelines.client.connection import TOKEN
from pipelines.client.cron import cron_problems
from tendon.errors import ConfigError
from tests.pipelines.fake_kfp import do, run

SWEEP = '[{"key": "training.lr", "name": "lr", "group": 0, "values": [0.1, 0.01]}]'


def test_a_run_is_submitted_with_typed_arguments_and_waited_for(kubeflow, capfd):
    assert run(kubeflow, "evaluate_episodes=100", "gate_promote=true", "data_name=5", f"policy_sweep={SWEEP}") == 0
    (sent,) = kubeflow.submitted
    assert sent["runtime_config"]["parameters"] == {
        "evaluate_episodes": 100,
        "gate_promote": True,
        "data_name": "5",
        "policy_sweep": json.loads(SWEEP),
    }
    assert sent["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "policy-pipeline"
    out = capfd.readouterr().out
    assert f"{kubeflow.url}/#/runs/details/r1" in out
    assert "SUCCEEDED" in out


def test_waiting_ends_but_the_run_goes_on(kubeflow, capfd):
    kubeflow.script = ["RUNNING"]
    assert run(kubeflow, "--timeout", "0.05") == 75
    assert "still RUNNING" in capfd.readouterr().err


def test_another_pipeline_has_another_form(kubeflow, capfd):
    assert run(kubeflow, "--pipeline", "retrain", "data_force=true", 'cluster_node_selector={"pool": "gpu"}') == 0
    (sent,) = kubeflow.submitted
    assert sent["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "retrain-pipeline"
    assert sent["runtime_config"]["parameters"] == {"data_force": True, "cluster_node_selector": {"pool": "gpu"}}
    assert run(kubeflow, "--pipeline", "retrain", "gate_promote=true") == 2
    assert run(kubeflow, "--pipeline", "nothing.yaml") == 2


# ------------------------------------------------------------------------------------------------------ before it is sent


def test_wrong_arguments_are_all_named_before_anything_is_sent(kubeflow, capfd):
    words = ["evaluate_episods=3", "gate_promote=maybe", "evaluate_episodes=2.5", "policy_sweep={}"]
    assert run(kubeflow, *words) == 2
    err = capfd.readouterr().err
    assert err.count("error:") == 4
    assert "did you mean evaluate_episodes=...?" in err
    assert kubeflow.log == []


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("policy_config=experiment=reach_bx", "reach_bc"),
        ("policy_config=training.of_steps=5", "offline_steps"),
        ("policy_config=training.lr=fast", "training.lr"),
        ('policy_sweep=[{"key": "training.lrr", "values": [1, 2]}]', "training.lr"),
        ('policy_sweep=[{"key": "training.lr", "values": []}]', "values"),
        ('policy_sweep=[{"key": "data.resize", "values": [[1, 2], [3, 4]]}]', "cannot be swept"),
        ("evaluate_episodes=0", "1 or more"),
        ("data_convert_workers=65", "1 to 64"),
        ("cluster_trainjob_nodes=0", "1 or more"),
        ("policy_trials_per_pod=0", "1 to 150"),
        ("policy_trial_retries=-1", "0 to 20"),
        ("gate_floor=1.5", "a share from 0 to 1"),
        ("gate_alpha=0", "more than 0"),
        ("gate_test=anytme", "fixed looks once"),
        ("cluster_cpu_train=lots", "500m or 2"),
        ("cluster_memory_sim=16", "1Gi or 512Mi"),
        ("cluster_gpu_count=one", "whole number"),
        ("cluster_notify_when=sometimes", "never, failure, always"),
        ("data_name=a/b", "folder name"),
        ("gate_champion=", "folder name"),
        ("data_source_uri=s3://bucket/my file.hdf5", "space"),
        ("cluster_image_sim=", "image"),
        ('cluster_node_selector={"pool": 3}', "labels of nodes are text"),
        ('cluster_node_tolerations=[{"key": "spot", "operator": "Is"}]', "Exists or Equal"),
        ('cluster_node_tolerations=[{"key": "spot", "effct": "NoSchedule"}]', "effct"),
        ('cluster_node_tolerations=["spot"]', "JSON object"),
    ],
)
def test_what_cannot_work_is_refused_before_it_costs_a_pod(kubeflow, capfd, word, words):
    assert run(kubeflow, word) == 2
    err = capfd.readouterr().err
    assert words in err
    assert err.count("error:") == 1
    assert kubeflow.log == []


def test_the_configuration_and_the_numbers_are_judged_together(kubeflow, capfd):
    assert run(kubeflow, "policy_config=training.of_steps=5 policy=bd", "evaluate_confirm_episodes=0", "x=1") == 2
    err = capfd.readouterr().err
    assert err.count("error:") == 4


def test_a_bundle_has_to_be_named_to_be_evaluated(kubeflow, capfd):
    assert run(kubeflow, "--pipeline", "evaluate") == 2
    assert "evaluate_bundle_uri is empty" in capfd.readouterr().err
    assert run(kubeflow, "--pipeline", "evaluate", "evaluate_bundle_uri=s3://b/t", "cluster_cpu_sim=") == 2
    assert "nobody sizes it" in capfd.readouterr().err
    assert run(kubeflow, "--pipeline", "evaluate", "evaluate_bundle_uri=s3://b/t", "evaluate_overrides=a b") == 2
    assert run(kubeflow, "--pipeline", "evaluate", "evaluate_bundle_uri=s3://b/t") == 0


def test_an_old_name_is_refused_with_the_new_one(kubeflow, capfd):
    assert run(kubeflow, "source_uri=s3://b/x", "episodes=5", "config=experiment=reach_bc") == 2
    err = capfd.readouterr().err
    assert "source_uri is now called data_source_uri" in err
    assert "data_source_uri=s3://b/x" in err
    assert "evaluate_episodes=5" in err
    assert "policy_config=experiment=reach_bc" in err


def test_words_that_are_no_arguments_are_refused():
    with pytest.raises(ConfigError):
        submit.typed(["evaluate_episodes"])


@pytest.mark.parametrize(
    "line", ["0 0 3 * * *", "0 */15 0-6,12 ? JAN-MAR MON", "30 5 4 1,15 * 0-6/2", "0 0 0 31 2 MON"]
)
def test_cron_lines_that_kubeflow_takes(line):
    assert cron_problems(line) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 3 * * *", 'did you mean --cron "0 0 3 * * *"?'),
        ("nightly", "six fields"),
        ("0 0 25 * * *", "0 to 23"),
        ("0 60 3 * * *", "0 to 59"),
        ("0 0 3 * * 7", "0 to 6 or SUN"),
        ("0 0 3 * FEBRUARY *", "FEB"),
        ("0 0 5-3 * * *", "backwards"),
        ("0 */0 3 * * *", "no step"),
        ("? 0 3 * * *", "no number"),
        ("0 0 0 31 FEB,APR *", "never comes"),
    ],
)
def test_cron_lines_that_it_would_refuse(line, words):
    assert words in "\n".join(map(str, cron_problems(line)))


def test_a_wrong_schedule_is_told_with_its_wrong_arguments(kubeflow, capfd):
    assert do(kubeflow, "schedule", "--cron", "0 60 25 * * *", "evaluate_episodes=0") == 2
    assert capfd.readouterr().err.count("error:") == 3
    assert kubeflow.log == []


# ------------------------------------------------------------------------------------------------- where it does not work


def test_refused_and_unreachable_say_so_without_a_secret(kubeflow, capfd, monkeypatch):
    monkeypatch.setenv(TOKEN, "hush-hush")
    kubeflow.token = "another"
    assert run(kubeflow) == 4
    assert run(kubeflow, host="http://127.0.0.1:9") == 4
    err = capfd.readouterr().err
    assert TOKEN in err
    assert "hush-hush" not in err
    assert err.count("error:") == 2


@pytest.mark.parametrize("behind_a_proxy", [False, True])
def test_an_unreachable_host_is_four_lines(kubeflow, behind_a_proxy):
    """In a process of its own: pytest would catch the tracebacks that kfp's client logs, one for each of five attempts."""
    kubeflow.refuse["GET /healthz"] = (503, {"message": "no healthy upstream"})
    words = [sys.executable, submit.__file__, "watch", "r7"]
    words += ["--host", kubeflow.url if behind_a_proxy else "http://127.0.0.1:9"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 4
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["error", "where", "why", "fix"]


def test_an_address_that_is_no_api_is_four_lines(kubeflow, capfd):
    kubeflow.refuse["GET /healthz"] = (200, "<html>log in</html>")
    assert run(kubeflow) == 4
    assert "not the API of Kubeflow" in capfd.readouterr().err
    assert run(kubeflow, host="kubeflow.example") == 2
    assert "https://kubeflow.example" in capfd.readouterr().err


def test_a_namespace_is_refused_by_a_single_user_install(kubeflow, capfd):
    assert run(kubeflow, "--namespace", "tendon") == 2
    err = capfd.readouterr().err
    assert "single-user" in err
    assert "k8s/overlays/kubeflow" in err
    assert kubeflow.submitted == []
    assert run(kubeflow, "--namespace", "kubeflow") == 0


def test_a_multi_user_install_wants_a_namespace_and_a_token(kubeflow, capfd, monkeypatch):
    kubeflow.multi_user, kubeflow.token = True, "key"
    assert run(kubeflow, "--namespace", "team") == 4
    assert "User identity is empty" in capfd.readouterr().err
    monkeypatch.setenv(TOKEN, "key")
    assert run(kubeflow) == 2
    assert "--namespace PROFILE" in capfd.readouterr().err
    assert run(kubeflow, "--namespace", "team", "--experiment", "nightly") == 0
    (experiment,) = kubeflow.experiments.values()
    assert (experiment["display_name"], experiment["namespace"]) == ("nightly", "team")
    assert kubeflow.submitted[0]["experiment_id"] == experiment["experiment_id"]
    assert do(kubeflow, "list", "--namespace", "team") == 0
    assert "r1" in capfd.readouterr().out


def test_the_token_of_a_pod_is_found(kubeflow, monkeypatch, tmp_path):
    kubeflow.token = "mounted"
    (tmp_path / "token").write_text("mounted\n")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assert run(kubeflow) == 0


# ----------------------------------------------------------------------------------------------------------------- images


def test_an_image_prefix_changes_the_images_that_nobody_named(kubeflow):
    assert run(kubeflow, "--image-prefix", "ghcr.io/lab/", "cluster_image_sim=mine:1") == 0
    parameters = kubeflow.submitted[0]["runtime_config"]["parameters"]
    default = submit.Form.of("policy").fields["cluster_image_data"].default.rpartition("/")[2]
    assert parameters["cluster_image_data"] == f"ghcr.io/lab/{default}"
    assert parameters["cluster_image_sim"] == "mine:1"


def test_an_image_prefix_changes_what_is_published(kubeflow):
    assert do(kubeflow, "publish", "--image-prefix", "ghcr.io/lab") == 0
    (version,) = kubeflow.versions
    assert f"ghcr.io/lab/tendon-data:{VERSION}" in version["yaml"]
    assert f" tendon-data:{VERSION}" not in version["yaml"]


def test_a_version_is_published_once(kubeflow, capfd, tmp_path):
    kubeflow.versions.append({"pipeline_version_id": "v", "display_name": "somebody else's", "pipeline_id": "p1"})
    assert do(kubeflow, "publish") == 0
    assert do(kubeflow, "publish") == 0
    assert [version["pipeline_id"] for version in kubeflow.versions] == ["p1", "p1"]
    assert [one["name"] for one in kubeflow.pipelines.values()] == ["policy-pipeline"]
    assert "there already" in capfd.readouterr().out
    changed = tmp_path / "changed.yaml"
    changed.write_text((forms.COMPILED / "policy_pipeline.yaml").read_text() + "# changed\n")
    assert do(kubeflow, "publish", "--pipeline", str(changed)) == 0
    names = [version["display_name"] for version in kubeflow.versions[1:]]
    assert len(set(names)) == 2


@pytest.mark.parametrize("pipeline", ["policy", "retrain", "evaluate"])
def test_what_is_published_describes_every_parameter(kubeflow, pipeline):
    assert do(kubeflow, "publish", "--pipeline", pipeline) == 0
    fields = submit.Form.of(pipeline).fields
    for text in (kubeflow.pipelines["p1"]["description"], kubeflow.versions[0]["description"]):
        rows = [line for line in text.splitlines() if line.startswith("| `")]
        assert [row.split("`")[1] for row in rows] == list(fields)
        assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)
    assert fields["cluster_notify_when"].help in kubeflow.pipelines["p1"]["description"]
    (request,) = [line for line in kubeflow.log if "upload_version" in line]
    assert len(request) < 8000


# ------------------------------------------------------------------------------------------------------------ the workflow


def test_the_workflow_that_retrains_uses_words_that_exist():
    workflow = yaml.safe_load((submit.ROOT / ".github" / "workflows" / "retrain.yml").read_text(encoding="utf-8"))
    assert {"schedule", "workflow_dispatch"} <= set(workflow[True])  # YAML reads `on` as true
    commands = "\n".join(step.get("run", "") for step in workflow["jobs"]["retrain"]["steps"])
    fields = submit.Form.of("retrain").fields
    keys = set(re.findall(r'"(\w+)=\$', commands))
    assert keys == {"data_source_uri", "data_store_uri", "policy_config", "data_force"}
    assert keys <= set(fields)
    assert "secrets." not in commands
    (line,) = [line for line in commands.replace("\\\n", " ").splitlines() if "submit.py submit" in line]
    options = submit._parser().parse_args(line.split("submit.py ")[1].split("${SOURCE")[0].replace('"', "").split())
    assert options.pipeline == "retrain"
