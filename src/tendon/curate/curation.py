"""A curation from start to end: folds are trained, every episode is ranked by policies that never saw it, and the proposal is written.

In: demonstrations and a configuration, as a run takes them. Out: a Curation, and a sweep of two trials, all and subset, that the
ordinary run decides. A fold is a trial like any other, found again when it is finished. Called by steps.curate.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import Any

from tendon.config.digest import digest
from tendon.config.schema import TrainConfig
from tendon.curate.ranking import Ranked, Signals, rank_episodes
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.quality import find_faults, trajectory_of
from tendon.errors import ConfigError
from tendon.storage import join, open_store
from tendon.storage.json_values import to_json

FOLDER = "curations"
ALL, SUBSET = "all", "subset"
KEY = "data.skip_episodes"
FEWEST_A_FOLD = 2
ROUNDS = 2  # policies of the second learn from nothing that the first would leave out: bad episodes teach what good ones contradict


@dataclass(frozen=True)
class Curation:
    """What was ranked, how, and what is proposed."""

    dataset_uri: str
    policy: str
    folds: int
    steps: int
    checkpoints: int  # of each fold, for the influence
    rule: str  # how many are left out, and why so many
    episodes: tuple[Ranked, ...]  # the worst first
    rounds: int = 1

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the episodes that the subset is without."""
        return tuple(sorted(one.episode_id for one in self.episodes if one.left_out))

    def sweep(self) -> list[dict[str, Any]]:
        """Two trials on one dataset: all episodes, and without these."""
        return [
            {
                "key": KEY,
                "name": "episodes",
                "group": 0,
                "values": [[], list(self.left_out)],
                "value_names": [ALL, SUBSET],
            }
        ]

    def to_json(self) -> str:
        """As kept in the store and beside the sweep."""
        return to_json(asdict(self) | {"left_out": list(self.left_out)}, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Curation:
        """From what ``to_json`` made."""
        values: dict[str, Any] = json.loads(text)
        del values["left_out"]
        return cls(**{**values, "episodes": tuple(Ranked.from_dict(one) for one in values["episodes"])})


def save_curation(store_uri: str, curation: Curation) -> None:
    """Keep it where the report of a run that leaves out the same episodes finds it."""
    open_store(store_uri).write(_key(curation.dataset_uri, curation.left_out), curation.to_json().encode())


def find_curation(store_uri: str, dataset_uri: str, left_out: Sequence[str]) -> Curation | None:
    """Why these episodes are left out; None: nobody curated them."""
    store, key = open_store(store_uri), _key(dataset_uri, left_out)
    return Curation.from_json(store.read(key)) if store.head(key) is not None else None


def curate(
    config: TrainConfig,
    dataset_uri: str,
    *,
    folds: int,
    leave_out: float | None,
    train: Callable[[TrainConfig], str],
) -> Curation:
    """Rank the episodes that are trained on, a second time by policies that learned from none of those that stood out.

    Args:
        config: of the policy that is trained for each fold.
        dataset_uri: the converted dataset.
        folds: every episode is held out of one of so many trainings.
        leave_out: share of the episodes, or from 1 on their number; None: as many as form a group of their own.
        train: trains a configuration and gives the address of its trial.
    """
    dataset = open_dataset(dataset_uri)
    rows = dataset.episodes(config.data.split, config.data.skip_episodes)
    names = [row.episode_id for row in rows]
    lengths = {row.episode_id: row.length for row in rows}
    if folds < 2 or len(names) < FEWEST_A_FOLD * folds:
        raise ConfigError(
            f"{len(names)} episodes cannot be curated in {folds} folds",
            where="curate",
            why=f"every fold holds out {FEWEST_A_FOLD} episodes or more, and there are at least 2 folds",
            fix="--folds 2, or record more episodes",
        )
    findings, members = _findings(dataset, names), fold_members(names, folds, config.seed)
    ranked: tuple[Ranked, ...] = ()
    rule, checkpoints, rounds = "", 0, 0
    while rounds < ROUNDS:
        suspects = {one.episode_id for one in ranked if one.left_out}
        if rounds and (not suspects or any(len(set(names) - suspects - set(fold)) < FEWEST_A_FOLD for fold in members)):
            break
        signals: dict[str, Signals] = {}
        for held_out in members:
            skipped = sorted({*config.data.skip_episodes, *held_out, *suspects})
            fold = replace(config, data=replace(config.data, skip_episodes=tuple(skipped)))
            found, checkpoints = _of_fold(
                train(fold), dataset_uri, config, held_out, [row.episode_id for row in dataset.rows], suspects
            )
            for name, held in found.items():
                signals[name] = Signals(
                    name, lengths[name], held.untrained, held.loss, held.influence, findings.get(name, ())
                )
        ranked, rule = rank_episodes([signals[name] for name in names], leave_out)
        rounds += 1
    steps = config.training.num_steps
    return Curation(dataset_uri, config.policy.name, folds, steps, checkpoints, rule, ranked, rounds)


def fold_members(names: Sequence[str], folds: int, seed: int) -> list[list[str]]:
    """Which episodes each fold holds out: all of them once, drawn by the seed, in sizes that differ by one at most."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(names))
    return [sorted(names[k] for k in order[fold::folds]) for fold in range(folds)]


def _of_fold(
    trial_uri: str,
    dataset_uri: str,
    config: TrainConfig,
    held_out: Sequence[str],
    everything: Sequence[str],
    suspects: Set[str],
) -> tuple[Mapping[str, Any], int]:
    from tendon.curate.signals import held_out_signals
    from tendon.export.bundle import load_policy
    from tendon.train.state.checkpoint import complete, policy_at

    names = sorted(complete(open_store(trial_uri)), key=int)
    policies = [load_policy(policy_at(join(trial_uri, "checkpoints", name)))[0] for name in names]
    return held_out_signals(policies, dataset_uri, config, held_out, everything, suspects), len(policies)


def _findings(dataset: Dataset, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What the data checks say of single episodes."""
    schema = dataset.manifest.schema
    rows = [row for row in dataset.rows if row.episode_id in set(names)]
    compared = [
        trajectory_of(row.episode_id, row.task, {key: steps[key] for key in steps.dtype.names or ()}, schema)
        for row, steps in zip(rows, dataset.lowdims(rows), strict=True)
    ]
    found: dict[str, tuple[str, ...]] = {}
    for finding in find_faults(compared):
        if finding.where in set(names):
            found[finding.where] = (
                *found.get(finding.where, ()),
                f"{finding.kind.replace('_', ' ')}: {finding.message}",
            )
    return found


def _key(dataset_uri: str, left_out: Sequence[str]) -> str:
    name = dataset_uri.rstrip("/").rsplit("/", 1)[-1]
    return f"{FOLDER}/{name}/{digest(sorted(left_out))}.json"
