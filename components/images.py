"""Which image each step runs in, as data: docker/ builds them, compile.py writes their names into the YAML.

A name without a registry host is found on the node itself (kind load, compose) or through the cluster's mirror. A release
has ``released_images.json`` beside this file (``docker/build.py --push --release``): its defaults are pulled by digest.
"""

from __future__ import annotations

import json
from pathlib import Path

VERSION = "0.1.0"
RELEASED = Path(__file__).with_name("released_images.json")
KINDS = ("data", "train", "sim")


def read_release(path: Path = RELEASED) -> tuple[str, dict[str, str]]:
    """Registry (``host/path/``) and digests by kind of the release of this version; both empty where there is none."""
    if path.exists():
        release = json.loads(path.read_text(encoding="utf-8"))
        if release["version"] == VERSION:
            return release["registry"], release["digests"]
    return "", {}


REGISTRY, DIGESTS = read_release()


def default_image(kind: str, registry: str = REGISTRY) -> str:
    """The image of a kind of step: by digest where a release has one, else by version."""
    tag = f"@{DIGESTS[kind]}" if kind in DIGESTS and registry == REGISTRY else f":{VERSION}"
    return f"{registry}tendon-{kind}{tag}"


def default_images(registry: str = REGISTRY) -> dict[str, str]:
    """All three by kind, from another registry where ``registry`` names one: ``registry.example/team/``."""
    if registry and not registry.endswith("/"):
        registry += "/"
    return {kind: default_image(kind, registry) for kind in KINDS}


# data: no torch: plan, convert, stats, select, report, promote, finish; train: torch: train, export;
# sim: torch and the simulators: evaluate, confirm, conclude
IMAGES = default_images()
