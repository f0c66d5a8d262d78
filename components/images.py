"""Which image each step runs in, as data: docker/ builds them, compile.py writes their names into the YAML.

A name without a registry host is found on the node itself (kind load, compose) or through the cluster's mirror.
"""

VERSION = "0.1.0"

IMAGES = {
    "data": f"tendon-data:{VERSION}",  # no torch: plan, convert, stats, select, report, promote
    "train": f"tendon-train:{VERSION}",  # torch: train, export
    "sim": f"tendon-sim:{VERSION}",  # torch and the simulators: evaluate, confirm
}
