"""Tensors into a policy: base weights file by file without a second copy, and what a checkpoint holds of it.

A module that is filled from base weights is built under ``torch.device("meta")``: it takes no memory until here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tendon.errors import DataError, Problem
from tendon.policies.base import Policy, under
from tendon.weights.spec import tensor_files

LORA_WRAP = ".base_layer"  # what peft puts into the name of a layer that it wraps
INDEX = "model.safetensors.index.json"


def read_tensors(path: Path, device: torch.device | str = "cpu") -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of a safetensors file or of a folder of shards; on the CPU they are the file's own pages."""
    for file in tensor_files(path):
        with safe_open(file, framework="pt", device=str(device)) as content:
            for name in content.keys():  # noqa: SIM118 - it is no mapping
                yield name, content.get_tensor(name)


def write_sharded(tensors: Mapping[str, Tensor], folder: Path, shard_bytes: int = 4 << 30) -> list[Path]:
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


def fill(policy: nn.Module, prefix: str, folder: Path, dtype: str, device: torch.device | str, where: str) -> None:
    """Give the module ``prefix`` of a policy its base weights; each tensor is held once.

    Raises:
        DataError: tensors are missing, left over or of another shape.
    """
    module = policy.get_submodule(prefix)
    places = {name.replace(LORA_WRAP, ""): name for name, _ in _persistent(module)}
    places = {name: own for name, own in places.items() if "lora_" not in name}
    problems, filled = [], set[str]()
    fix = "use whole weights of this network"
    for name, tensor in read_tensors(folder, device):
        if name not in places:
            problems.append(Problem(f"{name} has no place in {prefix}", where, "the module has no such tensor", fix))
            continue
        held = _find(module, places[name])
        if held.shape != tensor.shape:
            why = f"the file has {list(tensor.shape)}, {prefix} {list(held.shape)}"
            problems.append(Problem(f"{name} has another shape", where, why, fix))
            continue
        converted = tensor.to(getattr(torch, dtype)) if dtype and tensor.is_floating_point() else tensor
        _put(module, places[name], converted, held)
        filled.add(name)
    why = f"{prefix} has it, the file does not"
    missing = [] if problems else sorted(set(places) - filled)
    problems += [Problem(f"{name} is missing", where, why, fix) for name in missing]
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


def _persistent(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.state_dict(keep_vars=True).items()


def _find(module: nn.Module, name: str) -> Tensor:
    parent, _, leaf = name.rpartition(".")
    holder = module.get_submodule(parent)
    tensor = holder._parameters[leaf] if leaf in holder._parameters else holder._buffers[leaf]
    assert tensor is not None
    return tensor


def _put(module: nn.Module, name: str, tensor: Tensor, held: Tensor) -> None:
    parent, _, leaf = name.rpartition(".")
    holder = module.get_submodule(parent)
    if leaf in holder._parameters:
        learns = held.requires_grad and tensor.is_floating_point()
        holder._parameters[leaf] = nn.Parameter(tensor, requires_grad=learns)
    else:
        holder._buffers[leaf] = tensor
