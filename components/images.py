"""Which image each step runs in, as data: docker/ builds them, compile.py writes their names into the YAML.

A name without a registry host is found on the node itself (kind load, compose) or through the cluster's mirror. A release
has ``released_images.json`` beside this file (``docker/build.py --push --release``), and its defaults are pulled by digest.
"""

import json
from pathlib import Path

VERSION = "0.1.0"
RELEASED = Path(__file__).with_name("released_images.json")

BUILT_HERE = {
    "data": f"tendon-data:{VERSION}",  # no torch: plan, convert, stats, select, report, promote
    "train": f"tendon-train:{VERSION}",  # torch: train, export
    "sim": f"tendon-sim:{VERSION}",  # torch and the simulators: evaluate, confirm
}


def default_images(released: Path = RELEASED) -> dict[str, str]:
    """Kind to reference: those of the release, where there is one of this version, else the names that a build here gives."""
    if released.exists():
        release = json.loads(released.read_text(encoding="utf-8"))
        if release["version"] == VERSION:
            return {kind: release["images"][kind] for kind in BUILT_HERE}
    return dict(BUILT_HERE)


IMAGES = default_images()
