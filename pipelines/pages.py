"""The generated parts of the documentation: blocks between markers, and one page per component.

In: the compiled spec, the tables of this folder, the components' docstrings. Out: {path: text}. Called by compile.py,
which writes or compares.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path

import yaml

from components.images import IMAGES
from pipelines import drawing
from pipelines.parameters import Parameter, parameters_of
from pipelines.resources import STEPS

FENCE = "```"


def generated(root: Path, specs: dict[str, drawing.Spec]) -> dict[Path, str]:
    """Every file with generated text, as it should be; ``specs`` are the compiled pipelines by name."""
    pages: dict[Path, str] = {}
    blocks = {f"dag {name}": picture(spec) for name, spec in specs.items()}
    blocks |= {f"parameters {name}": parameter_table(parameters_of(name)) for name in specs}
    blocks |= {"dag": picture(specs["policy_pipeline"]), "steps": step_table(images_of(specs))}
    blocks["parameters"] = blocks["parameters policy_pipeline"]
    for page in (root / "README.md", root / "pipelines" / "README.md"):
        if page.exists():
            text = page.read_text(encoding="utf-8")
            for name, block in blocks.items():
                text = filled(text, name, block)
            pages[page] = text
    return pages | {root / "components" / step / "README.md": component_page(root, step) for step in STEPS}


def picture(spec: drawing.Spec) -> str:
    """The DAG as text and as Mermaid."""
    nodes = drawing.read_nodes(spec)
    return f"{FENCE}text\n{drawing.text(nodes)}\n{FENCE}\n\n{FENCE}mermaid\n{drawing.mermaid(nodes)}\n{FENCE}"


def images_of(specs: dict[str, drawing.Spec]) -> dict[str, str]:
    """Step to image, over all pipelines."""
    nodes = [
        node for spec in specs.values() for outer in drawing.read_nodes(spec) for node in (outer.inside or (outer,))
    ]
    return {node.name: node.image for node in nodes}


def filled(text: str, name: str, block: str) -> str:
    """The text with what stands between ``<!-- name -->`` and ``<!-- /name -->`` replaced, if it is there."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if end not in text:  # one marker twice serves as well
        end = start if text.count(start) == 2 else end
    return re.sub(
        f"({re.escape(start)}).*?({re.escape(end)})",
        lambda found: f"{found[1]}\n{block}\n{found[2]}",
        text,
        count=1,
        flags=re.S,
    )


def parameter_table(parameters: tuple[Parameter, ...]) -> str:
    """The form of a pipeline."""
    rows = ["| parameter | type | default | what it is |", "|---|---|---|---|"]
    rows += [
        f"| `{p.name}` | {p.type.__name__} | `{json.dumps(p.default)}` | {p.text} |"
        for p in sorted(parameters, key=lambda parameter: parameter.name)
    ]
    return "\n".join(rows)


def step_table(images: dict[str, str]) -> str:
    """What each step asks of the cluster."""
    rows = [
        "| step | image | cpu | memory | /dev/shm | hours | retries | cached |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for step, wanted in STEPS.items():
        sizes = (wanted.cpu or "by plan", wanted.memory or "by plan", wanted.shared_memory or "-")
        cells = " | ".join(map(str, (*sizes, wanted.hours, wanted.retries, "yes" if wanted.cache else "no")))
        image = images.get(step, IMAGES[wanted.image])
        rows.append(f"| [{step}](../components/{step}/README.md) | `{image}` | {cells} |")
    return "\n".join(rows)


def component_page(root: Path, step: str) -> str:
    """A component's README from its docstring, its specification and its metadata.yaml."""
    component = getattr(importlib.import_module(f"components.{step}.component"), step)
    specification = component.component_spec
    headline, *sections = inspect.cleandoc(component.python_func.__doc__ or "").split("\n\n")
    told = {name: text for section in sections for name, text in _entries(section)}
    lines = [f"# {step}", "", headline, ""]
    inputs = {name: (item.type, item.default) for name, item in (specification.inputs or {}).items()}
    outputs = {name: (item.type, None) for name, item in (specification.outputs or {}).items()}
    for title, items in (("Inputs", inputs), ("Outputs", outputs)):
        if items:
            lines += [f"## {title}", "", "| name | type | what it is |", "|---|---|---|"]
            lines += [f"| `{name}` | {_type(kind)} | {_told(told, name)} |" for name, (kind, _) in items.items()]
            lines.append("")
    metadata = yaml.safe_load((root / "components" / step / "metadata.yaml").read_text(encoding="utf-8"))
    needs = ", ".join(f"{one['name']} {one['version']}" for one in metadata["dependencies"]["kubeflow"])
    lines += [
        f"Stability: {metadata['stability']}. Tags: {', '.join(metadata['tags'])}. Needs {needs}. "
        f"Image: `{specification.implementation.container.image}`.",
        "",
        "The component, [component.py](component.py), is one call of `tendon.steps`. "
        "Generated from the docstring and [metadata.yaml](metadata.yaml) by `python pipelines/compile.py`.",
        "",
    ]
    return "\n".join(lines)


def _entries(section: str) -> list[tuple[str, str]]:
    title, *entries = section.splitlines()
    joined = re.sub(r"\n\s+(?!\s|\w+: )", " ", "\n".join(entries)).splitlines()
    named = [tuple(entry.strip().partition(": ")[::2]) for entry in joined]
    if title == "Returns:" and not all(" " not in name and text for name, text in named):
        return [("Output", " ".join(entry.strip() for entry in joined))]
    return named  # type: ignore[return-value]


def _told(told: dict[str, str], name: str) -> str:
    return told.get(name, "")


def _type(name: str) -> str:
    return name.partition("@")[0].removeprefix("system.")
