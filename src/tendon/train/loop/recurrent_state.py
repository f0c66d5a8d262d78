"""The memory a recurrent policy carries from one batch to the next: detached, split, joined, saved. Pure.

A memory is a tree of tensors whose first axis is the batch. An update's batch is dealt to ranks and parts in order, so
the memories of all parts of all ranks, one after another, are the memory of the whole batch, whatever their number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tendon.policies.base import Memory


def detach(memory: Memory) -> Memory:
    """The same memory outside the graph: gradients end at the border of a batch."""
    return (
        None
        if memory is None
        else pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, memory)
    )


def join(memories: Sequence[Memory]) -> Memory:
    """One memory of several, side by side along the batch."""
    leaves = [pytree.tree_flatten(memory) for memory in memories]
    together = [torch.cat(tensors) for tensors in zip(*(flat for flat, _ in leaves), strict=True)]
    return pytree.tree_unflatten(together, leaves[0][1])


def split(memory: Memory, num_parts: int) -> list[Memory]:
    """The inverse of ``joined`` for parts of one size; nothing for every part when there is no memory."""
    if memory is None:
        return [None] * num_parts
    leaves, form = pytree.tree_flatten(memory)
    parts = [torch.chunk(leaf, num_parts) for leaf in leaves]
    return [pytree.tree_unflatten([chunks[i] for chunks in parts], form) for i in range(num_parts)]


def to_tensors(memory: Memory) -> tuple[dict[str, Tensor], Any]:
    """Leaves by number, and the tree's form as JSON."""
    leaves, form = pytree.tree_flatten(memory)
    return {str(i): leaf for i, leaf in enumerate(leaves)}, json.loads(pytree.treespec_dumps(form))


def from_tensors(tensors: dict[str, Tensor], form: Any) -> Memory:
    """The inverse of ``to_tensors``."""
    leaves = [tensors[str(i)] for i in range(len(tensors))]
    return pytree.tree_unflatten(leaves, pytree.treespec_loads(json.dumps(form)))
