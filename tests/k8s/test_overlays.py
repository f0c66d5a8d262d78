"""Each overlay in other namespaces than its own: everything follows, and a stock install keeps what it has."""

import os

import pytest
import yaml

from pipelines.resources import PARALLEL_TRIALS, UI_ENDPOINT
from tendon.runs.sizing import MIDDLE, SMALL
from tests.k8s.rendering import FOLDERS, K8S, OVERLAYS, PARTS, by_kubectl, by_rules, kubectl, load, of_kind, rendered

OTHERS = ("robots", "team-a")
OF_THE_INSTALL = ("kubeflow",)  # where Kubeflow Pipelines is, whatever the namespace of the runs
INSTALLED = ("http://ml-pipeline.kubeflow:8888",)


def namespaces_in(objects):
    """Every place of an object that names a namespace."""
    for one in objects:
        where = f"{one['kind']}/{one['metadata']['name']}"
        if one["kind"] == "Namespace":
            yield where, one["metadata"]["name"]
        yield from _namespaces(one, where)


def _namespaces(node, where):
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("namespace", "kubernetes.io/metadata.name"):
                yield f"{where}/{key}", value
            yield from _namespaces(value, f"{where}/{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _namespaces(value, f"{where}/{number}")


@pytest.mark.parametrize("namespace", OTHERS)
@pytest.mark.parametrize("overlay", [*(f"overlays/{name}" for name in OVERLAYS), "schedule"])
def test_everything_follows_the_namespace_of_an_overlay(overlay, namespace):
    objects = rendered(overlay, namespace)
    named = dict(namespaces_in(objects))
    assert namespace in named.values()
    foreign = {where: value for where, value in named.items() if value != namespace}
    assert set(foreign.values()) <= set(OF_THE_INSTALL), foreign
    assert all(where.startswith("NetworkPolicy/") for where in foreign), "only the policy knows where the install is"
    assert ".tendon" not in yaml.safe_dump(objects), "a service by the name of a namespace"
    for binding in of_kind(objects, "RoleBinding").values():
        assert [subject["namespace"] for subject in binding["subjects"]] == [namespace]


def test_line_14_the_namespace_of_an_overlay_is_followed_also_by_runtime_and_queue():
    """As line 14 of what a real cluster showed: base/ worked in the namespace tendon only."""
    objects = rendered("overlays/gpu", "robots")
    for binding in of_kind(objects, "RoleBinding").values():
        assert [subject["namespace"] for subject in binding["subjects"]] == ["robots"]
    assert of_kind(objects, "TrainingRuntime")["tendon-nodes"]["metadata"]["namespace"] == "robots"
    assert of_kind(objects, "LocalQueue")["tendon"]["metadata"]["namespace"] == "robots"


def test_line_13_two_namespaces_share_the_cluster_queue():
    """It is one object for the cluster: with a namespace's name in it, the second overlay shut the first one out."""
    specs = [of_kind(rendered("overlays/gpu", name), "ClusterQueue")["tendon"]["spec"] for name in OTHERS]
    assert specs[0] == specs[1]
    admitted = specs[0]["namespaceSelector"]["matchLabels"]
    for name in OTHERS:
        labels = of_kind(rendered("overlays/gpu", name), "Namespace")[name]["metadata"]["labels"]
        assert admitted.items() <= labels.items()


@pytest.mark.skipif(not kubectl(), reason="kubectl kustomize is not there")
@pytest.mark.parametrize("namespace", ["", "robots"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_rules_of_these_tests_are_those_of_kustomize(folder, namespace):
    def sort(objects):
        return sorted(objects, key=lambda one: (one["kind"], one["metadata"]["name"]))

    assert sort(by_rules(folder, namespace)) == sort(by_kubectl(folder, namespace))


def test_the_rules_of_these_tests_notice_a_subject_that_stays_behind(monkeypatch, tmp_path):
    """As base/ was: a subject of another account keeps its namespace, and the check above would see it."""
    monkeypatch.setattr("tests.k8s.rendering.K8S", tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "kustomization.yaml").write_text("namespace: tendon\nresources: [a.yaml]\n")
    (tmp_path / "x" / "a.yaml").write_text(
        "kind: RoleBinding\nmetadata: {name: b}\nsubjects: [{kind: ServiceAccount, name: other, namespace: tendon}]\n"
    )
    assert "tendon" in dict(namespaces_in(by_rules("x", "robots"))).values()


@pytest.mark.parametrize("overlay", ["kubeflow", "profile"])
def test_a_namespace_that_others_made_is_left_alone(overlay):
    objects = rendered(f"overlays/{overlay}")
    kinds = {one["kind"] for one in objects}
    assert not kinds & {"Namespace", "ResourceQuota", "LimitRange"}, "they would hit the pods of the install"
    assert "ServiceAccount" in kinds
    for policy in of_kind(objects, "NetworkPolicy").values():
        assert policy["spec"]["podSelector"] == {"matchLabels": {"app.kubernetes.io/part-of": "tendon"}}
    for one in objects:
        assert one["metadata"]["name"].startswith("tendon"), "nothing of the install is replaced"


def test_a_single_user_install_gets_everything_where_its_runs_are():
    objects = rendered("overlays/kubeflow")
    assert {one["metadata"]["namespace"] for one in objects} == {"kubeflow"}


def test_no_overlay_names_an_endpoint_that_would_hide_the_one_of_the_install():
    for overlay in OVERLAYS:
        settings = of_kind(rendered(f"overlays/{overlay}"), "ConfigMap")["tendon-store"]["data"]
        assert set(settings) <= {"AWS_DEFAULT_REGION", UI_ENDPOINT}


def amount(quantity):
    """A Kubernetes quantity as a number."""
    text = str(quantity)
    for unit, factor in {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)


def pods_that_fit(objects, cpu, memory):
    """How many pods of a step the quota admits: the step itself, and beside it Argo's container, which gets the defaults."""
    hard = of_kind(objects, "ResourceQuota")["tendon"]["spec"]["hard"]
    (limits,) = of_kind(objects, "LimitRange")["tendon"]["spec"]["limits"]
    asked, most = limits["defaultRequest"], limits["default"]
    return int(
        min(
            amount(hard["requests.cpu"]) / (amount(cpu) + amount(asked["cpu"])),
            amount(hard["requests.memory"]) / (amount(memory) + amount(asked["memory"])),
            amount(hard["limits.memory"]) / (amount(memory) + amount(most["memory"])),
        )
    )


@pytest.mark.parametrize("size", [SMALL, MIDDLE])
def test_the_local_quota_lets_all_parallel_trials_in(size):
    assert pods_that_fit(rendered("overlays/local"), *size) >= PARALLEL_TRIALS


def test_the_local_quota_lets_more_than_one_large_trial_in():
    """It was one of 16 GiB: cluster.md 2.12."""
    assert pods_that_fit(rendered("overlays/local"), "4", "16Gi") >= 2


def test_a_container_that_asks_for_nothing_can_start_a_training_node():
    """A node of a TrainJob peaked at 1.10 GB and got 1 GiB."""
    for overlay in ("local", "gpu"):
        (limits,) = of_kind(rendered(f"overlays/{overlay}"), "LimitRange")["tendon"]["spec"]["limits"]
        assert amount(limits["default"]["memory"]) > 1.5e9
        assert "cpu" not in limits["default"]


def test_the_queue_has_the_version_that_kueue_stores():
    objects = rendered("overlays/gpu")
    assert {one["apiVersion"] for one in objects if "kueue" in one["apiVersion"]} == {"kueue.x-k8s.io/v1beta2"}


def test_a_namespace_of_our_own_is_let_to_the_object_store():
    """Kubeflow's policy on seaweedfs admits namespaces with this label only."""
    for overlay in ("local", "gpu"):
        (namespace,) = of_kind(rendered(f"overlays/{overlay}"), "Namespace").values()
        assert namespace["metadata"]["labels"]["app.kubernetes.io/part-of"] == "kubeflow-profile"


def test_nothing_is_left_out_of_a_kustomization():
    for folder in map(K8S.joinpath, (*FOLDERS, *PARTS)):
        (made,) = load(folder / "kustomization.yaml")
        there = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
        named = [*made["resources"], *made.get("configurations", ())]
        assert there == {name for name in named if name.endswith(".yaml")}


@pytest.mark.parametrize(
    "parts", [("overlays/profile", "schedule"), ("overlays/kubeflow", "nodes", "queue", "schedule")]
)
def test_parts_can_be_put_together_in_one_namespace(parts, tmp_path, monkeypatch):
    """As the README shows: no object twice, and all of them in the one namespace, the queue's selector too."""
    above = tmp_path.resolve() / "mine"
    above.mkdir()
    resources = [os.path.relpath(K8S / part, above) for part in parts]
    (above / "kustomization.yaml").write_text(yaml.safe_dump({"namespace": "robots", "resources": resources}))
    for render in (by_rules, by_kubectl) if kubectl() else (by_rules,):
        monkeypatch.setattr("tests.k8s.rendering.K8S", above.parent)
        objects = render("mine")
        names = [(one["kind"], one["metadata"]["name"]) for one in objects]
        assert len(names) == len(set(names))
        assert set(dict(namespaces_in(objects)).values()) <= {"robots", *OF_THE_INSTALL}
