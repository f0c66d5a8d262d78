"""Which image each step runs in, as data: docker/ builds them, compile.py writes their names into the YAML.

A name without a registry host is found on the node itself (kind load, compose) or through the cluster's mirror. A release
fills in REGISTRY and DIGESTS: its defaults can then be pulled from anywhere and never change.
"""

VERSION = "0.1.0"
REGISTRY = ""  # ghcr.io/NAME/ of a release
DIGESTS: dict[str, str] = {}  # kind to sha256:... of a release


def default_image(kind: str, registry: str = REGISTRY) -> str:
    """The image of a kind of step: by digest where a release has one, else by version."""
    tag = f"@{DIGESTS[kind]}" if kind in DIGESTS and registry == REGISTRY else f":{VERSION}"
    return f"{registry}tendon-{kind}{tag}"


def default_images(registry: str = REGISTRY) -> dict[str, str]:
    """All three by kind, from another registry where ``registry`` names one: ``registry.example/team/``."""
    if registry and not registry.endswith("/"):
        registry += "/"
    return {kind: default_image(kind, registry) for kind in ("data", "train", "sim")}


# data: no torch: plan, convert, stats, select, report, promote, finish; train: torch: train, export;
# sim: torch and the simulators: evaluate, confirm, conclude
IMAGES = default_images()
