"""Pictures of a compiled pipeline: read from the YAML, so that they cannot show what is not there.

In: the pipeline spec as a dict. Out: Mermaid text, or plain text. Pure; called by pages.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ARROW = " ──► "
WORK, SHARED_WORK = "work", "shared work"  # conditions of training_dag.py
Spec = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """A step, or a loop around the steps inside it."""

    name: str
    after: tuple[str, ...]  # keys of those it directly follows
    key: str = ""  # unlike its name it is unique: the groups around it stand before it
    image: str = ""
    cached: bool = False
    inside: tuple[Node, ...] = ()
    items: str = ""  # what a loop goes over
    parallelism: int = 0


def read_nodes(spec: Spec) -> tuple[Node, ...]:
    """The root of a pipeline spec as nodes, in the order of their dependencies."""
    return tuple(_nodes(spec, spec["root"]["dag"]["tasks"]))


def _nodes(spec: Spec, tasks: Spec, before: tuple[str, ...] = (), group: str = "") -> Iterator[Node]:
    """Nodes of a group; an exit handler, a condition or a pipeline around tasks is seen through, a loop is a node.

    Of two conditions that exclude each other the one with pods for shares is drawn: it has what the other has.
    """
    titles = {name: task.get("taskInfo", {}).get("name") for name, task in tasks.items()}
    if SHARED_WORK in titles.values():
        tasks = {name: task for name, task in tasks.items() if titles[name] != WORK}
    needs = {name: set(task.get("dependentTasks", [])) for name, task in tasks.items()}
    ends: dict[str, tuple[str, ...]] = {}  # what follows a task follows these nodes
    while len(ends) < len(tasks):
        name = next(name for name in sorted(tasks) if name not in ends and needs[name] <= set(ends))
        implied = {far for near in needs[name] for far in _ancestors(near, needs)}
        component = spec["components"][tasks[name]["componentRef"]["name"]]
        direct = tuple(end for near in sorted(needs[name] - implied) for end in ends[near]) or before
        key = f"{group}{name}"
        if "dag" not in component:
            image = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]["image"]
            cached = bool(tasks[name].get("cachingOptions", {}).get("enableCache"))
            yield Node(re.sub(r"-\d+$", "", name), direct, key, _image(spec, image), cached)
            ends[name] = (key,)
        elif "iteratorPolicy" in tasks[name] or "parameterIterator" in tasks[name]:
            inside = tuple(_nodes(spec, component["dag"]["tasks"], group=f"{key}-"))
            limit = tasks[name].get("iteratorPolicy", {}).get("parallelismLimit", 0)
            yield Node(name, direct, key, inside=inside, items=tasks[name]["taskInfo"]["name"], parallelism=limit)
            ends[name] = (key,)
        else:
            # What is in a condition of the root is told by its tasks alone; a pipeline's name keeps its tasks apart.
            inside_of = (
                group if tasks[name].get("triggerPolicy") or (not group and name.startswith("exit")) else f"{key}-"
            )
            inner = tuple(_nodes(spec, component["dag"]["tasks"], direct, inside_of))
            yield from inner
            followed = {near for node in inner for near in node.after}
            ends[name] = tuple(node.key for node in inner if node.key not in followed)


def _image(spec: Spec, image: str) -> str:
    """The image itself, or the default of the parameter that names it."""
    found = re.fullmatch(r"\{\{\$\.inputs\.parameters\['pipelinechannel--(\w+)'\]\}\}", image)
    if not found:
        return image
    return str(spec["root"]["inputDefinitions"]["parameters"][found[1]]["defaultValue"])


def _ancestors(name: str, needs: dict[str, set[str]]) -> set[str]:
    return needs[name] | {far for near in needs[name] for far in _ancestors(near, needs)}


def text(nodes: tuple[Node, ...]) -> str:
    """Stages from left to right; steps of one stage are joined by ``+``, a loop stands in corners."""
    stages: dict[int, list[str]] = {}
    depth: dict[str, int] = {}
    for node in nodes:
        depth[node.key] = 1 + max((depth[name] for name in node.after), default=0)
        stages.setdefault(depth[node.key], []).append(f"┌ {text(node.inside)} ┐" if node.inside else node.name)
    return ARROW.join(" + ".join(stage) for stage in stages.values())


def mermaid(nodes: tuple[Node, ...]) -> str:
    """A Mermaid graph; each step names its image, cached ones have round corners."""
    lines = ["graph LR"]
    ends = {node.key: node for node in nodes}
    for node in nodes:
        if node.inside:
            limit = f", {node.parallelism} at once" if node.parallelism else ", all at once"
            lines.append(f'  subgraph {_id(node.key)} ["{node.items}{limit}"]')
            lines += [f"    {_box(inner)}" for inner in node.inside]
            lines += [f"    {_id(before)} --> {_id(inner.key)}" for inner in node.inside for before in inner.after]
            lines.append("  end")
        else:
            lines.append(f"  {_box(node)}")
    for node in nodes:
        first = _id(node.inside[0].key if node.inside else node.key)
        for before in node.after:
            source = ends[before]
            lines.append(f"  {_id(source.inside[-1].key if source.inside else before)} --> {first}")
    return "\n".join(lines)


def _box(node: Node) -> str:
    image = node.image.rsplit("/", 1)[-1].split(":")[0]
    label = f"{node.name}<br/><small>{image}{', cached' if node.cached else ''}</small>"
    return f'{_id(node.key)}(["{label}"])' if node.cached else f'{_id(node.key)}["{label}"]'


def _id(name: str) -> str:
    return f"step_{name.replace('-', '_')}"  # some plain names, such as end, mean something to Mermaid
