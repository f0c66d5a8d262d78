"""Several loaders as one. The weights hold in any 4096 samples; each dataset has its own epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tendon.data.manifest import digest_of
from tendon.errors import ConfigError
from tendon.loader.argument_checks import check_state
from tendon.loader.loader import STATE_VERSION, Loader, State
from tendon.loader.meter import Meter
from tendon.loader.mixture import DatasetMixture
from tendon.loader.prefetcher import Prefetcher


class MixedLoader:
    """Batches of windows of several datasets, with ``dataset_index``; otherwise as Loader gives them."""

    def __init__(
        self,
        loaders: Sequence[Loader],
        weights: Sequence[float],
        batch_size: int,
        seed: int,
        *,
        stratified: bool = False,
        rank: int = 0,
        world: int = 1,
        ahead: int = 2,
    ) -> None:
        """Join loaders whose windows have the same shapes. The loaders' batch sizes, ranks and worlds are not used.

        Raises:
            ConfigError: the weights are not usable, or the shapes differ.
        """
        self._loaders, self.batch_size, self.seed = tuple(loaders), batch_size, seed
        self.rank, self.world = rank, world
        if len(weights) != len(loaders) or batch_size < world:
            raise ConfigError(
                "a mixture does not fit together",
                where="loader, mixture",
                why=f"{len(loaders)} datasets, {len(weights)} weights, batches of {batch_size} for {world} processes",
                fix="give one weight per dataset, and batches of at least the world",
            )
        self._mixture = DatasetMixture(weights, seed, stratified=stratified)
        self.num_windows = sum(loader.num_windows for loader in loaders)
        self.num_episodes = sum(loader.num_episodes for loader in loaders)
        states = [loader.state for loader in loaders]
        self._manifest = digest_of([state["manifest"] for state in states])
        seeds_and_plans = [[state["seed"], state["plan"]] for state in states]
        self._plan = digest_of([seeds_and_plans, self._mixture.counts.tolist(), stratified])[:16]
        self._samples, self._num_prefetched = 0, ahead
        self._prefetcher: Prefetcher | None = None
        self.meter = Meter()
        self._check_shapes()

    def batch(self, k: int) -> dict[str, np.ndarray]:
        """This rank's share of the k-th batch."""
        return self._share(k * self.batch_size)

    def epoch_of(self, k: int) -> int:
        """Samples before batch ``k``, divided by the windows of all datasets together."""
        return k * self.batch_size // self.num_windows

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._prefetcher is None:
            self._prefetcher = Prefetcher(self, self._samples, self._num_prefetched)
        batch = self._prefetcher.next()
        self._samples += self.batch_size
        return batch

    @property
    def state(self) -> State:
        """The position of the iteration."""
        return {
            "v": STATE_VERSION,
            "seed": self.seed,
            "samples": self._samples,
            "manifest": self._manifest,
            "plan": self._plan,
        }

    def load_state(self, state: Mapping[str, int | str | list[int]]) -> None:
        """Continue at the position of ``state``.

        Raises:
            ConfigError: it belongs to another mixture.
        """
        check_state(state, self.state)
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None
        self._samples = int(state["samples"])  # type: ignore[arg-type]

    def close(self) -> None:
        """Stop the threads of all loaders."""
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None
        for loader in self._loaders:
            loader.close()

    def _share(self, first: int) -> dict[str, np.ndarray]:
        positions = np.arange(first + (self.rank - first) % self.world, first + self.batch_size, self.world)
        datasets, positions_in_dataset = self._mixture.at(positions)
        batch: dict[str, np.ndarray] = {"dataset_index": datasets}
        for i, loader in enumerate(self._loaders):
            chosen = np.flatnonzero(datasets == i)
            if not len(chosen):
                continue
            for name, array in loader.at(positions_in_dataset[chosen]).items():
                if name not in batch:
                    batch[name] = np.empty((len(positions), *array.shape[1:]), array.dtype)
                batch[name][chosen] = array
        return batch

    def _check_shapes(self) -> None:
        first, *others = [{field.name: field.shape for field in loader.fields} for loader in self._loaders]
        for i, shapes in enumerate(others, start=1):
            if shapes != first:
                name = next(n for n in {**shapes, **first} if shapes.get(n) != first.get(n))
                raise ConfigError(
                    "datasets of a mixture have windows of different shapes",
                    where=f"{self._loaders[i].dataset.uri}, {name}",
                    why=f"{shapes.get(name)} here, {first.get(name)} in {self._loaders[0].dataset.uri}",
                    fix="ask for the same features and deltas, and convert images to one size",
                )
