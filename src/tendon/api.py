"""Tendon from Python: a policy that acts, a dataset that opens, a run, a comparison. Numpy in and out.

``import tendon`` costs nothing; the names below are loaded when they are first used. Everything takes addresses, local or
``s3://``, and raises TendonError with what, where, why and fix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tendon.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from tendon.data.dataset import Dataset
    from tendon.data.features import Feature
    from tendon.data.stats import FeatureStats
    from tendon.evaluate.table import Evaluation
    from tendon.policies.base import Policy
    from tendon.policies.spec import PolicySpec
    from tendon.registry.gate import Verdict
    from tendon.runner import RunResult

Array = NDArray[Any]
Action = NDArray[np.float64]
CHAMPIONS = "/champions/"
NUMBERS, PICTURES = "iufb", ("image", "mask")


class LoadedPolicy:
    """A trained policy, one episode at a time.

    Example:
        ::

            policy = tendon.load_policy("outputs/demo/trials/KEY/bundle")
            policy.reset(seed=0)
            action = policy.act({"observation.agent_pos": agent, "observation.target_pos": target})
    """

    def __init__(self, policy: Policy, spec: PolicySpec, uri: str, env: Any = None) -> None:
        from dataclasses import replace

        from tendon.config.feature_map import USUAL, FeatureMap
        from tendon.evaluate.actor import Actor, Reading
        from tendon.policies.windows import GOAL

        self.uri, self.spec = uri, spec
        features = FeatureMap.of(env) if env is not None else USUAL
        written = spec.config.writes(spec.features)
        if set(written) != set(features.action_keys):
            parts = {key.partition(".")[2]: spec.features[key].dim for key in written if "." in key}
            features = replace(features, action=parts)
        self._features = features
        self._actor = Actor(policy, spec.action_dim, features)
        reads = Reading.of(policy).deltas
        self.inputs: dict[str, Feature] = {
            key: spec.features[key] for key in reads if not key.startswith(GOAL) and key in spec.features
        }
        goals = [key for key in reads if key.startswith(GOAL)]
        self.goals: dict[str, Feature] = {
            key.removeprefix(GOAL): spec.features[key if key in spec.features else key.removeprefix(GOAL)]
            for key in goals
        }
        self.outputs: dict[str, Feature] = {key: spec.features[key] for key in written}
        self.reads_instruction = self.inputs.pop("task", None) is not None or "task" in reads
        self._instruction = features.instruction or ""
        self.reset()

    def __repr__(self) -> str:
        takes = ", ".join(f"{key} {_expected(each)}" for key, each in self.inputs.items())
        gives = ", ".join(f"{key} {_expected(each)}" for key, each in self.outputs.items())
        told = ", an instruction" if self.reads_instruction else ""
        return f"<{self.spec.name} of {self.uri}: {takes}{told} -> {gives}>"

    def reset(
        self, seed: int = 0, *, instruction: str | None = None, goal: Mapping[str, ArrayLike] | None = None
    ) -> None:
        """Begin an episode.

        Args:
            seed: of what the policy draws in it; the same seed and observations give the same actions.
            instruction: what the robot is told; the configuration's own where None.
            goal: an observation to reach, of a policy that reads one.
        """
        self._episode = self._actor.begin(seed)
        self._episode.instruction = self._instruction if instruction is None else instruction
        if self.reads_instruction and self.spec.texts and self._episode.instruction not in ("", *self.spec.texts):
            close = nearest(self._episode.instruction, self.spec.texts)
            raise ConfigError(
                f"the policy has not been told {self._episode.instruction!r} before",
                where=f"{self.uri}, instruction",
                why=f"it was trained with {len(self.spec.texts)} text(s), such as {self.spec.texts[0]!r}",
                fix=f"instruction={close or self.spec.texts[0]!r}",
            )
        self._goal_given = goal is not None
        if goal is not None:
            self._episode.goal = self._checked(goal, self.goals, "goal")

    def act(self, observation: Mapping[str, ArrayLike], seed: int | None = None) -> Action | dict[str, Action]:
        """The next action.

        Args:
            observation: one step by the keys of the dataset (``observation.state``), without ``observation.``, or by the
                simulator's names; pictures are uint8 ``[H, W, C]``. What the policy does not read is ignored.
            seed: begins a new episode first.

        Returns:
            ``[D]``; of a policy with several actions a dict of them.

        Raises:
            DataError: a key is missing, or a value has another shape or type.
        """
        if seed is not None:
            self.reset(seed, instruction=self._episode.instruction or None)
        if self.goals and not self._goal_given:
            raise ConfigError(
                "the policy reads a goal, and none is given",
                where=f"{self.uri}, goal.{next(iter(self.goals))}",
                why="reset() was called without one",
                fix=f"policy.reset(goal={{{next(iter(self.goals))!r}: ...}})",
            )
        checked = self._checked(observation, self.inputs, "observation")
        actions: Action = np.asarray(self._actor.act(self._episode, checked), np.float64)
        if list(self.outputs) == ["action"]:
            return actions
        return {f"action.{part}": values for part, values in self._features.parts_of(actions).items()}

    def _checked(self, given: Mapping[str, ArrayLike], wanted: Mapping[str, Feature], what: str) -> dict[str, Array]:
        """By the simulator's names, which the actor reads."""
        checked: dict[str, Array] = {}
        for key, feature in wanted.items():
            name = self._features.observation_of(key)
            spellings = (key, name, key.removeprefix("observation."))
            found = next((spelling for spelling in spellings if spelling in given), None)
            if found is None:
                raise DataError(
                    f"the {what} has no {key}",
                    where=f"{self.uri}, {key}",
                    why=f"expected {_expected(feature)}; it has {', '.join(sorted(map(str, given))) or 'nothing'}",
                    fix=_rename(key, given),
                )
            checked[name] = self._value(key, feature, given[found])
        return checked

    def _value(self, key: str, feature: Feature, value: ArrayLike) -> Array:
        array = np.asarray(value)
        is_picture = feature.kind in PICTURES
        if is_picture and array.dtype != np.uint8:
            raise _wrong(self.uri, key, feature, array, "pictures are uint8 from 0 to 255")
        if array.dtype.kind not in NUMBERS:
            raise _wrong(self.uri, key, feature, array, "it holds no numbers")
        shape = feature.shape
        if array.shape != shape and not (array.size == 1 and feature.dim == 1):
            fix = (
                "pictures are height, width, channels" if is_picture else "give one step, without a batch or time axis"
            )
            raise _wrong(self.uri, key, feature, array, fix)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise _wrong(self.uri, key, feature, array, "it holds NaN or infinity")
        return array.reshape(shape)


def load_policy(uri: str, *, device: str = "cpu") -> LoadedPolicy:
    """A policy that acts, from a bundle, a checkpoint, a trial, a champion, or another system's folder or file.

    Args:
        uri: of a champion, ``STORE/champions/NAME`` (with its one task) or the ``.json`` in it; or a name of ``tendon ls``.
        device: where it computes.

    Raises:
        TendonError: nothing that can be read as a policy is there.
    """
    from tendon import steps
    from tendon.export.bundle import load_policy as load
    from tendon.registry.names import policy_address

    uri = policy_address(uri)
    found, _ = steps.bundle_of(champion_bundle(uri) if CHAMPIONS in f"/{uri}" else uri, ())
    policy, spec = load(found, device)
    return LoadedPolicy(policy, spec, found, steps.bundle_config(found, ()).env)


def champion_bundle(uri: str) -> str:
    """The bundle of a champion: ``STORE/champions/NAME``, ``.../NAME/TASK`` or the object's own address."""
    import json

    from tendon.storage import join, open_store

    store_uri, _, name = uri.rstrip("/").rpartition(CHAMPIONS)
    store, name = open_store(store_uri), name.removesuffix(".json")
    keys = [info.key for info in store.list("champions/") if info.key.endswith(".json")]
    fitting = [key for key in keys if key == f"champions/{name}.json" or key.startswith(f"champions/{name}/")]
    tasks = [key for key in fitting if key.count("/") > 1] or fitting
    if len(tasks) != 1:
        known = ", ".join(key.removeprefix("champions/").removesuffix(".json") for key in tasks or keys)
        raise ConfigError(
            "there is more than one champion of that name" if tasks else "there is no such champion",
            where=uri,
            why=f"the store has {known}" if known else "the store has no champion",
            fix=f"name one: {join(store_uri, (tasks or keys)[0])}" if known else "tendon promote --run-uri RUN",
        )
    return str(json.loads(store.read(tasks[0]))["bundle_uri"])


class OpenDataset:
    """A converted dataset.

    Example:
        ::

            dataset = tendon.open_dataset("outputs/demo/datasets/demos/DIGEST")
            episode = dataset.episode(0)  # {"observation.agent_pos": [T, 2], ..., "action": [T, 2]}
            for batch in dataset.windows({"observation.agent_pos": (-1, 0), "action": range(8)}, batch_size=32):
                ...
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.uri, self.name, self.fps = dataset.uri, dataset.name, dataset.schema.fps
        self.features: dict[str, Feature] = {each.key: each for each in dataset.schema.features}
        self.splits, self.metadata = dataset.splits, dataset.metadata

    def __repr__(self) -> str:
        shapes = ", ".join(f"{key} {_expected(each)}" for key, each in self.features.items())
        return f"<dataset {self.name} of {len(self):,} episodes at {self.fps:g} a second: {shapes}>"

    def __len__(self) -> int:
        return len(self._dataset.rows)

    @property
    def texts(self) -> tuple[str, ...]:
        """What robots are told; features of the kind text are numbers in this table."""
        return self._dataset.texts

    def episodes(self, split: str = "all") -> list[str]:
        """The ids of the episodes of a split, in order."""
        return [row.episode_id for row in self._dataset.episodes(split)]

    def episode(self, which: int | str, keys: Sequence[str] | None = None) -> dict[str, Array]:
        """The steps of one episode by key, ``[T, ...]``: numbers, decoded pictures, masks, indexes of texts.

        Args:
            which: its id, or its number.
            keys: of the features wanted; all where None (pictures of a long episode are large).
        """
        unknown = [key for key in keys or () if key not in self.features]
        if unknown:
            close = nearest(unknown[0], self.features)
            raise ConfigError(
                f"the dataset has no feature {unknown[0]}",
                where=self.uri,
                why=f"it has {', '.join(self.features)}",
                fix=f"write {close}" if close else "choose one of them",
            )
        row = self._row(which)
        return self._dataset.values(row, {key: self.features[key].kind for key in keys or self.features})

    def _row(self, which: int | str) -> Any:
        rows = self._dataset.rows
        ids = rows.ids() if isinstance(which, str) else ()
        number = int(np.flatnonzero(np.asarray(ids) == which)[0]) if isinstance(which, str) and which in ids else which
        if isinstance(number, str) or not -len(rows) <= number < len(rows):
            raise ConfigError(
                f"the dataset has no episode {which!r}",
                where=self.uri,
                why=f"it has {len(rows):,} episodes, {rows[0].episode_id!r} to {rows[len(rows) - 1].episode_id!r}",
                fix="dataset.episodes() lists their ids",
            )
        return rows[number % len(rows)]

    def windows(
        self, steps: Mapping[str, Sequence[int]], *, batch_size: int, split: str = "train", seed: int = 0
    ) -> Iterator[dict[str, Array]]:
        """Endless shuffled batches; each key with its steps relative to the window's own, and ``KEY_is_pad`` beside it."""
        from tendon.loader import Loader

        wanted = {key: tuple(deltas) for key, deltas in steps.items()}
        loader = Loader(self._dataset, split, wanted, batch_size, seed)
        try:
            while True:
                yield {key: np.array(values) for key, values in next(loader).items()}  # its buffers are used again
        finally:
            loader.close()

    def statistics(self, split: str = "train") -> Mapping[str, FeatureStats]:
        """Mean, deviation, range and quantiles of each feature of numbers."""
        from tendon.data.stats import compute_stats

        return compute_stats(self._dataset, split).features


def open_dataset(uri: str) -> OpenDataset:
    """A dataset that ``tendon convert`` or a run made.

    Raises:
        TendonError: none is there.
    """
    from tendon.data.dataset import open_dataset as open_
    from tendon.registry.names import address

    return OpenDataset(open_(address(uri, ("datasets",))))


def run(
    source_uri: str, *, config: str = "", store_uri: str = "outputs/run", quiet: bool = True, **parameters: Any
) -> RunResult:
    """The whole pipeline on this machine: the compiled DAG, from demonstrations to a verdict.

    Args:
        source_uri: of the demonstrations.
        config: what ``tendon train`` takes, ``"experiment=reach_bc training.offline_steps=2000"``.
        store_uri: where everything is kept; what is finished there is not made again.
        quiet: no progress on standard output.
        parameters: others of the pipeline by their names, such as ``evaluate_episodes=50`` or ``policy_sweep=[...]``.
    """
    import sys
    from pathlib import Path

    from tendon.runner import Console, default_arguments, default_yaml, run_local

    yaml_path = default_yaml()
    given = {"data_source_uri": source_uri, "data_store_uri": store_uri, **parameters}
    given |= {"policy_config": config} if config else {}
    for name in ("data_store_uri", "data_source_uri"):
        if "://" not in given[name]:
            given[name] = str(Path(given[name]).resolve())
    arguments = default_arguments(yaml_path) | given
    return run_local(
        yaml_path, arguments, store_uri=arguments["data_store_uri"], on_event=Console(sys.stdout, quiet=quiet)
    )


@dataclass(frozen=True)
class Comparison:
    """Two policies on the same fresh seeds: what a person reads, and both tables."""

    verdict: Verdict
    first: Evaluation
    second: Evaluation

    def __str__(self) -> str:
        return self.verdict.sentence


def compare(first: str, second: str, *, overrides: Sequence[str] = ()) -> Comparison:
    """Whether the first policy is better than the second, on seeds that neither was chosen on.

    Args:
        first: the challenger's bundle or checkpoint.
        second: the champion's.
        overrides: such as ``["eval.n_episodes=200"]``.
    """
    from tendon import steps
    from tendon.registry.confirmation import compare_tables

    bundles = [steps.bundle_of(uri, ())[0] for uri in (first, second)]
    config = steps.bundle_config(bundles[0], overrides)
    run_id = steps.compared_seeds(bundles[0], bundles[1], overrides)
    one, other = (steps.evaluate(bundle_uri=uri, config=config, block="confirmation", run_id=run_id) for uri in bundles)
    return Comparison(compare_tables(one, other), one, other)


def _expected(feature: Feature) -> str:
    return f"{'uint8' if feature.kind in PICTURES else 'numbers'} {list(feature.shape)}"


def _wrong(uri: str, key: str, feature: Feature, array: Array, fix: str) -> DataError:
    return DataError(
        f"{key} is not what the policy reads",
        where=f"{uri}, {key}",
        why=f"expected {_expected(feature)}, came {array.dtype} {list(array.shape)}",
        fix=fix,
    )


def _rename(key: str, given: Mapping[str, ArrayLike]) -> str:
    close = nearest(key, [str(name) for name in given])
    return f"rename {close} to {key}" if close else f"add {key!r}"
