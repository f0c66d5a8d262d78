"""Asks a policy for the actions of many episodes at once. Called by rollout.py, in one thread.

Every batch has the same number of rows, empty ones are filled with copies, and an episode has its own row from start to
end: so what it is answered does not depend on which others wait. Rows that give the same bits, as measured once
(``compare``), stand in for each other. A policy whose rows depend on each other is asked one episode at a time.
Axes: rows of a batch, T steps, D numbers of an action.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tendon.config.feature_map import IMAGE_SUFFIX, TASK, USUAL, FeatureMap
from tendon.errors import ConfigError

if TYPE_CHECKING:
    from tendon.policies.base import Policy

NUMERICS = 2  # since policies are asked in batches: the last bits of an action may differ from those of one row

Array = NDArray[Any]
Actions = NDArray[np.float64]  # [D], or [T, D]
GOAL = "goal."
INTEGER_KINDS = ("category",)
TOLERANCE = 1e-4  # of an action between one row alone and the same row in a batch, relative where it is above 1
LOW_PRECISION_TOLERANCE = 5e-2  # of networks in 16 bits


@dataclass(frozen=True)
class Reading:
    """What acting takes from a policy's windows: the steps of every key it reads, and how many actions are executed."""

    deltas: Mapping[str, tuple[int, ...]]
    execute: int

    @classmethod
    def of(cls, policy: Policy) -> Reading:
        """The one place that knows how a policy declares it."""
        windows = policy.windows
        return cls({key: span.deltas for key, span in windows.acting.items()}, windows.execute)

    @property
    def wants_goal(self) -> bool:
        """Whether the policy is shown what there is at the end."""
        return any(key.startswith(GOAL) for key in self.deltas)

    @property
    def depth(self) -> int:
        """How many observations of an episode are kept."""
        return 1 - min((min(steps) for steps in self.deltas.values()), default=0)


@dataclass(frozen=True)
class BatchCheck:
    """How actions were asked for, and what that changes: part of the summary of an evaluation."""

    rows: int  # of every batch; 1: one episode at a time
    bit_equal: bool  # to one episode at a time, where it was measured
    max_difference: float  # of an action, measured on the first observation of the first episode, in every row
    tolerance: float  # a policy that differs by more is asked for one episode at a time
    rows_apart: tuple[int, ...] | None = None  # that gave other bits than the first row; None: it was not measured

    def to_json(self) -> dict[str, Any]:
        """As kept in summary.json."""
        return {
            "rows": self.rows,
            "measured_on": "the first observation of the first episode, alone and in every row",
            "bit_equal": self.bit_equal,
            "max_difference": self.max_difference,
            "tolerance": self.tolerance,
            "rows_apart": None if self.rows_apart is None else list(self.rows_apart),
        }


class ActingEpisode:
    """One episode of a policy: its history, its memory, and the actions not yet executed."""

    def __init__(self, seed: int, row: int, depth: int) -> None:
        self.seed, self.row, self.depth = seed, row, depth
        self.history: deque[dict[str, Array]] = deque(maxlen=depth)
        self.memory: Any = None
        self.begun = False  # whether the memory is the policy's own
        self.goal: dict[str, Array] = {}
        self.instruction = ""
        self.planned: deque[Actions] = deque()


class Actor:
    """A policy at work; not shared between threads."""

    def __init__(
        self,
        policy: Policy,
        action_dim: int,
        features: FeatureMap = USUAL,
        rows: int = 1,
        *,
        rows_apart: Sequence[int] | None = None,
    ) -> None:
        import torch

        self.policy = policy
        self.action_dim = action_dim
        self.features = features
        self.rows = rows
        self.rows_apart = range(rows) if rows_apart is None else rows_apart
        self.reading = Reading.of(policy)
        self.last_s = 0.0  # seconds that the last batch took
        self._names: dict[str, str] = {}
        first = next(policy.parameters(), None)
        self.device = torch.device("cpu") if first is None else first.device
        self._low_precision = first is not None and first.dtype in (torch.bfloat16, torch.float16)

    def begin(self, seed: int, row: int = 0) -> ActingEpisode:
        """A fresh episode: what the policy draws in it depends on the seed alone."""
        return ActingEpisode(seed, row % self.rows, self.reading.depth)

    def act(self, episode: ActingEpisode, observation: dict[str, Array]) -> Actions:
        """The action for the newest observation (the simulator's names), of this episode alone."""
        episode.history.append(observation)
        if not episode.planned:
            self.ask([episode])
        return episode.planned.popleft()

    def ask(self, episodes: Sequence[ActingEpisode]) -> None:
        """Plan the next actions of every episode; ``history`` ends with what is observed now."""
        began = time.perf_counter()
        for batch in self._batches(episodes):
            actions, memories = self._answer(batch)
            for row, episode in batch.items():
                episode.memory = memories[row]
                episode.planned.extend(actions[row])
        self.last_s = time.perf_counter() - began

    def compare(self, episode: ActingEpisode) -> BatchCheck:
        """Ask for one episode alone, and for copies of it in all rows; nothing of the episode changes.

        The actor asks one at a time from here on if the rows differ by more than the tolerance.
        """
        tolerance = LOW_PRECISION_TOLERANCE if self._low_precision else TOLERANCE
        if self.rows == 1:
            return BatchCheck(1, True, 0.0, tolerance)
        self._begin(episode)
        alone = self._answer({0: episode}, rows=1)[0][0]
        began = time.perf_counter()
        together = self._answer(dict.fromkeys(range(self.rows), episode))[0]
        self.last_s = time.perf_counter() - began
        bit_equal = bool(np.array_equal(together, np.broadcast_to(alone, together.shape), equal_nan=True))
        scale = np.maximum(1.0, np.abs(alone))
        largest = 0.0 if bit_equal else float(np.nan_to_num(np.abs(together - alone) / scale, nan=np.inf).max())
        if largest > tolerance:
            self.rows = 1
        self.rows_apart = apart = tuple(
            row for row, given in enumerate(together) if not np.array_equal(given, together[0], equal_nan=True)
        )
        return BatchCheck(self.rows, bit_equal, largest, tolerance, apart)

    def _begin(self, episode: ActingEpisode) -> None:
        if not episode.begun:
            episode.memory, episode.begun = self.policy.start(episode.seed), True

    def _batches(self, episodes: Sequence[ActingEpisode]) -> list[dict[int, ActingEpisode]]:
        """Row to episode; memories of one batch have one structure, and no two episodes have one row."""
        batches: dict[Any, list[dict[int, ActingEpisode]]] = {}
        for episode in episodes:
            self._begin(episode)
            alike = batches.setdefault(_structure(episode.memory), [])
            own = episode.row % self.rows
            free = ((batch, row) for batch in alike for row in self._rows_of(own) if row not in batch)
            batch, row = next(free, ({}, own))
            if not batch:
                alike.append(batch)
            batch[row] = episode
        return [batch for alike in batches.values() for batch in alike]

    def _rows_of(self, own: int) -> Iterator[int]:
        """The rows that an episode may have, its own first."""
        yield own
        if own not in self.rows_apart:
            yield from (row for row in range(self.rows) if row not in self.rows_apart)

    def _answer(self, batch: Mapping[int, ActingEpisode], rows: int = 0) -> tuple[Actions, list[Any]]:
        """Actions ``[rows, T, D]`` and the memory of each row; rows without an episode hold copies of the first one."""
        import torch

        episodes = list(batch.values())
        places = {row: place for place, row in enumerate(batch)}
        of_rows = [places.get(row, 0) for row in range(rows or self.rows)]
        observation: dict[str, Any] = {}
        for key in self.reading.deltas:
            windows = self._windows(key, episodes)
            is_text = isinstance(windows, list)
            observation[key] = (
                [windows[place] for place in of_rows]
                if is_text
                else torch.as_tensor(windows[of_rows], device=self.device)
            )
        memory = _gathered([episodes[place].memory for place in of_rows])
        with torch.inference_mode():
            given, memory = self.policy.act(observation, memory)
            actions = self._joined(given)
        return actions, [_scattered(memory, row) for row in range(len(of_rows))]

    def _joined(self, given: Any) -> Actions:
        """What ``act`` gives, ``[rows, T, D]`` for the action or each of its parts, as one array."""
        import torch

        parts: Mapping[str, Any] = given
        if set(parts) != set(self.features.action_keys):
            raise ConfigError(
                f"the policy gives {', '.join(sorted(parts))}, the simulator takes {', '.join(self.features.action_keys)}",
                where="rollout",
                why="the policy was trained with another layout of actions",
                fix="choose the env that its demonstrations come from, or mend env.action",
            )
        joined = torch.cat([parts[key].double() for key in self.features.action_keys], dim=-1)
        if joined.shape[-1] != self.action_dim:
            raise ConfigError(
                f"the policy gives {joined.shape[-1]} actions, the simulator takes {self.action_dim}",
                where="rollout",
                why="the policy was trained for another task or robot",
                fix="choose the env that its demonstrations come from",
            )
        actions: Actions = joined[:, : self.reading.execute].cpu().numpy()
        return actions

    def _windows(self, key: str, episodes: Sequence[ActingEpisode]) -> Any:
        """``[episodes, T, ...]``, or texts; before the start of an episode its first observation is repeated."""
        if key == TASK:
            told = [self._task(episode) for episode in episodes]
            return told if isinstance(told[0], str) else np.stack(told)
        if key.startswith(GOAL):
            steps, name = 1, key.removeprefix(GOAL)
            values = [self._value(episode.goal, name) for episode in episodes]
        else:
            deltas, name = self.reading.deltas[key], key
            steps = len(deltas)
            values = [
                self._value(episode.history[max(0, len(episode.history) - 1 + delta)], name)
                for episode in episodes
                for delta in deltas
            ]
        stacked = np.stack(values).reshape(len(episodes), steps, *values[0].shape)
        if stacked.dtype == np.uint8:
            return stacked
        kind = self.features.kinds.get(self._name_of(name), "state")
        return stacked.astype(np.int64 if kind in INTEGER_KINDS else np.float32)

    def _name_of(self, key: str) -> str:
        """The observation that a feature comes from."""
        if key not in self._names:
            self._names[key] = self.features.observation_of(key)
        return self._names[key]

    def _value(self, observation: Mapping[str, Array], key: str) -> Array:
        """The value of a feature (``observation.object``) in what a guest says (``object``)."""
        name = self._name_of(key)
        if name not in observation:
            image = name.endswith(IMAGE_SUFFIX) or self.features.camera_of(name) is not None
            raise ConfigError(
                f"the simulator does not observe {name!r}",
                where=f"policy input {key}",
                why=f"it observes {', '.join(sorted(observation))}",
                fix=f"add {name} to env.observation" if image else "choose the env the policy was trained for",
            )
        return observation[name]

    def _task(self, episode: ActingEpisode) -> Any:
        """What the robot is told: its number in the table of the policy's processing, or the text where it has none."""
        if not episode.instruction:
            raise ConfigError(
                "the policy reads what the robot is told, and nobody tells it anything",
                where=f"policy input {TASK}",
                why="the simulator gives no instruction, and env.instruction is empty",
                fix="env.instruction='lift the cube'",
            )
        processing = self.policy.processing
        if processing is None:
            return episode.instruction
        number = processing.text_index(episode.instruction)
        return np.full(len(self.reading.deltas[TASK]), number, np.int64)


def _structure(memory: Any) -> Any:
    """What two memories must share to be in one batch; what is no tensor must be equal."""
    import torch

    if isinstance(memory, torch.Tensor):
        if not memory.dim() or memory.shape[0] != 1:
            raise ValueError(
                f"a tensor in the memory of one episode has the shape {tuple(memory.shape)}: row axis first"
            )
        return "tensor", memory.dtype, tuple(memory.shape[1:])
    if isinstance(memory, Mapping):
        return "mapping", tuple((key, _structure(memory[key])) for key in memory)
    if isinstance(memory, (list, tuple)):
        return type(memory), tuple(_structure(one) for one in memory)
    return "value", memory


def _gathered(memories: Sequence[Any]) -> Any:
    """The memories of one episode each, as one of all rows."""
    import torch

    first = memories[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(list(memories)) if len(memories) > 1 else first
    if isinstance(first, Mapping):
        return {key: _gathered([memory[key] for memory in memories]) for key in first}
    if isinstance(first, (list, tuple)):
        return _like(first, [_gathered(parts) for parts in zip(*memories, strict=True)])
    return first


def _scattered(memory: Any, row: int) -> Any:
    """The memory of one row."""
    import torch

    if isinstance(memory, torch.Tensor):
        return memory[row : row + 1]
    if isinstance(memory, Mapping):
        return {key: _scattered(value, row) for key, value in memory.items()}
    if isinstance(memory, (list, tuple)):
        return _like(memory, [_scattered(part, row) for part in memory])
    return memory


def _like(container: Any, values: list[Any]) -> Any:
    """A list, tuple or named tuple with these values."""
    return type(container)(*values) if hasattr(container, "_fields") else type(container)(values)
