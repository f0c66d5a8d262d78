"""Several loaders as one: weights that hold in any 4096 samples, each dataset with epochs of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tendon.data.manifest import digest_of
from tendon.errors import ConfigError
from tendon.loader.ahead import Ahead
from tendon.loader.loader import STATE_VERSION, Loader, State
from tendon.loader.meter import Meter
from tendon.loader.mistakes import check_state
from tendon.loader.mixture import Mixture


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
        """Join loaders whose windows have the same shapes; their own batch sizes, ranks and worlds do not matter.

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
        self._mixture = Mixture(weights, seed, stratified=stratified)
        self.num_windows = sum(loader.num_windows for loader in loaders)
        self.num_episodes = sum(loader.num_episodes for loader in loaders)
        states = [loader.state for loader in loaders]
        self._manifest = digest_of([state["manifest"] for state in states])
        own = [[state["seed"], state["plan"]] for state in states]
        self._plan = digest_of([own, self._mixture.counts.tolist(), stratified])[:16]
        self._samples, self._num_ahead = 0, ahead
        self._ahead: Ahead | None = None
        self.meter = Meter()
        self._check_shapes()

    def batch(self, k: int) -> dict[str, np.ndarray]:
        """This rank's share of the k-th batch."""
        return self._share(k * self.batch_size)

    def epoch_of(self, k: int) -> int:
        """How often as many windows as there are have been seen when batch ``k`` begins."""
        return k * self.batch_size // self.num_windows

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._ahead is None:
            self._ahead = Ahead(self, self._samples, self._num_ahead)
        batch = self._ahead.next()
        self._samples += self.batch_size
        return batch

    @property
    def state(self) -> State:
        """Where the iteration stands."""
        return {
            "v": STATE_VERSION,
            "seed": self.seed,
            "samples": self._samples,
            "manifest": self._manifest,
            "plan": self._plan,
        }

    def load_state(self, state: Mapping[str, int | str | list[int]]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            ConfigError: it belongs to something else.
        """
        check_state(state, self.state)
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        self._samples = int(state["samples"])  # type: ignore[arg-type]

    def close(self) -> None:
        """Stop threads."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        for loader in self._loaders:
            loader.close()

    def _share(self, first: int) -> dict[str, np.ndarray]:
        positions = np.arange(first + (self.rank - first) % self.world, first + self.batch_size, self.world)
        datasets, own = self._mixture.at(positions)
        batch: dict[str, np.ndarray] = {"dataset_index": datasets}
        for i, loader in enumerate(self._loaders):
            chosen = np.flatnonzero(datasets == i)
            if not len(chosen):
                continue
            for name, array in loader.at(own[chosen]).items():
                if name not in batch:
                    batch[name] = np.empty((len(positions), *array.shape[1:]), array.dtype)
                batch[name][chosen] = array
        return batch

    def _check_shapes(self) -> None:
        shapes = [{field.name: field.shape for field in loader.fields} for loader in self._loaders]
        for i, own in enumerate(shapes):
            if own != shapes[0]:
                name = next(n for n in {**own, **shapes[0]} if own.get(n) != shapes[0].get(n))
                raise ConfigError(
                    "datasets of a mixture have windows of different shapes",
                    where=f"{self._loaders[i].dataset.uri}, {name}",
                    why=f"{own.get(name)} here, {shapes[0].get(name)} in {self._loaders[0].dataset.uri}",
                    fix="ask for the same features and deltas, and convert images to one size",
                )
