"""A robomimic JSON (v0.1 to v0.5) becomes overrides of our configuration; called by ``tendon train --config`` and the .pth importer.

Every key is mapped, or has no meaning here and is named in the notes, or is refused with the reason. Couplings that
upstream lets pass silently (rnn.horizon and seq_length, frame_stack and context_length) are refused too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tendon.config.foreign.robomimic_policy import read_observations, read_policy
from tendon.config.foreign.robomimic_reader import Reader, check_keys, leaves, upgraded
from tendon.config.foreign.robomimic_run import read_data, read_rollouts, read_saving, read_training, read_windows
from tendon.config.override_text import quote
from tendon.errors import ConfigError


@dataclass(frozen=True)
class Translation:
    """What a robomimic configuration means here."""

    overrides: tuple[str, ...]
    notes: tuple[str, ...]  # what has no effect here, and what is done another way
    name: str
    dataset: str
    policy: Mapping[str, Any]  # the keys of the policy section, by name
    low_dim: tuple[str, ...]
    cameras: tuple[str, ...]
    goals: tuple[str, ...]


def read_json(path: str | Path) -> dict[str, Any]:
    """The tree of a file.

    Raises:
        ConfigError: it is missing, or no JSON object.
    """
    path = Path(path)
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {path.name}", where=str(path), why="no such file", fix="check the path"
        ) from None
    except (ValueError, OSError) as error:
        where = f"{path}:{getattr(error, 'lineno', 1)}"
        raise ConfigError("this is not JSON", where=where, why=str(error), fix="mend that line") from None
    if not isinstance(tree, dict) or "algo_name" not in tree:
        why = "it has no algo_name"
        raise ConfigError("this is not a robomimic configuration", where=str(path), why=why, fix='"algo_name": "bc"')
    return tree


def translate(
    tree: Mapping[str, Any],
    place: str = "robomimic configuration",
    *,
    steps_per_pass: int | None = None,
    splits: tuple[str, ...] = (),
    for_weights: bool = False,
) -> Translation:
    """Read a configuration.

    Args:
        tree: the JSON.
        place: how errors call it.
        steps_per_pass: updates of one pass over the data, which ``epoch_every_n_steps: null`` asks for.
        splits: filter keys of the dataset, if it is known.
        for_weights: read only what a net and its actions depend on (a checkpoint's config).

    Raises:
        ConfigError: with everything that cannot be kept.
    """
    if tree.get("algo_name", "bc") != "bc":
        raise ConfigError(
            f"algorithm {tree.get('algo_name')!r} is not here",
            where=place,
            why="tendon has robomimic's bc family: BC, Gaussian, GMM, VAE, RNN, Transformer",
            fix='"algo_name": "bc"',
        )
    read = Reader(place, upgraded(dict(leaves(tree))), for_weights)
    check_keys(read)
    if read.problems:
        raise ConfigError.of(read.problems)
    name = read_policy(read)
    low_dim, cameras, goals = read_observations(read)
    if not for_weights:
        read_windows(read, name)
        steps = read_training(read, steps_per_pass)
        read_saving(read, steps)
        read_data(read, splits)
        read_rollouts(read)
        for kind in ("depth", "scan"):
            if named := [*read(f"observation.modalities.obs.{kind}"), *read(f"observation.modalities.goal.{kind}")]:
                read.refuse(
                    f"observation.modalities names {kind} {', '.join(named)}", "datasets hold numbers and rgb here"
                )
        read.overrides["env.observation"] = [*low_dim, *cameras]
        if goals:
            read.overrides["env.goal"] = list(goals)
    if read.problems:
        raise ConfigError.of(list(dict.fromkeys(read.problems)))
    chosen = [f"policy={name}"] + [f"{key}={quote(value)}" for key, value in read.overrides.items()]
    # ++: robomimic writes every key, and those without effect are kept for the way back
    chosen += [f"++policy.{key}={quote(value)}" for key, value in read.policy.items()]
    dataset = read("train.data")
    return Translation(
        tuple(chosen),
        tuple(read.notes),
        str(read("experiment.name")),
        dataset if isinstance(dataset, str) else "",
        {"name": name, **read.policy},
        low_dim,
        cameras,
        goals,
    )
