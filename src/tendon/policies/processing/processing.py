"""A processing: transforms in their order, filled from features and statistics; a module that moves with its policy.

``processing(batch)`` is what a net sees; ``processing.inverse(actions, batch)`` goes the way back in reversed order. Its
numbers are buffers: they travel with the weights, and ``save`` writes them with all that made them beside a bundle.

Example:
    >>> processing = Processing([Normalize(modes={"action": "q99"})], features, stats)
    >>> seen = processing(observation, "acting")
    >>> actions = processing.inverse({"action": net(seen)}, seen)
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tendon.data.features import Feature
from tendon.errors import ConfigError, DataError
from tendon.policies.processing.actions import Bins, PadWidth, RelativeActions
from tendon.policies.processing.images import Colour, Crop, Letterbox, Resize, ToFloat
from tendon.policies.processing.join import Join, SinCos
from tendon.policies.processing.normalize import Normalize
from tendon.policies.processing.parts import NormalizeParts
from tendon.policies.processing.prompt import Prompt
from tendon.policies.processing.rotations import Rotation
from tendon.policies.processing.text import BYTES, Tokenize, make_tokenizer
from tendon.policies.processing.transform import NONE, Features, Phase, Stats, Transform, frozen
from tendon.policies.spec import feature_from_json, feature_to_json

NUMERICS = 1

AUGMENT_NOISE = "draws"  # key in a batch: numbers in [0, 1) for random augmentation, [B, num_draws]
FORMAT = 1
TEXT_FILE, TENSOR_FILE, TOKENIZER = "processing.json", "processing.safetensors", "tokenizer"
KINDS: Mapping[str, type[Transform]] = {
    kind.kind: kind
    for kind in (
        Normalize,
        NormalizeParts,
        ToFloat,
        Resize,
        Letterbox,
        Crop,
        Colour,
        Rotation,
        RelativeActions,
        PadWidth,
        Bins,
        Tokenize,
        Prompt,
        Join,
        SinCos,
    )
}


class Processing(nn.Module):
    """The only thing between a dataset and a network."""

    def __init__(
        self,
        transforms: Sequence[Transform],
        features: Features,
        stats: Stats | None = None,
        *,
        times: Mapping[str, int] = NONE,
    ) -> None:
        """Fill the transforms.

        Args:
            transforms: in the order of the way in.
            features: what comes in.
            stats: numbers of the dataset; None when they are loaded next.
            times: steps of each key in a training window; one where none is named.

        Raises:
            ConfigError: a feature is missing, or has dimensions that a transform cannot take.
        """
        super().__init__()
        self.transforms, self.features, self.times = tuple(transforms), dict(features), dict(times)
        self.texts: list[str] = []
        self.draws: list[slice] = []
        self.num_draws = 0
        self._names: list[dict[str, str]] = []
        self._lock = threading.Lock()
        for index, transform in enumerate(self.transforms):
            after = transform.after(features)
            names = {}
            for name, values in transform.numbers(features, stats).items():
                names[name] = _buffer(index, name)
                self.register_buffer(names[name], torch.from_numpy(values.copy()))
            self._names.append(names)
            count = transform.num_draws(features, times)
            self.draws.append(slice(self.num_draws, self.num_draws + count))
            self.num_draws += count
            stats = None if stats is None else transform.stats_after(features, stats)
            features = after
        self.after = dict(features)  # what comes out
        self.set_texts(())

    def forward(self, batch: Mapping[str, Tensor], phase: Phase = "training") -> dict[str, Tensor]:
        """What a net sees. At random only in training, and only for a batch with ``AUGMENT_NOISE``.

        Raises:
            ConfigError: a feature has other dimensions than it was made for, by name.
        """
        self._demand_shapes(batch)
        seen = dict(batch)
        draws_BN = seen.get(AUGMENT_NOISE) if phase == "training" else None
        for index, transform in enumerate(self.transforms):
            if transform.when in ("always", phase):
                own_BN = None if draws_BN is None else draws_BN[:, self.draws[index]]
                seen |= transform.forward(seen, self.numbers(index), own_BN, phase)
        return seen

    def inverse(self, actions: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a net gave, as the dataset has it; ``batch``: the observation that the net saw, processed."""
        raw = dict(actions)
        for index in reversed(range(len(self.transforms))):
            if self.transforms[index].when != "training":
                raw |= self.transforms[index].inverse(raw, self.numbers(index), batch)
        return {key: value for key, value in raw.items() if key in self.features or key not in self.after}

    def __getstate__(self) -> dict[str, Any]:
        """A copy has a lock of its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()

    def set_texts(self, texts: Sequence[str]) -> None:
        """The table that a text's index points into: the loader's, before training."""
        with self._lock:
            self.texts = list(texts)
            self._tabulate()

    def text_index(self, text: str) -> int:
        """The index of a text, which is put at the end of the table where it is new: what a simulator asks for."""
        with self._lock:
            if text not in self.texts:
                self.texts.append(text)
                self._tabulate()
            return self.texts.index(text)

    def save(self, folder: Path) -> None:
        """Write processing.json and processing.safetensors, and the files of a tokenizer that came from a folder."""
        transforms = [transform.to_json() for transform in self.transforms]
        for index, transform in enumerate(self.transforms):
            if isinstance(transform, (Tokenize, Prompt)) and transform.tokenizer != BYTES:
                place = f"{TOKENIZER}-{index}"
                make_tokenizer(transform.tokenizer).save(folder / place)
                transforms[index]["tokenizer"] = place
        content = {
            "format": FORMAT,
            "features": {key: feature_to_json(feature) for key, feature in self.features.items()},
            "transforms": transforms,
            "times": self.times,
            "texts": self.texts,
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TEXT_FILE).write_text(json.dumps(content, indent=1) + "\n")
        tensors = {name: tensor.contiguous().cpu() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / TENSOR_FILE)

    def _tabulate(self) -> None:
        """The tables of the texts, on the device; not among the weights, which no text belongs to."""
        device = self.numbers_device()
        for index, transform in enumerate(self.transforms):
            for name, values in transform.tables(self.texts).items():
                self._names[index][name] = _buffer(index, name)
                self.register_buffer(_buffer(index, name), torch.from_numpy(values).to(device), persistent=False)

    def numbers_device(self) -> torch.device:
        """Where its numbers are, which is where its policy is."""
        return next((buffer.device for buffer in self.buffers()), torch.device("cpu"))

    def numbers(self, index: int) -> dict[str, Tensor]:
        """What statistics gave a transform, by name."""
        return {name: self.get_buffer(buffer) for name, buffer in self._names[index].items()}

    def _demand_shapes(self, batch: Mapping[str, Tensor]) -> None:
        for key, feature in self.features.items():
            if key in batch:
                shape = tuple(batch[key].shape[2:])
                expected = batch_shape(feature, floats=batch[key].is_floating_point())
                if shape != expected:
                    raise ConfigError(
                        f"{key} has the shape {shape} in a batch, the policy was made for {expected}",
                        where=f"processing of {key}",
                        why="the data or the simulator shows it in another size than the demonstrations did",
                        fix="use the dataset and the env that the policy was trained with, or train it anew",
                    )


def load_processing(folder: Path, where: str = "") -> Processing:
    """What ``save`` wrote, to the bit.

    Raises:
        DataError: it cannot be read.
    """
    try:
        content = json.loads((folder / TEXT_FILE).read_text())
        features = {key: feature_from_json(key, values) for key, values in content["features"].items()}
        transforms = [_transform(values, folder) for values in content["transforms"]]
        made = Processing(transforms, features, times=content["times"])
        made.load_state_dict(load_file(folder / TENSOR_FILE))
        made.set_texts(content["texts"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise DataError(
            "the processing cannot be read",
            where=where or str(folder),
            why=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            fix="use the version of tendon that wrote it, or export again",
        ) from error
    return made


def batch_shape(feature: Feature, *, floats: bool = False) -> tuple[int, ...]:
    """Of one step in a batch: vectors flat, cameras with their channels last as bytes and first as floats."""
    if feature.kind == "text":
        return ()
    if feature.kind == "image" and len(feature.shape) == 3:
        height, width, channels = feature.shape
        return (channels, height, width) if floats else feature.shape
    return feature.shape if feature.kind in ("mask", "depth") else (feature.dim,)


def _transform(values: Mapping[str, Any], folder: Path) -> Transform:
    fields = {key: frozen(value) for key, value in values.items() if key != "kind"}
    if values["kind"] in (Tokenize.kind, Prompt.kind) and fields["tokenizer"] != BYTES:
        fields["tokenizer"] = str(folder / fields["tokenizer"])
    return KINDS[values["kind"]](**fields)


def _buffer(index: int, name: str) -> str:
    """A buffer's name may have no dots."""
    return f"{index}-{name.replace('.', '-')}"
