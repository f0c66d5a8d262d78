"""The form of a compiled pipeline, and KEY=VALUE words as typed arguments of it."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import parameters
from pipelines.client.checks import problems_of
from tendon.errors import ConfigError, Problem

ROOT = Path(__file__).resolve().parents[2]
COMPILED = ROOT / "pipelines" / "compiled"
SHORT = {name: f"{name}_pipeline" for name in ("policy", "retrain", "sweep", "evaluate")}
KINDS: dict[str, type] = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": float,
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}
WANTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a JSON list",
    dict: "a JSON object",
}
IMAGE_FIELD = "cluster_image_"


@dataclass(frozen=True)
class Field:
    """One parameter of a pipeline."""

    type: type
    help: str
    default: Any


@dataclass(frozen=True)
class Form:
    """A compiled pipeline and what may be given to it."""

    path: Path
    name: str
    description: str
    fields: dict[str, Field]

    @classmethod
    def of(cls, pipeline: str) -> Form:
        """The form of one of our pipelines by its short name, or of any compiled YAML."""
        import yaml

        path = COMPILED / f"{SHORT[pipeline]}.yaml" if pipeline in SHORT else Path(pipeline)
        try:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            spec = next(yaml.load_all(path.read_text(encoding="utf-8"), loader))
            info, inputs = spec["pipelineInfo"], spec["root"].get("inputDefinitions", {}).get("parameters", {})
            fields = {
                key: Field(KINDS[field["parameterType"]], field.get("description", ""), field.get("defaultValue"))
                for key, field in inputs.items()
            }
            return cls(path, info["name"], info.get("description", ""), fields)
        except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
            raise ConfigError(
                "the pipeline cannot be read",
                where=str(path),
                why=str(error) or type(error).__name__,
                fix=f"--pipeline {' | '.join(SHORT)} | FILE",
            ) from None

    def digest(self) -> str:
        """Changes when the YAML does."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]

    def arguments_mark(self, arguments: dict[str, Any], *more: Any) -> str:
        """The same for the same pipeline with the same arguments; kept in the description of a run or a schedule."""
        text = json.dumps([self.digest(), arguments, *more], sort_keys=True)
        return f"tendon {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def typed(words: Sequence[str], form: Form | None = None) -> dict[str, Any]:
    """``key=value`` words as typed arguments that were checked; every problem at once.

    >>> typed(["evaluate_episodes=100"])
    {'evaluate_episodes': 100}
    """
    form = form or Form.of("policy")
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for word in words:
        name, separator, text = word.partition("=")
        if not separator or name not in form.fields:
            problems.append(_no_such(word, name, form))
            continue
        if name in values:
            problems.append(Problem(f"{name} is given twice", "arguments", "one of them would be lost", "give it once"))
        field = form.fields[name]
        try:
            values[name] = _value(field.type, text)
        except ValueError:
            wanted = WANTED[field.type]
            problems.append(
                Problem(
                    f"{name}={text} is not {wanted}", "arguments", f"{name} is {wanted}", f"{name}=VALUE; {field.help}"
                )
            )
    problems += problems_of({name: field.default for name, field in form.fields.items()} | values)
    if problems:
        raise ConfigError.of(problems)
    return values


def _no_such(word: str, name: str, form: Form) -> Problem:
    old_names: dict[str, str] = getattr(parameters, "OLD_NAMES", {})
    new = old_names.get(name, "")
    if new in form.fields:
        why, fix = "the form's names group themselves now", word.replace(name, new, 1)
        return Problem(f"{name} is now called {new}", "arguments", why, fix)
    near = difflib.get_close_matches(name, form.fields, n=1)
    if not near:
        near = [new for old, new in old_names.items() if difflib.get_close_matches(name, [old]) and new in form.fields]
    fix = f"did you mean {near[0]}=...?" if near else f"one of {', '.join(form.fields)}"
    return Problem(f"no such parameter: {word!r}", "arguments", "arguments are KEY=VALUE of the pipeline's form", fix)


def _value(kind: type, text: str) -> Any:
    if kind is str:
        return text
    value = json.loads(text)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(text)
    return value


def prefixed_images(form: Form, arguments: dict[str, Any], prefix: str) -> dict[str, str]:
    """The images of the form that nobody named, below another registry: ``REGISTRY/tendon-data:0.1.0``."""
    return {
        name: prefixed(field.default, prefix)
        for name, field in form.fields.items()
        if prefix and name.startswith(IMAGE_FIELD) and name not in arguments
    }


def prefixed(reference: str, prefix: str) -> str:
    """An image under another registry."""
    return f"{prefix.rstrip('/')}/{str(reference).rpartition('/')[2]}"
