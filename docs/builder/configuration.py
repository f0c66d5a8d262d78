"""Every key of the configuration with its type, default and meaning, from the schema and the files of conf/."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from docs.builder import MADE, cell, code
from tendon.config.keys import fields_of, is_section, musts, plain
from tendon.config.policies import policy_configs
from tendon.config.schema import PolicyConfig, TrainConfig
from tendon.config.tree import CONF, search_path
from tendon.config.typed import words_of

KEY = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?P<value>[^#]*?)(?:\s+# (?P<about>.*))?$")
ABOUT = {  # keys whose line in conf/ has no comment
    "seed": "of weights, order and augmentations",
    "device": "where it computes",
    "data.split": "the split that is trained on",
    "data.cache_gib": "how large data.cache may grow",
    "data.jpeg_quality": "of images that are encoded anew",
    "training.lr": "learning rate",
    "training.adam_betas": "of Adam and AdamW",
    "training.adam_eps": "of Adam and AdamW",
    "training.weight_decay": "of Adam and AdamW",
    "training.lr_warmup_steps": "steps in which the learning rate rises from 0 to training.lr",
    "training.log_freq": "steps between two lines of the log",
    "training.valid_freq": "steps between two validations",
    "training.save_checkpoint": "false: nothing is saved",
    "training.save_freq": "steps between two checkpoints",
    "ema.enable": "keep the average",
    "ema.decay": "share of the old average in each update",
    "ema.every_n_steps": "steps between two updates of the average",
    "save.on_best_rollout_return": "whenever the return of rollouts is as high as never before; needs training.eval_freq",
    "save.on_best_rollout_success_rate": "whenever the success rate of rollouts is as high as never before",
    "save.weights_filename": "their names",
    "wandb.project": "where the run is listed",
    "wandb.entity": "whose project it is; empty: the account's own",
    "wandb.notes": "a text beside the run",
    "track.tensorboard": "event files in the trial's folder",
    "eval.n_episodes": "rollouts",
    "eval.step_timeout_s": "a simulator that takes longer for a step is replaced, and the episode counts as crashed",
    "eval.start_timeout_s": "the same of its start",
    "env.name": "what the environment is called",
    "env.task": "what the simulator calls its task",
    "env.fps": "actions a second",
    "env.episode_length": "a rollout ends after so many steps",
    "env.observation": "what a policy reads, by the simulator's names",
    "env.options": "handed to the simulator as they are",
    "env.cameras": "height and width of each camera; NAME_image in env.observation reads one",
    "policy.init_from": "weights to start from: a checkpoint, bundle or file; URI#FORMAT names the format of a foreign one",
    "policy.hidden_dims": "widths of the layers of the MLP",
}


@dataclass(frozen=True)
class Key:
    """One dotted key."""

    name: str
    kind: str
    default: str
    about: str


def section_keys(section: type, prefix: str, files: list[Path]) -> list[Key]:
    """The keys of a section of the schema, in its order."""
    comments = _comments(files)
    defaults = _defaults(files)
    made = []
    for name, hint in fields_of(section).items():
        key = f"{prefix}{name}"
        if is_section(hint) or key == "policy.name":
            continue
        rule = "".join(f", {must.words}" for must in musts(hint))
        kind = words_of(hint).removeprefix("a ")
        rule = "" if kind.startswith("one of") else rule
        made.append(Key(key, f"{kind}{rule}", _shown(defaults, key), comments.get(key) or ABOUT.get(key, "")))
    return made


def base_sections() -> dict[str, list[Key]]:
    """The keys that do not depend on the policy, by section."""
    files = [CONF / "train.yaml", CONF / "env" / "reach.yaml"]
    found = {"": section_keys(TrainConfig, "", files)}
    for field in fields(TrainConfig):
        hint = plain(fields_of(TrainConfig)[field.name])
        if is_section(hint) and hint is not PolicyConfig:
            found[field.name] = section_keys(hint, f"{field.name}.", files)
    return found


def policy_keys(name: str) -> list[Key]:
    """The keys of one policy."""
    return section_keys(policy_configs()[name], "policy.", _chain(f"policy/{name}"))


def presets_of(policy: str) -> list[tuple[str, str]]:
    """The files of conf/policy that make this policy, and their first line."""
    made = []
    for option in search_path(None).groups()["policy"]:
        chain = _chain(f"policy/{option}")
        names = [yaml.safe_load(file.read_text()).get("policy", {}).get("name") for file in chain]
        if [name for name in names if name][-1:] == [policy]:
            made.append((option, first_line(CONF / "policy" / f"{option}.yaml")))
    return made


def training_of(policy: str) -> dict[str, Any]:
    """What the policy's own file sets besides its keys."""
    values: dict[str, Any] = {}
    for file in _chain(f"policy/{policy}"):
        tree = yaml.safe_load(file.read_text())
        for section, keys in tree.items():
            if section not in ("policy", "defaults"):
                values |= (
                    {f"{section}.{key}": value for key, value in keys.items()}
                    if isinstance(keys, dict)
                    else {section: keys}
                )
    return values


def first_line(file: Path) -> str:
    """What a file of conf/ says of itself."""
    lines = [line[2:] for line in file.read_text().splitlines() if line.startswith("# ") and "@package" not in line]
    return lines[0] if lines else ""


def table(keys: list[Key]) -> list[str]:
    """Rows of a table of keys."""
    lines = ["| key | default | type | what it is |", "|---|---|---|---|"]
    return [
        *lines,
        *(f"| {code(one.name)} | {code(one.default)} | {cell(one.kind)} | {cell(one.about)} |" for one in keys),
    ]


def page() -> str:
    """docs/reference/configuration.md."""
    lines = ["# Configuration", "", MADE, ""]
    lines += [
        "A run is described by groups (`policy=act env=pusht`), by keys (`training.lr=1e-3`), and by nothing else. Of two"
    ]
    lines += [
        "values for a key the later one counts; `???` must be given. All problems are told at once, each with the nearest"
    ]
    lines += [
        "key that exists. The keys of a policy stand on its page: "
        + ", ".join(f"[{name}](../policies/{name}.md)" for name in sorted(policy_configs()))
        + "."
    ]
    lines += [
        "",
        "## Groups",
        "",
        "Options of a group are files of `src/tendon/conf`, of installed packages, and of `--config-dir`.",
    ]
    for group, options in search_path(None).groups().items():
        lines += ["", f"### {group}=", "", "| option | what it is |", "|---|---|"]
        lines += [f"| {code(option)} | {cell(first_line(CONF / group / f'{option}.yaml'))} |" for option in options]
    for section, keys in base_sections().items():
        lines += ["", f"## {section or 'Everything'}", "", *table(keys)]
    return "\n".join(lines) + "\n"


@cache
def _chain(name: str) -> list[Path]:
    """The files that a file of conf/ is made of, the most general first."""
    file = CONF / f"{name}.yaml"
    entries = (yaml.safe_load(file.read_text()) or {}).get("defaults", [])
    below = [
        one for entry in entries if isinstance(entry, str) and entry.startswith("/") for one in _chain(entry.strip("/"))
    ]
    return [*below, file]


def _comments(files: list[Path]) -> dict[str, str]:
    """Dotted key to the comment behind it; of two files the later one's."""
    found: dict[str, str] = {}
    for file in files:
        section = ""
        for line in file.read_text().splitlines():
            match = KEY.match(line)
            if match is None:
                continue
            section = match["key"] if not match["indent"] else section
            key = f"{section}.{match['key']}" if match["indent"] else match["key"]
            if match["about"] and len(match["indent"]) in (0, 2):
                found[key] = match["about"]
    return found


def _defaults(files: list[Path]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in files:
        for section, keys in yaml.safe_load(file.read_text()).items():
            if isinstance(keys, dict):
                found |= {f"{section}.{key}": value for key, value in keys.items()}
            else:
                found[section] = keys
    return found


def _shown(defaults: dict[str, Any], key: str) -> str:
    if key not in defaults:
        return ""
    value = defaults[key]
    if isinstance(value, float):
        return f"{value:g}"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, str):
        return value or '""'
    return str(value).replace("'", "")
