"""Objects of Trainer and Kueue held against the CRDs of their releases (crds.json): types, unknown fields, what is required."""

import functools
import json
import re
from pathlib import Path

from tendon.train.distributed.job_spec import (
    OVERRIDES,
    PATCHES,
    SPEC_OVERRIDES,
    TEMPLATE_OVERRIDES,
    JobSpec,
    NodePlacement,
)

PLACEMENT = NodePlacement(
    {"pool": "gpu"}, [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}], ["registry"], "tendon-training"
)
FIELD_OF = {"2.0.0": SPEC_OVERRIDES, "2.1.0": TEMPLATE_OVERRIDES, "2.2.0": PATCHES, "2.3.0": PATCHES}
NODES, GPUS, QUEUES = (2, 8), ("0", "1", "8"), ("", "tendon")  # one node makes no TrainJob


def plans():
    """Every plan: nodes, GPUs, queue or none, placed or not, with sizes or without."""
    for nodes in NODES:
        for gpus in GPUS:
            for queue in QUEUES:
                for placement in (NodePlacement(), PLACEMENT):
                    for cpu, memory in (("", ""), ("500m", "2Gi")):
                        arguments = ("--run-uri", "s3://b/runs/r", "--trial", "base")
                        yield JobSpec(
                            "tendon-728c8f1d22e1fdce-0a1b2c3d", "tendon-train:0.1.0", arguments, nodes, gpus, queue=queue,
                            processes=int(gpus) or 1, cpu=cpu, memory=memory, trial_uri="s3://b/trials/k", placement=placement,
                        )  # fmt: skip


def objects_of_plans(overrides=OVERRIDES):
    """The TrainJobs of every plan, in each of these forms."""
    return [plan.manifest(form) for plan in plans() for form in overrides]


@functools.cache
def crds():
    return json.loads((Path(__file__).parent / "crds.json").read_text())["kinds"]


def releases(kind, version):
    """The releases that serve this version of the kind, with their schemas."""
    for group in crds()[kind].get(version, ()):
        for release in group["releases"]:
            yield release, group["schema"]


def problems(schema, value, path=""):
    """Everything about a value that its schema refuses; a field that it does not know too."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return []
    if schema.get("x-kubernetes-int-or-string"):
        found = [] if isinstance(value, int | str) and not isinstance(value, bool) else [f"{path}: no number or text"]
        return found + _pattern(schema, str(value), path)
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if not isinstance(value, kinds[schema["type"]]) or (schema["type"] == "integer" and isinstance(value, bool)):
        return [f"{path}: not of type {schema['type']}"]
    found = [f"{path}: {value!r} is none of {schema['enum']}"] if value not in schema.get("enum", [value]) else []
    if isinstance(value, dict):
        found += [f"{path}: {name} is missing" for name in schema.get("required", ()) if name not in value]
        for name, inner in value.items():
            known = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            found += [f"{path}.{name}: unknown field"] if known is None else problems(known, inner, f"{path}.{name}")
    elif isinstance(value, list):
        found += [
            one for number, inner in enumerate(value) for one in problems(schema["items"], inner, f"{path}[{number}]")
        ]
        if len(value) < schema.get("minItems", 0) or len(value) > schema.get("maxItems", 10**6):
            found.append(f"{path}: {len(value)} items")
    elif isinstance(value, str):
        found += _pattern(schema, value, path)
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**6):
            found.append(f"{path}: {len(value)} characters")
    elif value < schema.get("minimum", value) or value > schema.get("maximum", value):
        found.append(f"{path}: {value} is out of range")
    return found


def _pattern(schema, text, path):
    return [f"{path}: {text!r} is no {schema['pattern']}"] if not re.search(schema.get("pattern", ""), text) else []


def immutable_fields(schema, path=""):
    """Paths of an object that may not change after it was made."""
    for name, inner in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        if "self == oldSelf" in inner.get("x-kubernetes-validations", ()):
            yield here
        else:
            yield from immutable_fields(inner, here)


def empty_values(value, path=""):
    """Where an object has nothing: a controller that reads it and writes it back leaves these out, which is a change."""
    if value in ({}, [], "", None):
        yield path
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from empty_values(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from empty_values(inner, f"{path}[{number}]")
