"""The Python files that a configuration names, and which of them may not run. Called before anything is begun."""

from __future__ import annotations

from collections.abc import Iterator

from tendon.config.schema import TrainConfig
from tendon.errors import Problem
from tendon.trust import distrust


def named_files(config: TrainConfig) -> Iterator[tuple[str, str]]:
    """Key and path of every file that would run."""
    if config.env.simulator.endswith(".py"):
        yield f"env.simulator={config.env.simulator}", config.env.simulator
    yield from (("training.callbacks", name) for name in config.training.callbacks if name.endswith(".py"))


def untrusted_files(config: TrainConfig) -> list[Problem]:
    """A problem for each of them that is here and not trusted."""
    problems = (distrust(path, where) for where, path in named_files(config))
    return [problem for problem in problems if problem is not None]
