"""Batches of windows from a converted dataset: any batch by its number, exact epochs, a state of one integer.

The low-dimensional features asked for are held in memory; a batch is one gather per set of deltas. Called by the
training loop, which makes tensors of the arrays. Axes: B windows, T deltas of a feature, D its numbers.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from tendon.data.dataset import Dataset
from tendon.data.manifest import digest_of
from tendon.errors import ConfigError
from tendon.loader.order import Order
from tendon.loader.windows import Edge, Span, spans_of, steps_of, window_table

STATE_VERSION = 1

State = dict[str, int | str]


@dataclass(frozen=True)
class _Group:
    """Features with the same span: their values side by side, float32 ``[steps, sum of D]``."""

    span: Span
    deltas: np.ndarray
    columns: tuple[tuple[str, str, int, int], ...]  # feature, its mask, first and last column
    values: np.ndarray


class Loader:
    """Endless batches; epochs follow without a gap, so a batch may hold the end of one and the start of another."""

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        deltas: Mapping[str, Sequence[int]],
        batch_size: int,
        seed: int,
        *,
        edges: Mapping[str, Edge | tuple[Edge, Edge]] | None = None,
        skip_episodes: Sequence[str] = (),
    ) -> None:
        """Read the features of a split into memory.

        Args:
            dataset: a converted dataset.
            split: one of its splits, or ``all``.
            deltas: per feature the steps relative to t, such as ``{"action": (0, 1, 2)}``.
            batch_size: windows per batch.
            seed: of the order.
            edges: per feature what lies beyond an episode: ``repeat`` (default), ``zero`` or ``none``; or a pair.
            skip_episodes: ids of episodes to leave out.

        Raises:
            ConfigError: a feature, split or episode does not exist, or no window fits.
            DataError: a shard is damaged.
        """
        spans = spans_of(deltas, edges)
        _check(dataset, spans, batch_size)
        self.batch_size, self.seed = batch_size, seed
        rows = dataset.episodes(split, skip_episodes)
        self.num_episodes = len(rows)
        self._episode_index = np.array([row.index for row in rows], np.int64)
        self._table = window_table([row.length for row in rows], spans.values())
        self.num_windows = self._table.num_windows
        if not self.num_windows:
            raise ConfigError(
                "no window fits into any episode",
                where=f"{dataset.uri}, split {split}",
                why=f"the longest of {len(rows)} episodes has {max(row.length for row in rows)} steps, "
                "and the edge none forbids padding",
                fix="use fewer deltas, or the edge repeat",
            )
        self._order = Order(self.num_windows, seed)
        steps = np.concatenate(list(dataset.lowdims(rows)))
        self._groups = _grouped(steps, spans)
        self._manifest = dataset.manifest.digest
        chosen = {name: asdict(span) for name, span in sorted(spans.items())}
        self._plan = digest_of({"split": split, "skip": sorted(skip_episodes), "spans": chosen})[:16]
        self._samples = 0

    def batch(self, k: int) -> dict[str, np.ndarray]:
        """The k-th batch, whatever was asked for before.

        Returns:
            Per feature float32 ``[B, T, D]`` and ``<feature>_is_pad`` bool ``[B, T]`` (True: beyond the episode);
            ``episode_index`` and ``frame_index`` int64 ``[B]``. Features of one span are views of one array.
        """
        return self.samples(k * self.batch_size, self.batch_size)

    def samples(self, first: int, count: int) -> dict[str, np.ndarray]:
        """The windows at positions ``[first, first + count)`` of the endless stream, as ``batch`` gives them."""
        episodes_B, t_B = self._table.locate(self._order.windows(first, count))
        length_B, row0_B = self._table.length[episodes_B], self._table.row0[episodes_B]
        batch = {"episode_index": self._episode_index[episodes_B], "frame_index": t_B}
        for group in self._groups:
            steps_BT, pad_BT = steps_of(t_B, length_B, group.deltas)
            steps_BT += row0_B[:, None]
            values_BTD = group.values.take(steps_BT, axis=0)
            if group.span.before == "zero":
                values_BTD[pad_BT & (t_B[:, None] + group.deltas < 0)] = 0
            if group.span.after == "zero":
                values_BTD[pad_BT & (t_B[:, None] + group.deltas > 0)] = 0
            for name, mask, begin, end in group.columns:
                batch[name] = values_BTD[:, :, begin:end]
                batch[mask] = pad_BT
        return batch

    def epoch_of(self, k: int) -> int:
        """The epoch in which batch ``k`` begins."""
        return self._order.epoch_of(k * self.batch_size)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        batch = self.samples(self._samples, self.batch_size)
        self._samples += self.batch_size
        return batch

    @property
    def state(self) -> State:
        """Where the iteration stands; small, JSON, the same on all ranks."""
        return {
            "v": STATE_VERSION,
            "seed": self.seed,
            "samples": self._samples,
            "manifest": self._manifest,
            "plan": self._plan,
        }

    def load_state(self, state: Mapping[str, int | str]) -> None:
        """Continue where ``state`` was taken; another batch size is fine.

        Raises:
            ConfigError: it belongs to another dataset, seed, split or set of windows.
        """
        meaning = {
            "v": "loader version",
            "manifest": "dataset",
            "seed": "seed",
            "plan": "split, windows or list of skipped episodes",
        }
        for key, what in meaning.items():
            if state.get(key) != self.state[key]:
                raise ConfigError(
                    f"the saved position belongs to another {what}",
                    where=f"loader state, {key}",
                    why=f"it says {state.get(key)!r}, this run has {self.state[key]!r}",
                    fix="continue with the configuration of the saved run, or start a new one",
                )
        self._samples = int(state["samples"])


def _grouped(steps: np.ndarray, spans: Mapping[str, Span]) -> list[_Group]:
    """Side by side what is gathered together."""
    groups = []
    for span in dict.fromkeys(spans.values()):
        names = [name for name, own in spans.items() if own == span]
        parts = [steps[name].reshape(len(steps), -1) for name in names]
        ends = np.cumsum([part.shape[1] for part in parts]).tolist()
        columns = tuple(
            (name, f"{name}_is_pad", end - part.shape[1], end)
            for name, part, end in zip(names, parts, ends, strict=True)
        )
        values = np.concatenate(parts, axis=1, dtype=np.float32, casting="unsafe")
        groups.append(_Group(span, np.array(span.deltas, np.int64), columns, values))
    return groups


def _check(dataset: Dataset, spans: Mapping[str, Span], batch_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(
            "the batch size is not positive",
            where="training.batch_size",
            why=f"it is {batch_size}",
            fix="use 1 or more",
        )
    known = dataset.manifest.schema.dims
    cameras = {camera.name for camera in dataset.manifest.schema.cameras}
    for name, span in spans.items():
        if not span.deltas:
            raise ConfigError(
                f"{name} has no deltas", where="windows", why="an empty window holds nothing", fix="give at least (0,)"
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.4)
            raise ConfigError(
                f"the dataset has no low-dimensional feature named {name}",
                where=dataset.uri,
                why="it is a camera, and images are not loaded yet"
                if name in cameras
                else f"it has {', '.join(known)}",
                fix=f"write {near[0]}" if near else "choose one of the features of the dataset",
            )
