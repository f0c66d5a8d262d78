"""Several loaders as one. The weights hold in any 4096 samples; each dataset has its own epochs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tendon.data.manifest import digest_of
from tendon.errors import ConfigError
from tendon.loader.batch_maker import BatchMaker
from tendon.loader.iterator import BatchIterator
from tendon.loader.loader import Loader
from tendon.loader.meter import Meter
from tendon.loader.mixture import DatasetMixture


class BatchMixer:
    """Any batch of a mixture: the windows of every dataset at their places. Texts are indexes into one table of all."""

    def __init__(
        self, makers: Sequence[BatchMaker], mixture: DatasetMixture, batch_size: int, rank: int, world: int
    ) -> None:
        self._makers, self._mixture = tuple(makers), mixture
        self.batch_size, self.rank, self.world = batch_size, rank, world
        self.meter = Meter()
        self.texts = tuple(dict.fromkeys(text for maker in makers for text in maker.texts))
        number_of = {text: i for i, text in enumerate(self.texts)}
        self._numbers = [np.array([number_of[text] for text in maker.texts], np.int64) for maker in makers]

    def share(self, first: int) -> dict[str, np.ndarray]:
        """This rank's share of the batch that begins at position ``first``."""
        positions = np.arange(first + (self.rank - first) % self.world, first + self.batch_size, self.world)
        datasets, positions_in_dataset = self._mixture.at(positions)
        batch: dict[str, np.ndarray] = {"dataset_index": datasets}
        for i, maker in enumerate(self._makers):
            chosen = np.flatnonzero(datasets == i)
            if not len(chosen):
                continue
            for name, array in maker.at(positions_in_dataset[chosen]).items():
                if name not in batch:
                    batch[name] = np.empty((len(positions), *array.shape[1:]), array.dtype)
                batch[name][chosen] = self._numbers[i][array] if name in maker.text_keys else array
        return batch


class MixedLoader(BatchIterator):
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
        if len(weights) != len(loaders) or batch_size < world:
            raise ConfigError(
                "a mixture does not fit together",
                where="loader, mixture",
                why=f"{len(loaders)} datasets, {len(weights)} weights, batches of {batch_size} for {world} processes",
                fix="give one weight per dataset, and batches of at least the world",
            )
        self._loaders = tuple(loaders)
        self._check_shapes()
        mixture = DatasetMixture(weights, seed, stratified=stratified)
        self._mixer = BatchMixer([loader.maker for loader in loaders], mixture, batch_size, rank, world)
        self.num_windows = sum(loader.num_windows for loader in loaders)
        self.num_episodes = sum(loader.num_episodes for loader in loaders)
        states = [loader.state for loader in loaders]
        manifest = digest_of([state["manifest"] for state in states])
        seeds_and_plans = [[state["seed"], state["plan"]] for state in states]
        plan = digest_of([seeds_and_plans, mixture.counts.tolist(), stratified])[:16]
        super().__init__(self._mixer, seed, manifest, plan, ahead)

    def epoch_of(self, k: int) -> int:
        """Samples before batch ``k``, divided by the windows of all datasets together."""
        return k * self.batch_size // self.num_windows

    @property
    def texts(self) -> tuple[str, ...]:
        """The table that texts in a batch are indexes into: those of all datasets."""
        return self._mixer.texts

    @property
    def meter(self) -> Meter:
        """Seconds of waiting of the mixture; each loader has its own as well."""
        return self._mixer.meter

    @property
    def metrics(self) -> dict[str, float]:
        """Seconds of waiting at every stage, and the share of its time that the consumer waited, for the log."""
        return self._mixer.meter.metrics()

    def close(self) -> None:
        """Stop the threads of all loaders."""
        super().close()
        for loader in self._loaders:
            loader.close()

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
