"""``tendon init``: a folder for one's own demonstrations, with a configuration, a feature map and the five commands.

In: the address of demonstrations and the simulator. Out: ``env/NAME.yaml``, ``experiment/NAME.yaml``, ``README.md``. The
folder joins the configuration tree by ``--config-dir``. Called by commands.init.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tendon.config.feature_map import IMAGE_SUFFIX, IMAGES, OBSERVATION
from tendon.config.override_text import quote
from tendon.config.tree import CONF, search_path
from tendon.data.sources.first_look import described
from tendon.data.sources.source import SourceInfo, open_source
from tendon.errors import ConfigError, nearest
from tendon.storage.outputs import refuse_existing
from tendon.trust import sha256_of

NONE = "none"  # instead of a simulator: a robot, or nothing yet
Ask = Callable[[str, str], str]  # a question and what an empty answer means


@dataclass(frozen=True)
class Project:
    """What the folder is made of."""

    folder: Path
    name: str
    source: str
    simulator: str
    task: str
    policy: str
    steps: int
    store_uri: str
    info: SourceInfo

    @property
    def trust(self) -> str:
        """The option that lets a simulator's file run; empty for an installed one."""
        return f" --trust {sha256_of(self.simulator)}" if self.simulator.endswith(".py") else ""


def make_project(
    folder: str,
    *,
    source: str,
    simulator: str = "",
    task: str = "",
    name: str = "",
    policy: str = "bc",
    steps: int = 2000,
    store_uri: str = "",
    force: bool = False,
    ask: Ask | None = None,
) -> Project:
    """Look at the demonstrations and write the folder.

    Args:
        folder: where it is made.
        source: of the demonstrations: a file, a folder, ``s3://...``.
        simulator: of ``tendon sims list``, a Python file with an ``Adapter``, or ``none``; empty: the one that the
            demonstrations name, else it is asked for.
        task: what the simulator calls it; empty: what the demonstrations say.
        name: of the files; empty: that of the demonstrations.
        policy: one of ``conf/policy``.
        steps: optimiser steps.
        store_uri: where runs are kept; empty: ``outputs/NAME``.
        force: write over files that are there.
        ask: how a person is asked; None: what is missing is an error.

    Raises:
        TendonError: the demonstrations cannot be read, or something is missing, wrong or in the way.
    """
    if not source:
        source = _answer(ask, "Where are the demonstrations (a file, a folder, s3://...)", "", "--source")
    policies = search_path(None).groups()["policy"]
    if policy not in policies:
        near = nearest(policy, policies)
        why, fix = f"there are {', '.join(policies)}", f"--policy {near or 'bc'}"
        raise ConfigError(f"there is no policy {policy}", where="--policy", why=why, fix=fix)
    info = described(open_source(source))
    recorded = str((info.metadata.get("env_args") or {}).get("env_name", ""))
    task = task or recorded
    if not simulator:
        known = _simulator_of(recorded)
        question = "Which simulator (a name of `tendon sims list`, a Python file, or none)"
        simulator = known or _answer(ask, question, NONE, "--simulator")
    if simulator.endswith(".py"):
        if not Path(simulator).is_file():
            why, fix = f"no file at {simulator}", "give its right path, or --simulator none"
            raise ConfigError("the simulator file does not exist", where="--simulator", why=why, fix=fix)
        simulator = str(Path(simulator).resolve())
    if simulator != NONE and not task:
        task = _answer(ask, "Which task of it", "", "--task")
    if not name:
        stem = source.partition("?")[0].rstrip("/").rpartition("/")[2].split(".")[0]
        name = re.sub(r"\W+", "_", stem).strip("_") or "demos"
        name = f"my_{name}" if _taken(name) else name
    source = source if "://" in source else str(Path(source).resolve())
    made = Project(
        Path(folder), name, source, simulator, task or name, policy, steps, store_uri or f"outputs/{name}", info
    )
    texts = {
        f"env/{name}.yaml": env_yaml(made),
        f"experiment/{name}.yaml": experiment_yaml(made),
        "README.md": readme(made),
    }
    if _taken(name):
        why = f"tendon has {' and '.join(_taken(name))} itself"
        raise ConfigError(f"the name {name} is taken", where="--name", why=why, fix=f"--name my_{name}")
    refuse_existing(*(str(made.folder / file) for file in texts), force=force)
    for file, text in texts.items():
        (made.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (made.folder / file).write_text(text, encoding="utf-8")
    return made


def _taken(name: str) -> list[str]:
    """The files of tendon's own tree that this name would hide."""
    return [f"{group}={name}" for group in ("env", "experiment") if (CONF / group / f"{name}.yaml").is_file()]


def _answer(ask: Ask | None, question: str, default: str, option: str) -> str:
    answer = (ask(question, default) if ask else "") or (default if ask else "")
    if not answer:
        what = f"{option} is missing"
        raise ConfigError(
            what, where="tendon init", why=f"it answers: {question}?", fix=f"{option} {option[2:].upper()}"
        )
    return answer


def _simulator_of(task: str) -> str:
    """The simulator whose task the demonstrations name; empty where none or several do."""
    texts = [file.read_text(encoding="utf-8") for file in (CONF / "env").glob("*.yaml")] if task else []
    found = {
        match[1]
        for text in texts
        if f"  task: {task}\n" in text and (match := re.search(r"^  simulator: (\S+)", text, re.MULTILINE))
    }
    return found.pop() if len(found) == 1 else ""


def env_yaml(project: Project) -> str:
    """The environment with its feature map: which feature each observation of the simulator is."""
    schema, longest = project.info.schema, max((one.length for one in project.info.episodes), default=100)
    states = [one for one in schema.features if one.kind == "state" and one.key.startswith(OBSERVATION)]
    names = {one.key: one.key.removeprefix(OBSERVATION) for one in states}
    actions = {one.key: one.dim for one in schema.features if one.kind == "action"}
    parts = {} if "action" in actions else {key.partition(".")[2]: dim for key, dim in actions.items()}
    lines = [
        "# @package _global_",
        f"# Made by tendon init of {project.source}. Change what is wrong: nothing here is read from the demonstrations again.",
        "env:",
        f"  name: {project.name}",
        f"  simulator: {quote(project.simulator)}",
        f"  task: {quote(project.task)}",
        f"  fps: {schema.fps:g}                   # actions a second, of the demonstrations and of the rollouts",
        f"  episode_length: {2 * longest}         # a rollout ends after so many steps; twice the longest demonstration",
        "  observation:              # what a policy reads, by the simulator's names; cameras as NAME_image",
        *(f"    - {name}{_dims(one)}" for one in states for name in [names[one.key]]),
        "  goal: []                  # what of the last step of an episode the policy is shown as its goal",
        "  options: {}               # handed to the simulator as they are",
        "  features:" + ("                 # simulator's name: feature of the dataset" if names else " {}"),
        *(f"    {name}: {key}" for key, name in names.items()),
        "  cameras:"
        + ("                  # to read one, add its NAME_image to observation" if schema.cameras else " {}"),
        *(line for camera in schema.cameras for line in _camera_lines(camera)),
        "  instruction: null         # the text that the policy is told; null: what the simulator says",
        f"  action: {quote(parts)}{'  # part: number of values' if parts else ''}",
    ]
    return "\n".join(lines) + "\n"


def _dims(feature: Any) -> str:
    names = f": {', '.join(feature.names)}" if feature.names else ""
    return f"  # {feature.dim} number{'s' if feature.dim != 1 else ''}{names}"


def _camera_lines(camera: Any) -> list[str]:
    shown = camera.name.removeprefix(IMAGES)
    key = camera.name if camera.name.startswith(OBSERVATION) else f"{IMAGES}{camera.name}"
    name = shown.removesuffix(IMAGE_SUFFIX)
    return [f"    {name}: {{height: {camera.height}, width: {camera.width}, key: {key}}}"]


def experiment_yaml(project: Project) -> str:
    """Environment, policy and how long it is trained."""
    return "\n".join(
        [
            "# @package _global_",
            f"# `tendon run --config-dir {project.folder} experiment={project.name} ...`. docs/reference/configuration.md has every key.",
            "defaults:",
            f"  - override /env: {project.name}",
            f"  - override /policy: {project.policy}",
            "",
            "training:",
            f"  offline_steps: {project.steps}",
            f"  save_freq: {max(1, project.steps // 4)}",
            f"  log_freq: {max(1, project.steps // 20)}",
            f"  valid_freq: {max(1, project.steps // 4)}",
            "",
        ]
    )


def commands_of(project: Project) -> list[tuple[str, str]]:
    """The five commands, each with what it is for."""
    where = f"--config-dir {shlex.quote(str(project.folder))} experiment={project.name}"
    source, store = shlex.quote(project.source), shlex.quote(project.store_uri)
    looked = ("what is in the data, and what is odd about it", f"tendon inspect {source}")
    if project.simulator == NONE:
        data = f"DATASET=$(echo {store}/datasets/{project.name}/*)"
        return [
            looked,
            ("to shards", f"tendon convert --source-uri {source} --store-uri {store} --dataset-name {project.name}"),
            ("ten steps, and what all of them will take", f"{data}; tendon train {where} data.uri=$DATASET --dry-run"),
            ("train", f"tendon train {where} data.uri=$DATASET --store-uri {store}"),
            (
                "a bundle for the robot: tendon.load_policy(...).act(...)",
                f"tendon export --checkpoint-uri {store}/trials/*/checkpoints/last --bundle-uri {store}/bundle",
            ),
        ]
    given = f"{where} --source-uri {source} --store-uri {store}{project.trust}"
    return [
        looked,
        ("every trial checked, nothing created", f"tendon run --plan {given}"),
        ("demonstrations to a verdict and a report", f"tendon run {given}"),
        ("the winner becomes the champion, if the gate agrees", f"tendon promote --run-uri {store}/runs/*"),
        (
            "and acts",
            f"""python -c 'import tendon; print(tendon.load_policy("{project.store_uri}/champions/default"))'""",
        ),
    ]


def readme(project: Project) -> str:
    """The folder's page."""
    lines = [f"# {project.name}", "", f"Demonstrations: `{project.source}` ({len(project.info.episodes)} episodes)."]
    lines += [f"Simulator: `{project.simulator}`, task `{project.task}`."] if project.simulator != NONE else []
    lines += [
        "",
        "`env/` says which observation of the simulator is which feature of the data, `experiment/` how it is trained.",
    ]
    for what, command in commands_of(project):
        lines += ["", f"{what[0].upper()}{what[1:]}:", "", "```sh", command, "```"]
    if project.trust:
        lines += [
            "",
            "`--trust` names the simulator's file by its sha256: after a change, `sha256sum` says the new one.",
        ]
    return "\n".join(lines) + "\n"
