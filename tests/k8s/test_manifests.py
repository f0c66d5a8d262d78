"""The manifests: what kustomize would make of them, held against Kubernetes' own schemas and against the pipelines."""

import re

import pytest

from pipelines.resources import NOTIFY_SECRET, STORE_KEYS, STORE_SECRET, STORE_SETTINGS
from tests.k8s.rendering import FOLDERS, K8S, OVERLAYS, load, of_kind, rendered

CUSTOM = ("kueue.x-k8s.io", "trainer.kubeflow.org", "external-secrets.io")  # test_custom_objects.py


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_object_fits_the_schema_of_its_kind(folder):
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate").validate
    objects = rendered(folder)
    assert objects
    for one in objects:
        if not one["apiVersion"].startswith(CUSTOM):
            validate(one, "1.31", strict=True)


def test_the_schema_checker_finds_a_typo():
    checker = pytest.importorskip("kubernetes_validate")
    job = of_kind(rendered("schedule"), "CronJob")["tendon-retrain"]
    job["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(checker.ValidationError):
        checker.validate(job, "1.31", strict=True)


@pytest.mark.parametrize("path", sorted(K8S.rglob("*.yaml")), ids=lambda path: str(path.relative_to(K8S)))
def test_every_file_is_an_object_without_a_value_of_a_secret(path):
    for one in load(path):
        assert {"apiVersion", "kind"} <= set(one)
        if one.get("kind") == "Secret":
            assert not any(one["stringData"].values())
    assert not re.search(r"AKIA[0-9A-Z]{16}", path.read_text())


def test_names_are_those_of_the_pipelines():
    examples = {one["metadata"]["name"]: one for one in load(K8S / "examples" / "secret.yaml")}
    assert set(examples) == {STORE_SECRET, NOTIFY_SECRET}
    assert set(examples[STORE_SECRET]["stringData"]) <= set(STORE_KEYS)
    for overlay in OVERLAYS:
        maps = of_kind(rendered(f"overlays/{overlay}"), "ConfigMap")
        assert set(maps[STORE_SECRET]["data"]) <= set(STORE_SETTINGS)


@pytest.mark.parametrize("path", sorted(K8S.rglob("*.yaml")), ids=lambda path: str(path.relative_to(K8S)))
def test_only_a_kustomization_names_a_namespace(path):
    if path.name != "kustomization.yaml":
        for one in load(path):
            assert "namespace" not in one.get("metadata", {}), "it would stay behind when an overlay sets another"
            assert not any("namespace" in subject for subject in one.get("subjects", ()))
