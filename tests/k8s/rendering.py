"""What ``kubectl apply -k`` would send: by kubectl where there is one, and by the parts of kustomize's rules that k8s/ uses."""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

K8S = Path(__file__).resolve().parents[2] / "k8s"
OVERLAYS = ("kubeflow", "profile", "local", "gpu")
FOLDERS = (*(f"overlays/{name}" for name in OVERLAYS), "nodes", "queue", "schedule", "retries")
PARTS = ("base", "namespace")  # applied by overlays only
KNOWN = {"apiVersion", "kind", "namespace", "resources", "patches", "configMapGenerator", "generatorOptions"}


def load(path):
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


@functools.cache
def kubectl():
    """The command that renders, empty where there is none."""
    path = shutil.which("kubectl")
    works = path and subprocess.run([path, "kustomize", "--help"], capture_output=True, check=False).returncode == 0
    return path if works else ""


def rendered(folder, namespace=""):
    """The objects of a folder of k8s/, or of a kustomization above it that sets another namespace."""
    return by_kubectl(folder, namespace) if kubectl() else by_rules(folder, namespace)


def by_kubectl(folder, namespace=""):
    return [one for one in yaml.safe_load_all(_kubectl_text(folder, namespace)) if one]


@functools.cache
def _kubectl_text(folder, namespace):
    with tempfile.TemporaryDirectory() as above:
        target = K8S / folder
        if namespace:
            target = Path(above).resolve()
            made = {"namespace": namespace, "resources": [os.path.relpath(K8S / folder, target)]}
            (target / "kustomization.yaml").write_text(yaml.safe_dump(made))
        done = subprocess.run([kubectl(), "kustomize", str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_rules(folder, namespace=""):
    objects, places = _objects(K8S / folder)
    if namespace:
        _set_namespace(objects, namespace, places)
    return objects


def _objects(folder):
    """The objects of a kustomization, and where its namespace goes besides metadata.namespace."""
    (made,) = load(folder / "kustomization.yaml")
    assert set(made) <= KNOWN | {"configurations"}, "teach this file about it"
    objects, places = [], []
    for resource in made["resources"]:
        path = (folder / resource).resolve()
        assert path.exists(), resource
        more, its_places = _objects(path) if path.is_dir() else (load(path), [])
        objects, places = objects + more, places + its_places
    for name in made.get("configurations", ()):
        places += load(folder / name)[0]["namespace"]
    for generator in made.get("configMapGenerator", ()):
        data = {name: (folder / name).read_text() for name in generator["files"]}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data})
    for patch in made.get("patches", ()):
        _patch(objects, patch)
    if "namespace" in made:
        _set_namespace(objects, made["namespace"], places)
    return objects, places


def _patch(objects, patch):
    matched = [one for one in objects if (one["kind"], one["metadata"]["name"]) == tuple(patch["target"].values())]
    assert len(matched) == 1, patch["target"]
    for change in yaml.safe_load(patch["patch"]):
        *parents, last = (part.replace("~1", "/") for part in change["path"].strip("/").split("/"))
        at = matched[0]
        for part in parents:
            at = at[part]
        assert change["op"] == "add" or last in at, change
        at[last] = change["value"]


def _set_namespace(objects, namespace, places):
    accounts = {one["metadata"]["name"] for one in objects if one["kind"] == "ServiceAccount"}
    for one in objects:
        if one["kind"] == "Namespace":
            one["metadata"]["name"] = namespace
        else:  # also of Kueue's kinds without one, as kustomize does, which does not know them; the API server takes it away
            one["metadata"]["namespace"] = namespace
        for subject in one.get("subjects", ()):
            if subject["name"] in accounts:
                subject["namespace"] = namespace
        for place in places:
            if place["kind"] == one["kind"]:
                *parents, last = place["path"].replace("\\/", "\0").split("/")
                at = one
                for part in parents:
                    at = at[part]
                at[last.replace("\0", "/")] = namespace


def of_kind(objects, kind):
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def pod_templates(objects):
    """Every pod that the objects make, by kind and name."""
    found = {}
    for one in objects:
        specs = [one["spec"]] if one["kind"] == "Pod" else list(_specs_of_templates(one.get("spec")))
        for number, spec in enumerate(specs):
            found[f"{one['kind']}/{one['metadata']['name']}/{number}"] = spec
    return found


def _specs_of_templates(node):
    if isinstance(node, dict):
        template = node.get("template")
        if isinstance(template, dict) and "containers" in (template.get("spec") or {}):
            yield template["spec"]
        for value in node.values():
            yield from _specs_of_templates(value)
    elif isinstance(node, list):
        for value in node:
            yield from _specs_of_templates(value)
