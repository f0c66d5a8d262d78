"""TrainJobs of every plan, our runtime and Kueue's objects fit every release of their operators."""

import copy
import json

import pytest

from tests.k8s.custom_objects import (
    FIELD_OF,
    crds,
    empty_values,
    immutable_fields,
    objects_of_plans,
    plans,
    problems,
    releases,
)
from tests.k8s.rendering import OVERLAYS, pod_templates, rendered
from tests.k8s.restricted import violations

TRAINERS, KUEUES = ("2.0.0", "2.1.0", "2.2.0", "2.3.0"), ("0.15.0", "0.16.0", "0.17.0", "0.18.0", "0.19.0", "0.20")


def ours():
    """Every custom object of every folder."""
    for folder in (*(f"overlays/{name}" for name in OVERLAYS), "nodes", "queue"):
        for one in rendered(folder):
            if one["apiVersion"].startswith(("trainer.", "kueue.")):
                yield pytest.param(one, id=f"{folder} {one['kind']} {one['metadata']['name']}")


@pytest.mark.parametrize("one", ours())
def test_our_objects_fit_every_release(one):
    version = one["apiVersion"].split("/")[1]
    seen = [release for release, schema in releases(one["kind"], version) if problems(schema, one) == []]
    assert seen == list(TRAINERS if one["kind"] == "TrainingRuntime" else KUEUES)


@pytest.mark.parametrize("one", [one for one in ours() if "Queue" in one.id or "Flavor" in one.id or "Class" in one.id])
def test_kueue_0_14_takes_the_same_as_v1beta1(one):
    """It does not know v1beta2; the README says what to change."""
    assert [problems(schema, one) for release, schema in releases(one["kind"], "v1beta1") if release == "0.14.0"] == [
        []
    ]


@pytest.mark.parametrize("release", TRAINERS)
def test_the_job_of_every_plan_fits_the_release(release):
    jobs = [plan.manifest(FIELD_OF[release]) for plan in plans()]
    assert len(jobs) == 48
    (schema,) = [schema for name, schema in releases("TrainJob", "v1alpha1") if name == release]
    for job in jobs:
        assert problems(schema, job) == []
        assert len(job["metadata"]["name"]) <= 63


@pytest.mark.parametrize("release", TRAINERS)
def test_the_form_of_another_release_is_refused(release):
    """So the waiter hears of it and takes the next one; without strict decoding the field would be dropped in silence."""
    (schema,) = [schema for name, schema in releases("TrainJob", "v1alpha1") if name == release]
    placed = next(plan for plan in plans() if plan.placement.node_selector)
    for field in set(FIELD_OF.values()) - {FIELD_OF[release]}:
        assert problems(schema, placed.manifest(field)) == [f".spec.{field}: unknown field"]


def test_nothing_that_may_not_change_is_empty():
    """`resourcesPerNode: {limits: {}, requests: {}}` comes back without both: "spec.trainer: field is immutable" for ever."""
    fixed = {path for _, schema in releases("TrainJob", "v1alpha1") for path in immutable_fields(schema)}
    assert {".spec.trainer", ".spec.runtimeRef"} <= fixed
    for job in objects_of_plans():
        assert not [path for path in empty_values(job) if path.startswith(tuple(fixed))]
    recorded = {"spec": {"trainer": {"resourcesPerNode": {"limits": {}, "requests": {}}}}}
    assert len(list(empty_values(recorded))) == 2


def test_the_checker_finds_what_is_wrong():
    (runtime,) = [one.values[0] for one in ours() if one.id.startswith("nodes ")]
    ((_, schema),) = [pair for pair in releases("TrainingRuntime", "v1alpha1") if pair[0] == "2.3.0"]
    for path, value, told in (
        (("spec", "template", "spec", "replicatedJob"), [], "unknown field"),
        (("spec", "mlPolicy", "numNodes"), "2", "not of type integer"),
        (("spec", "template", "spec", "replicatedJobs", 0, "name"), 3, "not of type string"),
    ):
        changed = copy.deepcopy(runtime)
        at = changed
        for part in path[:-1]:
            at = at[part]
        at[path[-1]] = value
        assert told in "".join(problems(schema, changed))
    del runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    assert "containers is missing" in "".join(problems(schema, runtime))


def test_pods_of_every_plan_are_restricted():
    """Their pods are the runtime's with what the TrainJob says; the stock runtime's were refused under restricted."""
    ((_, pod),) = pod_templates(rendered("nodes")).items()
    for plan in plans():
        spec = copy.deepcopy(pod) | plan.placement.pod_spec()
        trainer = plan.manifest()["spec"]["trainer"]
        spec["containers"][0] |= {key: trainer[key] for key in ("image", "command", "args", "env")}
        assert violations(spec) == []


def test_the_file_says_where_it_comes_from():
    text = json.dumps(crds())
    assert "podFailurePolicy" in text
    assert len(text) < 200_000
