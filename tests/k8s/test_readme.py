"""The README of k8s/: it names what there is."""

import re

import pytest

from tests.k8s.rendering import K8S, OVERLAYS, PARTS, of_kind, rendered

TEXT = (K8S / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", [*PARTS, "nodes", "queue", "overlays", "schedule", "retries", "examples"])
def test_every_folder_has_a_row(folder):
    assert f"| `{folder}` |" in TEXT


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_has_its_install(overlay):
    assert f"| `overlays/{overlay}` |" in TEXT


def test_every_right_has_its_reason():
    section = TEXT.partition("## Rights")[2].partition("\n## ")[0]
    for role in of_kind(rendered("overlays/profile"), "Role").values():
        for rule in role["rules"]:
            for name in rule.get("resourceNames", rule["resources"]):
                assert f"`{name}`" in section, name


def test_every_folder_that_it_names_is_there():
    named = set(re.findall(r"(?<!tests/)k8s/[a-z/]+[a-z]", TEXT))
    assert {"k8s/overlays/kubeflow", "k8s/queue"} <= named
    for path in named:
        assert (K8S.parent / path).exists(), path


def test_what_was_seen_and_what_was_not_stand_apart():
    seen, _, unseen = TEXT.partition("## Seen on a real cluster")[2].partition("## Not seen")
    assert seen.count("\n- ") >= 10
    assert unseen.count("\n- ") >= 8


def test_the_numbers_of_losses_are_those_of_the_waiter():
    from tendon.train.distributed.trainjob import GRACE_S, MOST_LOSSES, OUTAGE_S

    assert f"nodes are lost {MOST_LOSSES + 1} times" in TEXT
    assert f"for more than {OUTAGE_S:g} s" in TEXT
    (job,) = of_kind(rendered("nodes"), "TrainingRuntime")["tendon-nodes"]["spec"]["template"]["spec"]["replicatedJobs"]
    assert job["template"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == GRACE_S
