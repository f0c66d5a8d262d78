"""The network policy, read as Kubernetes reads it: what a stock install and the clouds need passes, nothing else does."""

import ipaddress
from dataclasses import dataclass, field

import pytest

from tendon.storage.stock import INSTALL_NAMESPACE, PORT
from tests.k8s.rendering import OVERLAYS, of_kind, rendered

STEP = {"app.kubernetes.io/part-of": "tendon", "tendon.io/step": "train"}


@dataclass(frozen=True)
class Peer:
    """The other end of a connection; outside the cluster it has an address only."""

    port: int
    address: str = "10.1.2.3"
    protocol: str = "TCP"
    namespace: str = ""  # of a pod
    labels: dict = field(default_factory=dict)


def selects(selector, labels):
    """Whether a label selector holds."""
    for one in selector.get("matchExpressions", ()):
        assert one["operator"] == "Exists", "teach this file about it"
        if one["key"] not in labels:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def is_peer(rule, peer, namespace):
    if "ipBlock" in rule:
        assert set(rule["ipBlock"]) == {"cidr"}
        return ipaddress.ip_address(peer.address) in ipaddress.ip_network(rule["ipBlock"]["cidr"])
    if not peer.namespace:
        return False
    there = {"kubernetes.io/metadata.name": peer.namespace}
    in_namespace = selects(rule["namespaceSelector"], there) if "namespaceSelector" in rule else None
    if in_namespace is None:
        in_namespace = peer.namespace == namespace
    return in_namespace and selects(rule.get("podSelector", {}), peer.labels)


def passes(rules, direction, peer, namespace):
    """Whether one of the rules lets the connection through."""
    for rule in rules:
        ports = rule.get("ports")
        right_port = not ports or {"protocol": peer.protocol, "port": peer.port} in ports
        peers = rule.get(direction)
        if right_port and (not peers or any(is_peer(one, peer, namespace) for one in peers)):
            return True
    return False


def may_call(objects, peer, namespace):
    """Whether a step of a run may open this connection."""
    policies = [
        one["spec"]
        for one in of_kind(objects, "NetworkPolicy").values()
        if selects(one["spec"]["podSelector"], STEP) and "Egress" in one["spec"]["policyTypes"]
    ]
    assert policies, "without a policy everything may"
    return any(passes(policy["egress"], "to", peer, namespace) for policy in policies)


INSTALL = INSTALL_NAMESPACE
NEEDED = {
    "name server, UDP": Peer(53, protocol="UDP", namespace="kube-system", labels={"k8s-app": "kube-dns"}),
    "name server, TCP": Peer(53, namespace="kube-system", labels={"k8s-app": "kube-dns"}),
    "name server's cache on the node, UDP": Peer(53, "169.254.20.10", "UDP"),
    "name server's cache on the node, TCP": Peer(53, "169.254.20.10"),
    "API server": Peer(443, "10.96.0.1"),
    "API server on its own port": Peer(6443, "192.168.0.2"),
    "S3 of a cloud": Peer(443, "52.216.0.1"),
    "metadata-grpc": Peer(8080, namespace=INSTALL),
    "ml-pipeline": Peer(8888, namespace=INSTALL),
    "ml-pipeline, gRPC": Peer(8887, namespace=INSTALL),
    "seaweedfs": Peer(8333, namespace=INSTALL),
    "minio": Peer(int(PORT), namespace=INSTALL),
    "seaweedfs beside the runs": Peer(8333, namespace="robots"),
    "minio beside the runs": Peer(9000, namespace="robots"),
    "instance metadata (AWS, GKE, Azure)": Peer(80, "169.254.169.254"),
    "instance metadata, IPv6": Peer(80, "fd00:ec2::254"),
    "EKS pod identity": Peer(80, "169.254.170.23"),
    "EKS pod identity, IPv6": Peer(80, "fd00:ec2::23"),
    "GKE metadata server": Peer(988, "169.254.169.252"),
    "GKE metadata server, second port": Peer(987, "169.254.169.252"),
}
REFUSED = {
    "http anywhere": Peer(80, "52.216.0.1"),
    "another link-local address": Peer(80, "169.254.169.253"),
    "a name server outside": Peer(53, "8.8.8.8", "UDP"),
    "a pod that calls itself no name server": Peer(53, protocol="UDP", namespace="kube-system"),
    "the install's database": Peer(3306, namespace=INSTALL),
    "an object store of strangers": Peer(9000, namespace="strangers"),
    "a shell": Peer(22, "192.168.0.2"),
    "the kubelet": Peer(10250, "192.168.0.2"),
}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", NEEDED)
def test_a_step_reaches_what_it_needs(overlay, name):
    assert may_call(rendered(f"overlays/{overlay}", "robots"), NEEDED[name], "robots")


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", REFUSED)
def test_a_step_reaches_nothing_else(overlay, name):
    assert not may_call(rendered(f"overlays/{overlay}", "robots"), REFUSED[name], "robots")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_calls_a_step(overlay):
    for policy in of_kind(rendered(f"overlays/{overlay}"), "NetworkPolicy").values():
        if selects(policy["spec"]["podSelector"], STEP):
            assert "Ingress" in policy["spec"]["policyTypes"]
            assert not policy["spec"].get("ingress")


def test_the_pod_of_the_schedule_is_one_of_ours():
    template = of_kind(rendered("schedule"), "CronJob")["tendon-retrain"]["spec"]["jobTemplate"]["spec"]["template"]
    policy = of_kind(rendered("overlays/kubeflow"), "NetworkPolicy")["tendon-steps"]["spec"]
    assert selects(policy["podSelector"], template["metadata"]["labels"])


def labels_of_a_node():
    (job,) = of_kind(rendered("nodes"), "TrainingRuntime")["tendon-nodes"]["spec"]["template"]["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["metadata"]["labels"]


def test_nodes_of_a_trainjob_reach_each_other_and_nobody_else_them():
    policy, node = (
        of_kind(rendered("nodes", "robots"), "NetworkPolicy")["tendon-training-nodes"]["spec"],
        labels_of_a_node(),
    )
    assert selects(policy["podSelector"], node)
    assert not selects(policy["podSelector"], STEP)
    for rules, direction in ((policy["ingress"], "from"), (policy["egress"], "to")):
        assert passes(rules, direction, Peer(29500, namespace="robots", labels=node), "robots")
        assert passes(rules, direction, Peer(41234, namespace="robots", labels=node), "robots")
        for stranger in (Peer(29500, namespace="strangers", labels=node), Peer(29500, namespace="robots", labels=STEP)):
            assert not passes(rules, direction, stranger, "robots")


def test_a_node_reaches_the_store_as_a_step_does():
    policy = of_kind(rendered("overlays/kubeflow"), "NetworkPolicy")["tendon-steps"]["spec"]
    assert selects(policy["podSelector"], labels_of_a_node())
