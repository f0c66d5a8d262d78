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

from pipelines import drawing
from pipelines.parameters import PARAMETERS
from pipelines.resources import STEPS

FENCE = "```"


def generated(root: Path, spec: drawing.Spec) -> dict[Path, str]:
    """Every file with generated text, as it should be."""
    nodes = drawing.read_nodes(spec)
    picture = f"{FENCE}text\n{drawing.text(nodes)}\n{FENCE}\n\n{FENCE}mermaid\n{drawing.mermaid(nodes)}\n{FENCE}"
    pages: dict[Path, str] = {}
    tables = {"parameters": parameter_table(), "steps": step_table(spec)}
    for page, blocks in {root / "README.md": {}, root / "pipelines" / "README.md": tables}.items():
        if page.exists():
            text = page.read_text(encoding="utf-8")
            for name, block in ({"dag": picture} | blocks).items():
                text = filled(text, name, block)
            pages[page] = text
    return pages | {root / "components" / step / "README.md": component_page(step) for step in STEPS}


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


def parameter_table() -> str:
    """The form of the pipeline."""
    rows = ["| parameter | type | default | what it is |", "|---|---|---|---|"]
    rows += [f"| `{p.name}` | {p.type.__name__} | `{json.dumps(p.default)}` | {p.help} |" for p in PARAMETERS]
    return "\n".join(rows)


def step_table(spec: drawing.Spec) -> str:
    """What each step asks of the cluster."""
    executors = spec["deploymentSpec"]["executors"]
    rows = ["| step | image | cpu | memory | gpus | retries | cached |", "|---|---|---|---|---|---|---|"]
    for step, wanted in STEPS.items():
        image = executors[f"exec-{step}"]["container"]["image"]
        numbers = (
            f"{wanted.cpu} | {wanted.memory} | {wanted.gpus} | {wanted.retries} | {'yes' if wanted.cache else 'no'}"
        )
        rows.append(f"| [{step}](../components/{step}/README.md) | `{image}` | {numbers} |")
    return "\n".join(rows)


def component_page(step: str) -> str:
    """A component's README from its docstring."""
    component = getattr(importlib.import_module(f"components.{step}.component"), step)
    headline, *sections = inspect.cleandoc(component.python_func.__doc__ or "").split("\n\n")
    lines = [f"# {step}", "", headline, ""]
    for section in sections:
        title, *entries = section.splitlines()
        lines += [f"## {'Inputs and outputs' if title == 'Args:' else 'Returns'}", ""]
        joined = re.sub(r"\n\s+(?!\s|\w+: )", " ", "\n".join(entries)).splitlines()
        lines += [f"- {_entry(entry.strip())}" for entry in joined]
        lines.append("")
    lines += [
        f"Image: `{component.component_spec.implementation.container.image}`. The component, "
        f"[component.py](component.py), is one call of `tendon.steps`.",
        "",
        "Generated from the docstring by `python pipelines/compile.py`.",
        "",
    ]
    return "\n".join(lines)


def _entry(text: str) -> str:
    name, colon, rest = text.partition(": ")
    return f"`{name}`: {rest}" if colon and " " not in name else text
