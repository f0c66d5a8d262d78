"""What the accounts may do: everything that a real cluster was seen to refuse or to need, and nothing else."""

import itertools

import pytest

from pipelines.resources import NOTIFY_SECRET, STOCK_SECRET, STORE_SECRET
from tendon.train.distributed.job_spec import JobSpec
from tests.k8s.rendering import OVERLAYS, of_kind, rendered

ANY = ""  # a right on every object of the kind
TRAINER = JobSpec("x", "i", (), 2).manifest()["apiVersion"].split("/")[0]

# (API group, kind, name of the object, verb), and where it was seen that a run needs it.
NEEDS = {
    ("", "secrets", "mlpipeline-minio-artifact", "get"): "the launcher was refused it, and no step ran",
    ("", "configmaps", "kfp-launcher", "get"): "the launcher reads where the pipeline root is",
    ("argoproj.io", "workflowtaskresults", ANY, "create"): "Argo's executor reports the end of a step",
    ("argoproj.io", "workflowtaskresults", ANY, "patch"): "Argo's executor reports outputs",
    (TRAINER, "trainjobs", ANY, "create"): "training on nodes",
    (TRAINER, "trainjobs", ANY, "get"): "waiting for it",
    (TRAINER, "trainjobs", ANY, "delete"): "ending it",
    ("", "pods", ANY, "get"): "exit code and message of a node, before its job is deleted",
    ("", "pods", ANY, "list"): "which pods a TrainJob has",
    ("", "pods/log", ANY, "get"): "logs of the nodes vanish with the job",
    ("kueue.x-k8s.io", "workloads", ANY, "get"): "Kueue's reason stands only there",
    ("kueue.x-k8s.io", "workloads", ANY, "list"): "a TrainJob's workload has a name with a hash",
}
PIPELINES = "pipelines.kubeflow.org"
SCHEDULE_NEEDS = {
    (PIPELINES, kind, ANY, verb)
    for kind, verbs in {
        "experiments": ("get", "list", "create"),
        "runs": ("get", "list", "create"),
        "pipelines": ("get", "list"),
    }.items()
    for verb in verbs
}
REFUSED = [  # what runs were seen to do without, and what nobody should have
    *(("", "secrets", name, "get") for name in (STORE_SECRET, NOTIFY_SECRET, ANY)),
    ("", "secrets", ANY, "list"),
    ("", "secrets", "mlpipeline-minio-artifact", "update"),
    ("", "configmaps", STORE_SECRET, "get"),
    ("", "configmaps", "kfp-launcher", "update"),
    ("", "events", ANY, "list"),
    ("", "pods", ANY, "delete"),
    ("", "pods/exec", ANY, "create"),
    ("batch", "jobs", ANY, "list"),
    ("argoproj.io", "workflows", ANY, "create"),
    (TRAINER, "trainjobs", ANY, "list"),
    (PIPELINES, "runs", ANY, "create"),
]


def rules_of(objects, account):
    """The rules that an account of the overlay gets, through its bindings."""
    roles, rules = of_kind(objects, "Role"), []
    for binding in of_kind(objects, "RoleBinding").values():
        mine = {"kind": "ServiceAccount", "name": account, "namespace": binding["metadata"]["namespace"]}
        if mine in binding["subjects"]:
            assert binding["roleRef"]["kind"] == "Role"
            rules += roles[binding["roleRef"]["name"]]["rules"]
    return rules


def is_allowed(rules, need):
    """As Kubernetes decides: a rule with names holds for these objects only, and never for a list."""
    group, kind, name, verb = need
    for rule in rules:
        matches = group in rule["apiGroups"] and kind in rule["resources"] and verb in rule["verbs"]
        if matches and (not rule.get("resourceNames") or name in rule["resourceNames"]):
            return True
    return False


def granted(rules):
    """Every right, one by one."""
    for rule in rules:
        names = rule.get("resourceNames", [ANY])
        yield from itertools.product(rule["apiGroups"], rule["resources"], names, rule["verbs"])


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("need", NEEDS, ids=lambda need: " ".join(filter(None, need)))
def test_a_run_may_do_what_it_was_seen_to_need(overlay, need):
    rules = rules_of(rendered(f"overlays/{overlay}"), "tendon-runner")
    assert is_allowed(rules, need), NEEDS[need]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_beyond_is_granted(overlay):
    objects = rendered(f"overlays/{overlay}")
    assert not of_kind(objects, "ClusterRole")
    assert not of_kind(objects, "ClusterRoleBinding")
    assert set(granted(rules_of(objects, "tendon-runner"))) == set(NEEDS)
    assert set(granted(rules_of(objects, "tendon-schedule"))) == (SCHEDULE_NEEDS if overlay != "kubeflow" else set())
    assert set(of_kind(objects, "Role")) <= {"tendon-runner", "tendon-schedule"}


@pytest.mark.parametrize("right", REFUSED, ids=" ".join)
def test_what_a_run_may_not_do(right):
    assert not is_allowed(rules_of(rendered("overlays/profile"), "tendon-runner"), right)


def test_a_binding_that_stays_in_another_namespace_gives_nothing():
    """base/ named the namespace of its subject, and elsewhere the account was refused everything."""
    objects = rendered("overlays/profile", "robots")
    assert rules_of(objects, "tendon-runner")
    for binding in of_kind(objects, "RoleBinding").values():
        binding["subjects"][0]["namespace"] = "tendon"
    assert not rules_of(objects, "tendon-runner")


def test_the_secret_is_the_one_that_steps_read_too():
    assert ("", "secrets", STOCK_SECRET, "get") in NEEDS


def test_no_account_gets_a_token_that_it_does_not_need():
    accounts = of_kind(rendered("overlays/profile"), "ServiceAccount")
    assert {name: one["automountServiceAccountToken"] for name, one in accounts.items()} == {
        "tendon-runner": True,  # the launcher, and the step that makes a TrainJob
        "tendon-schedule": False,
    }
