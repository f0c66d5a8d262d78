"""Every pod that we make carries the restricted profile; and the checker of it finds each way not to."""

import copy

import pytest

from tests.k8s.rendering import FOLDERS, pod_templates, rendered
from tests.k8s.restricted import violations

GOOD = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
    "containers": [
        {
            "name": "main",
            "image": "x",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}
MAIN = ("containers", 0)
BAD = [
    (("hostNetwork",), True, "hostNetwork is on"),
    (("hostPID",), True, "hostPID is on"),
    (("volumes", 0, "hostPath"), {"path": "/"}, "volume shm is a hostPath"),
    (("volumes", 0, "nfs"), {}, "volume shm is a nfs"),
    (("securityContext", "runAsUser"), 0, "the pod runs as user 0"),
    (("securityContext", "runAsNonRoot"), None, "container main does not say runAsNonRoot"),
    (("securityContext", "seccompProfile"), None, "container main does not say a seccomp profile"),
    (("securityContext", "seccompProfile", "type"), "Unconfined", "the pod has seccomp Unconfined"),
    (("securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}], "sysctl kernel.msgmax"),
    ((*MAIN, "securityContext"), None, "container main keeps capabilities"),
    ((*MAIN, "securityContext", "runAsNonRoot"), False, "container main may run as root"),
    ((*MAIN, "securityContext", "runAsUser"), 0, "container main runs as user 0"),
    ((*MAIN, "securityContext", "privileged"), True, "container main is privileged"),
    ((*MAIN, "securityContext", "allowPrivilegeEscalation"), None, "container main may gain privileges"),
    ((*MAIN, "securityContext", "capabilities", "drop"), ["NET_RAW"], "container main keeps capabilities"),
    ((*MAIN, "securityContext", "capabilities", "add"), ["SYS_ADMIN"], "container main adds capabilities"),
    ((*MAIN, "securityContext", "procMount"), "Unmasked", "container main unmasks /proc"),
    ((*MAIN, "securityContext", "seLinuxOptions"), {"type": "spc_t"}, "container main chooses SELinux options"),
    ((*MAIN, "securityContext", "appArmorProfile"), {"type": "Unconfined"}, "container main has AppArmor Unconfined"),
    ((*MAIN, "ports"), [{"containerPort": 80, "hostPort": 80}], "container main takes port 80 of the host"),
    ((*MAIN, "livenessProbe"), {"httpGet": {"host": "x", "port": 80}}, "container main probes another host"),
    (("initContainers",), [{"name": "first", "image": "x"}], "container first may gain privileges"),
]
EVERY_POD = {f"{folder} {where}": spec for folder in FOLDERS for where, spec in pod_templates(rendered(folder)).items()}


def test_there_are_pods_to_check():
    assert any("CronJob" in where for where in EVERY_POD)


@pytest.mark.parametrize("where", EVERY_POD)
def test_every_pod_of_ours_is_restricted(where):
    assert violations(EVERY_POD[where]) == []


@pytest.mark.parametrize("where", EVERY_POD)
def test_no_pod_of_ours_writes_into_its_image(where):
    for container in EVERY_POD[where]["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"]


def test_a_good_pod_is_let_in():
    assert violations(GOOD) == []
    with_port = copy.deepcopy(GOOD)
    with_port["containers"][0]["securityContext"]["capabilities"]["add"] = ["NET_BIND_SERVICE"]
    assert violations(with_port) == []


@pytest.mark.parametrize(("path", "value", "told"), BAD, ids=[told for _, _, told in BAD])
def test_the_checker_finds(path, value, told):
    """The examples are those of the standard: each is refused by a control of its own."""
    pod = copy.deepcopy(GOOD)
    at = pod
    for part in path[:-1]:
        at = at[part]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    assert told in violations(pod)


def test_pods_are_found_wherever_they_stand():
    objects = [
        {"kind": "Pod", "metadata": {"name": "a"}, "spec": GOOD},
        {"kind": "Deployment", "metadata": {"name": "b"}, "spec": {"template": {"spec": GOOD}}},
        {
            "kind": "TrainingRuntime",
            "metadata": {"name": "c"},
            "spec": {"template": {"spec": {"replicatedJobs": [{"template": {"spec": {"template": {"spec": GOOD}}}}]}}},
        },
        {"kind": "ConfigMap", "metadata": {"name": "d"}, "data": {"template": "x"}},
    ]
    assert list(pod_templates(objects)) == ["Pod/a/0", "Deployment/b/0", "TrainingRuntime/c/0"]
