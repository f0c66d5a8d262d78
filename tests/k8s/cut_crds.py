"""Write crds.json: ``python -m tests.k8s.cut_crds FOLDER``, with files such as ``trainjobs-v2.3.0.yaml`` as they were published.

Only the fields that our objects have stay, without texts; whatever else an object has is then unknown.
"""

import json
import sys
from pathlib import Path

import yaml

from tests.k8s.custom_objects import objects_of_plans
from tests.k8s.rendering import rendered

SOURCE = (
    "Cut by tests/k8s/cut_crds.py from the published CRDs: kubeflow/trainer manifests/base/crds at v2.0.0, v2.1.0, v2.2.0, v2.3.0; "
    "kubernetes-sigs/kueue config/components/crd/bases at v0.14.0 to v0.19.0 and, as 0.20, at ff69552e79 of its main branch."
)
KINDS = ("TrainJob", "TrainingRuntime", "ClusterQueue", "LocalQueue", "ResourceFlavor", "WorkloadPriorityClass")
KEPT = ("type", "enum", "pattern", "required", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
KEPT = (*KEPT, "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields")
RULES = "x-kubernetes-validations"
EACH = "*"


def fields_of(value, tree):
    """The paths of a value, added to a tree of dictionaries."""
    if isinstance(value, dict):
        for name, inner in value.items():
            fields_of(inner, tree.setdefault(name, {}))
    elif isinstance(value, list):
        for inner in value:
            fields_of(inner, tree.setdefault(EACH, {}))


def cut(schema, tree):
    """A schema without what the tree does not have."""
    made = {key: schema[key] for key in KEPT if key in schema}
    if RULES in schema:
        made[RULES] = [rule["rule"] for rule in schema[RULES]]
    if "properties" in schema:
        made["properties"] = {
            name: cut(inner, tree[name]) for name, inner in schema["properties"].items() if name in tree
        }
    if "additionalProperties" in schema:
        made["additionalProperties"] = cut(schema["additionalProperties"], {})
    if "items" in schema:
        made["items"] = cut(schema["items"], tree.get(EACH, {}))
    return made


def main(folder):
    """Every kind, every version, every release; releases that say the same stand together."""
    loader, trees, kinds = getattr(yaml, "CSafeLoader", yaml.SafeLoader), {}, {}
    for one in [*objects_of_plans(), *rendered("overlays/gpu")]:
        if one["kind"] in KINDS:
            fields_of(
                {name: inner for name, inner in one.items() if name != "metadata"}, trees.setdefault(one["kind"], {})
            )
    for kind in KINDS:
        plural = f"{kind.lower()}es" if kind.endswith("s") else f"{kind.lower()}s"
        for path in sorted(Path(folder).glob(f"{plural}-v*.yaml")):
            for version in yaml.load(path.read_text(), loader)["spec"]["versions"]:
                schema = cut(version["schema"]["openAPIV3Schema"], trees[kind])
                schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                groups = kinds.setdefault(kind, {}).setdefault(version["name"], [])
                group = next((one for one in groups if one["schema"] == schema), None)
                if group is None:
                    groups.append(group := {"releases": [], "schema": schema})
                group["releases"].append(path.stem.partition("-v")[2])
    text = json.dumps({"source": SOURCE, "kinds": kinds}, separators=(",", ":"), sort_keys=True)
    Path(__file__).with_name("crds.json").write_text(text.replace('{"releases"', '\n{"releases"') + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
