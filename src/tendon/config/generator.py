"""robomimic's hyperparameter helper: a base JSON and parameters in, one JSON per experiment and a shell script out.

    generator = ConfigGenerator(base_config_file="base.json", script_file="out.sh")
    generator.add_param(key="algo.gmm.enabled", name="gmm", group=1, values=[True, False], value_names=["t", "f"])
    generator.generate()                  # JSON files and script, as robomimic writes them
    run_local(..., generator.pipeline())  # or the same experiments as trials of the pipeline

Names and order are robomimic's; colliding names, keys the base does not have and coupled keys that disagree are errors.
A ConfigGenerator is a sequence of parameters: what ``parse_sweep`` and the pipeline's sweep parameter take.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from tendon.config.foreign.robomimic import read_json, translate
from tendon.config.override_text import quote
from tendon.config.sweep import Budget, Parameter, chosen_points, expand, parse_sweep
from tendon.errors import ConfigError, Problem, nearest

COMMAND = "python train.py"
# One dataset, one task, one yardstick per run; its trials are rolled out by a step of their own.
SEEN = ("env.observation", "env.goal")  # what a policy looks at is the policy's
CHOSEN_BY_RUN = ("data.", "env.", "eval.", "training.eval_freq", "save.on_best_rollout")


@dataclass(frozen=True)
class Experiment:
    """One point of the sweep: its name, its whole configuration, and what varies by name."""

    name: str
    config: dict[str, Any]


class ConfigGenerator(Sequence[Mapping[str, Any]]):
    """Collects parameters; ``generate`` writes files, ``pipeline`` gives the arguments of a run."""

    def __init__(
        self,
        base_config_file: str | Path,
        base_exp_name: str | None = None,
        wandb_proj_name: str | None = None,
        script_file: str | Path | None = None,
        generated_config_dir: str | Path | None = None,
    ) -> None:
        self.base_file = Path(base_config_file)
        self.base = read_json(self.base_file)
        self.base_name = self.base.get("experiment", {}).get("name", "") if base_exp_name is None else base_exp_name
        self.wandb_project = wandb_proj_name
        self.script_file = None if script_file is None else Path(script_file)
        self.folder = Path(generated_config_dir) if generated_config_dir else self.base_file.parent
        self._entries: list[dict[str, Any]] = []

    def add_param(
        self,
        key: str,
        name: str,
        group: int | str,
        values: Sequence[Any],
        value_names: Sequence[Any] | None = None,
        hidename: bool = False,
        prepend: bool = False,
    ) -> None:
        """Vary a key. Keys of one group move together; groups multiply, the one that appeared first slowest.

        Args:
            key: dots or slashes between the levels of the base JSON.
            name: what the experiment's name calls it; empty keeps it out of the name.
            group: a number or text.
            values: a list.
            value_names: what the name says instead of the values.
            hidename: keep it out of the name, but in the experiment's meta section.
            prepend: put it in front of all others, in the name and in the order.
        """
        dotted = key.replace("/", ".")
        _check_key(self.base, dotted, str(self.base_file))
        entry = {
            "key": dotted,
            "name": name,
            "group": group,
            "values": list(values) if isinstance(values, (list, tuple)) else values,
            "value_names": None if value_names is None else list(value_names),
            "hidename": hidename,
        }
        parse_sweep([entry])  # says now what is wrong with it
        self._entries = [entry, *self._entries] if prepend else [*self._entries, entry]

    def extend(self, sweep: Sequence[Mapping[str, Any]]) -> None:
        """Add the entries of a sweep file."""
        for entry in sweep:
            if "key" in entry:
                _check_key(self.base, str(entry["key"]).replace("/", "."), str(self.base_file))
        parse_sweep(sweep)
        self._entries += [dict(entry) for entry in sweep]

    def limit(self, trials: int, seed: int = 0) -> None:
        """Keep so many experiments, drawn by the seed; their order and names stay."""
        self._entries.append({"budget": trials, "seed": seed})

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        return self._entries[index]

    def experiments(self) -> tuple[Experiment, ...]:
        """Every experiment with its configuration, checked.

        Raises:
            ConfigError: colliding or unusable names, or configurations that robomimic or we would not keep.
        """
        if not any("key" in entry for entry in self._entries):
            fix = "generator.add_param(key=..., name=..., group=..., values=[...])"
            raise ConfigError(
                "there is nothing to vary", where="ConfigGenerator", why="no parameter was added", fix=fix
            )
        parameters = parse_sweep(self)
        trials = expand(parameters, self.base_name)
        points = chosen_points(parameters, parameters.budget)
        made, problems = [], list[Problem]()
        for trial, values in zip(trials, points, strict=True):
            config = self._config(trial.name, parameters, values)
            made.append(Experiment(trial.name, config))
            problems += _coupling_problems(config, trial.name)
        if problems:
            raise ConfigError.of(list(dict.fromkeys(problems)))
        return tuple(made)

    def _config(self, name: str, parameters: Sequence[Parameter], indices: Mapping[int | str, int]) -> dict[str, Any]:
        """The base with the values of one experiment, and robomimic's meta section."""
        config = copy.deepcopy(self.base)
        config.setdefault("experiment", {})["name"] = name
        keys, texts = [], []
        for one in parameters:
            index = indices[one.group]
            _set(config, one.key, copy.deepcopy(one.values[index]))
            if one.name:
                keys.append(one.name)
                given = one.value_names[index] if one.value_names is not None else None
                texts.append(one.values[index] if given is None else given)
        meta = {"hp_base_config_file": str(self.base_file), "hp_keys": keys, "hp_values": texts}
        config["meta"] = {**config.get("meta", {}), **meta}
        if self.wandb_project is not None:
            config["experiment"].setdefault("logging", {})["wandb_proj_name"] = self.wandb_project
        return config

    def generate(self, command: str = COMMAND) -> tuple[Path, ...]:
        """Write ``<name>.json`` for every experiment, and the script that runs them one after the other; the JSON paths."""
        experiments = self.experiments()
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for experiment in experiments:
            path = self.folder / f"{experiment.name}.json"
            path.write_text(json.dumps(experiment.config, indent=4))
            paths.append(path)
        if self.script_file is not None:
            self.script_file.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"{command} --config {path}" for path in paths]
            self.script_file.write_text("#!/bin/bash\n\n" + "\n".join(lines) + "\n")
        return tuple(paths)

    def pipeline(self) -> dict[str, Any]:
        """``policy_config`` and ``policy_sweep`` of a run of the pipeline whose trials are these experiments, by the same names.

        Raises:
            ConfigError: the experiments are policies of different kinds, whose keys differ.
        """
        experiments = self.experiments()
        trees = [trial_keys(one.config, one.name) for one in experiments]
        differing = sorted({tree["policy"] for tree in trees})
        keys = list(dict.fromkeys(key for tree in trees for key in tree))
        partial = [key for key in keys if any(key not in tree for tree in trees)]
        if len(differing) > 1:
            raise ConfigError(
                f"the experiments are policies of {len(differing)} kinds: {', '.join(differing)}",
                where=str(self.base_file),
                why="a sweep varies values of the keys that all its trials have",
                fix="a generator, and a run, for each kind of policy",
            )
        defaults = _policy_defaults(differing[0])
        trees = [{key: defaults[key] for key in partial} | tree for tree in trees]
        fixed = [key for key in keys if len({tree[key] for tree in trees}) == 1]
        varying = [key for key in keys if key not in fixed]
        config = " ".join(f"{'++' if key.startswith('policy.') else ''}{key}={trees[0][key]}" for key in fixed)
        if not varying:
            return {"policy_config": config, "policy_sweep": []}
        names = [one.name for one in experiments]
        sweep = []
        for index, key in enumerate(varying):
            entry = {"key": key, "name": "", "group": 0, "values": [json.loads(_as_json(tree[key])) for tree in trees]}
            if index == 0:  # one parameter carries the whole name
                first, rests = _split_names(names)
                entry |= {"name": first, "value_names": rests}
            sweep.append(entry)
        return {"policy_config": config, "policy_sweep": sweep}


def trial_keys(config: Mapping[str, Any], place: str) -> dict[str, str]:
    """A robomimic configuration as overrides by key, without what a run chooses for all its trials."""
    pairs = (text.removeprefix("++").partition("=") for text in translate(config, place).overrides)
    return {key: value for key, _, value in pairs if key in SEEN or not key.startswith(CHOSEN_BY_RUN)}


def _policy_defaults(policy: str) -> dict[str, str]:
    """What a key has that a translation does not name: such as num_modes of a deterministic head."""
    from tendon.config.compose import compose, to_dict

    section = to_dict(compose([f"policy={policy}", "data.uri=unused"]).policy)
    return {f"policy.{key}": quote(value) for key, value in section.items()}


def _as_json(text: str) -> str:
    """An override's value as JSON text: what is no JSON is a word, or a list of words."""
    try:
        json.loads(text)
    except ValueError:
        return json.dumps(text)
    return text


def _split_names(names: Sequence[str]) -> tuple[str, list[str]]:
    """A common beginning, up to an underscore, and what follows it in each name."""
    pieces = [name.split("_") for name in names]
    common = sum(1 for _ in itertools.takewhile(lambda row: len(set(row)) == 1, zip(*pieces, strict=False)))
    common = max(1, min(common, *(len(piece) - 1 for piece in pieces))) if len(names) > 1 else 1
    if len({piece[0] for piece in pieces}) > 1:
        return "trial", list(names)
    return "_".join(pieces[0][:common]), ["_".join(piece[common:]) for piece in pieces]


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *branches, leaf = key.split(".")
    node = tree
    for branch in branches:
        node = node[branch]
    node[leaf] = value


def _check_key(tree: Mapping[str, Any], key: str, place: str) -> None:
    """A branch that the base lacks, as upstream; a new leaf is judged when the experiment is."""
    node: Any = tree
    done: list[str] = []
    for branch in key.split(".")[:-1]:
        if not isinstance(node, Mapping) or branch not in node:
            known = list(node) if isinstance(node, Mapping) else []
            near = nearest(branch, known)
            where = ".".join(done) or "the root"
            fix = f"{'.'.join([*done, near])} (the nearest)" if near else f'add "{branch}": {{}} to the base'
            raise ConfigError(
                f"the base has no section {branch}", where=place, why=f"{where} has {', '.join(known)}", fix=fix
            )
        node, done = node[branch], [*done, branch]
    if not isinstance(node, Mapping):
        raise ConfigError(
            f"{key} cannot be set", where=place, why=f"{'.'.join(done)} is a value", fix="name a key of a section"
        )


def _coupling_problems(config: Mapping[str, Any], name: str) -> list[Problem]:
    try:
        translate(config, name, steps_per_pass=1)
    except ConfigError as error:
        return list(error.problems)
    return []


__all__ = ["Budget", "ConfigGenerator", "Experiment"]
