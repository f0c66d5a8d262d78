"""What is in a file of weights: its hash, its tensors, and the policy if it is one. Called by ``tendon weights inspect``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tendon.errors import DataError
from tendon.weights.foreign import format_of, recognised, weight_format
from tendon.weights.spec import SavedWeights, WeightSpec, content_sha256, opened, tensor_files

IN_CHECKPOINT = "pretrained_model"


@dataclass(frozen=True)
class TensorHeader:
    """One tensor without its values."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    num_bytes: int


@dataclass(frozen=True)
class Contents:
    """What was found."""

    format: str
    sha256: str
    tensors: Sequence[TensorHeader]
    policy: str = ""
    reads: Sequence[str] = ()
    base: Mapping[str, WeightSpec] | None = None
    notes: Sequence[str] = ()


def inspect_weights(path: Path, format_name: str = "") -> Contents:
    """Look into a checkpoint or bundle of this machine, safetensors, or a file of another system.

    Raises:
        DataError: there is no such file, or it is damaged.
        ConfigError: there is no such format.
    """
    if not path.exists():
        raise DataError("there is no such file", where=str(path), why="no such file", fix="check the path")
    folder = path / IN_CHECKPOINT if (path / IN_CHECKPOINT).is_dir() else path
    is_plain = path.suffix == ".safetensors" or (folder.is_dir() and any(folder.rglob("*.safetensors")))
    if is_plain and folder.is_dir() and not (folder / "policy.json").is_file():  # another system's, or tensors alone
        is_plain = recognised(path) is None
    if is_plain and not format_name:
        saved = SavedWeights.read(folder)
        policy, reads = _described(folder)
        return Contents(
            "safetensors", content_sha256(folder), _headers(folder), policy, reads, saved.base if saved else None
        )
    found = weight_format(format_name)[0] if format_name else format_of(path)
    foreign = found.read(path)
    tensors = [
        TensorHeader(
            name, tuple(value.shape), str(value.dtype).removeprefix("torch."), value.numel() * value.element_size()
        )
        for name, value in foreign.policy.state_dict().items()
    ]
    sha256 = content_sha256(path) if path.is_file() else ""
    return Contents(found.name, sha256, tensors, foreign.info.name, tuple(foreign.info.features), notes=foreign.notes)


def draw(contents: Contents) -> str:
    """As text: a few facts, then a line for each tensor."""
    total, count = sum(one.num_bytes for one in contents.tensors), sum(_count(one.shape) for one in contents.tensors)
    rows = [("format", contents.format), ("sha256", contents.sha256)]
    if contents.policy:
        rows += [("policy", contents.policy), ("features", ", ".join(contents.reads))]
    rows.append(("numbers", f"{count:,} in {len(contents.tensors)} tensors, {total / 2**20:.1f} MiB"))
    rows += [(f"base of {prefix}", f"{spec.uri} {spec.sha256}") for prefix, spec in (contents.base or {}).items()]
    rows += [("note", note) for note in contents.notes]
    width = max(len(one.name) for one in contents.tensors) if contents.tensors else 0
    lines = [f"{one.name:<{width}}  {one.dtype:<9} {list(one.shape)}" for one in contents.tensors]
    return "\n".join([*(f"{key:<9} {value}" for key, value in rows if value), "", *lines])


def _described(folder: Path) -> tuple[str, tuple[str, ...]]:
    file = folder / "policy.json"
    if not file.is_file():
        return "", ()
    content = json.loads(file.read_text())
    return str(content["policy"]["name"]), tuple(content["features"])


def _headers(path: Path) -> list[TensorHeader]:
    """Names, shapes and types of safetensors; no value is read."""
    headers = []
    for file in tensor_files(path):
        with opened(file, "np") as content:
            for name in content.keys():  # noqa: SIM118 - it is no mapping
                part = content.get_slice(name)
                shape, dtype = tuple(part.get_shape()), str(part.get_dtype())
                headers.append(TensorHeader(name, shape, dtype, _count(shape) * _width(dtype)))
    return headers


def _count(shape: Sequence[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _width(dtype: str) -> int:
    """Bytes of one number: F32, BF16, I64, F8_E4M3, BOOL."""
    digits = "".join(filter(str.isdigit, dtype.partition("_")[0]))
    return int(digits) // 8 if digits else 1
