"""What a champion is champion of: a task as it is confirmed. Two tasks in one store, or two lengths of one, never meet.

What a policy observes is no part of it: a policy of pictures and one of states do the same task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tendon.config.digest import digest
from tendon.config.schema import EnvConfig
from tendon.errors import TendonError
from tendon.runs.plan import RunPlan
from tendon.storage import open_store

DECISIVE = ("task", "fps", "episode_length", "options")


def protocol_of(env: EnvConfig | Mapping[str, Any]) -> str:
    """The task and a digest of how it is confirmed; a file name.

    Example:
        >>> protocol_of({"simulator": "reach", "task": "Reach", "fps": 10.0, "episode_length": 60, "options": {}})
        'Reach-2fc2b0e0'
    """
    values = env if isinstance(env, Mapping) else {name: getattr(env, name) for name in ("simulator", *DECISIVE)}
    told = {name: values[name] for name in DECISIVE} | {"fps": float(values["fps"])}
    simulator = str(values["simulator"]).rstrip("/").rsplit("/", 1)[-1]  # a file of one's own is known by its name
    slug = re.sub(r"[^A-Za-z0-9]+", "-", str(values["task"])).strip("-")[:60] or "task"
    return f"{slug}-{digest(simulator, told)[:8]}"


def protocol_of_run(run: RunPlan) -> str:
    """That of a run; its trials share one task."""
    return protocol_of(run.trials[0].config["env"])


def protocol_of_champion(run_uri: str, bundle_uri: str) -> str:
    """That of a champion from before there were protocols, by its run's plan or its bundle; empty when both are gone."""
    for uri, name in ((run_uri, "plan.json"), (bundle_uri, "config.yaml")):
        try:
            text = open_store(uri).read(name).decode()
            tree = json.loads(text)["trials"][0]["config"] if name.endswith(".json") else _yaml(text)
            return protocol_of(tree["env"])
        except (TendonError, KeyError, IndexError, TypeError, ValueError):  # noqa: PERF203 - gone, or of another version
            continue
    return ""


def champion_key(name: str, protocol: str) -> str:
    """Where the champion of a protocol is kept; without one, where it was before there were protocols."""
    return f"champions/{name}/{protocol}.json" if protocol else f"champions/{name}.json"


def _yaml(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)
