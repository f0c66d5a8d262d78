"""Tensors into a policy: base weights file by file without a second copy, and what a checkpoint holds of it.

A module that is filled from base weights is built under ``torch.device("meta")``: it takes no memory until here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tendon.errors import DataError, Problem
from tendon.policies.base import Policy, under
from tendon.weights.lora import BASE_LAYER
from tendon.weights.spec import INDEX, opened, tensor_files

SHARD_BYTES = 4 << 30


def read_tensors(
    path: Path, device: torch.device | str = "cpu", *, one_by_one: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of a safetensors file or of a folder of shards; on the CPU they are the file's own pages.

    Args:
        path: the file or folder.
        device: where the tensors go.
        one_by_one: let go of a tensor's pages with the tensor, not with the last one of its file: for who converts them.

    Raises:
        DataError: a file is damaged, or a shard is missing.
    """
    for file in tensor_files(path):
        with opened(file, "pt", str(device)) as content:
            names = list(content.keys())
            if not one_by_one:
                yield from ((name, content.get_tensor(name)) for name in names)
        for name in names if one_by_one else ():
            with opened(file, "pt", str(device)) as content:
                tensor = content.get_tensor(name)
            yield name, tensor
            del tensor


def write_sharded(tensors: Mapping[str, Tensor], folder: Path, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """Write safetensors files of at most so many bytes (one tensor at least) and, for several, the index that names them."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        num_bytes = tensor.numel() * tensor.element_size()
        if shards[-1] and size + num_bytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.contiguous()
        size += num_bytes
    folder.mkdir(parents=True, exist_ok=True)
    many = len(shards) > 1
    names = [
        f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" if many else "model.safetensors"
        for i in range(len(shards))
    ]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name)
    if many:
        places = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return [folder / name for name in names]


def fill(module: nn.Module, tensors: Iterable[tuple[str, Tensor]], dtype: str, where: str, named: str = "") -> None:
    """Put tensors into a module, each held once; tied tensors may come once or under each of their names.

    Args:
        module: may be on the meta device, and wrapped by adapters, which are left alone.
        tensors: by the module's plain names.
        dtype: as which numbers with a fraction are held that do not learn (those that do: float32); empty: as they come.
        where: what an error names.
        named: what an error calls the module.

    Raises:
        DataError: tensors are missing, left over or of another shape.
    """
    what, fix = named or "the policy", "use whole weights of this network"
    places = {name.replace(BASE_LAYER, ""): name for name in module.state_dict() if "lora_" not in name}
    tied: dict[int, list[str]] = {}
    for name in places.values():
        tied.setdefault(id(_find(module, name)), []).append(name)
    problems, filled = [], set[str]()
    for name, tensor in tensors:
        if name not in places:
            problems.append(Problem(f"{name} has no place in {what}", where, "the module has no such tensor", fix))
            continue
        if places[name] in filled:
            continue
        current = _find(module, places[name])
        if current.shape != tensor.shape:
            why = f"the file has {list(tensor.shape)}, {what} {list(current.shape)}"
            problems.append(Problem(f"{name} has another shape", where, why, fix))
            continue
        kept_as = "float32" if dtype and current.requires_grad else dtype  # what learns has masters in full precision
        converted = tensor.to(getattr(torch, kept_as)) if dtype and tensor.is_floating_point() else tensor
        _put(module, tied[id(current)], converted, current)
        filled |= set(tied[id(current)])
    missing = [] if problems else [name for name, place in places.items() if place not in filled]
    why = f"{what} has it, the file does not"
    problems += [Problem(f"{name} is missing", where, why, fix) for name in sorted(missing)]
    if problems:
        raise DataError.of(problems)


def demand_filled(policy: nn.Module) -> None:
    """Nothing may be left on the meta device.

    Raises:
        DataError: something is: a buffer that no file holds, or a module that no base weights fill.
    """
    empty = [name for name, tensor in (*policy.named_parameters(), *policy.named_buffers()) if tensor.is_meta]
    if empty:
        raise DataError(
            f"{len(empty)} tensor(s) of the policy have no values",
            where=", ".join(empty[:5]),
            why="they were built on the meta device, and no weights fill them",
            fix="build them outside of torch.device('meta'), or name their weights in base_weights()",
        )


def load_learnt(policy: Policy, tensors: Mapping[str, Tensor]) -> None:
    """What a checkpoint holds into a policy whose base weights are in place.

    Raises:
        RuntimeError: as ``load_state_dict``: a tensor is missing, left over or of another shape.
    """
    if not policy.base_prefixes:
        policy.load_state_dict(dict(tensors))
        return
    outcome = policy.load_state_dict(dict(tensors), strict=False)
    missing = [name for name in outcome.missing_keys if not under(name, policy.base_prefixes)]
    if missing or outcome.unexpected_keys:
        raise RuntimeError(
            f"missing: {', '.join(missing) or 'none'}; left over: {', '.join(outcome.unexpected_keys) or 'none'}"
        )


def _find(module: nn.Module, name: str) -> Tensor:
    owner, leaf = _owner(module, name)
    tensor = owner._parameters[leaf] if leaf in owner._parameters else owner._buffers[leaf]
    assert tensor is not None
    return tensor


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def _put(module: nn.Module, names: list[str], tensor: Tensor, current: Tensor) -> None:
    """One tensor in every place that shares it."""
    if isinstance(current, nn.Parameter):
        tensor = nn.Parameter(tensor, requires_grad=current.requires_grad and tensor.is_floating_point())
    for name in names:
        owner, leaf = _owner(module, name)
        if leaf in owner._parameters:
            assert isinstance(tensor, nn.Parameter)
            owner._parameters[leaf] = tensor
        else:
            owner._buffers[leaf] = tensor
