"""Bundles on the same seeds, compared and drawn. Called by steps.compare_bundles, for ``tendon compare``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from tendon.config.compose import to_dict
from tendon.config.schema import TrainConfig
from tendon.errors import ConfigError
from tendon.evaluate.confidence import Outcomes, describe_rate
from tendon.evaluate.many import Comparison, compare_many, entrants_of
from tendon.evaluate.table import Evaluation
from tendon.export.bundle import bundle_digest
from tendon.registry.confirmation import Evaluate, compare_tables, compared_many
from tendon.registry.protocol import protocol_of
from tendon.report.comparison_page import render_comparison
from tendon.runs.leaderboard import configuration


@dataclass(frozen=True)
class ManyCompared:
    """Several bundles on the same seeds."""

    comparison: Comparison
    verdict: str
    rates: list[str]  # in the order that was asked for
    uris: dict[str, str]  # by name
    tables: dict[str, str]
    html: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {"verdict": self.verdict, "bundles": self.uris, "tables": self.tables, **self.comparison.to_dict()}


def split_bundles(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Addresses of bundles, and overrides such as ``eval.n_episodes=200``."""
    overrides = [word for word in words if "=" in word and "/" not in word.partition("=")[0]]
    return [word for word in words if word not in overrides], overrides


def compare_bundles(
    bundle_uris: Sequence[str], config_of: Callable[[str], TrainConfig], evaluate: Evaluate
) -> ManyCompared:
    """Roll each bundle out on common confirmation seeds, and say which can be told apart; trainings of one configuration are one."""
    names = short_names(bundle_uris)
    if len(names) < 2:
        raise ConfigError(
            "one bundle is nothing to compare", where="compare", why="two or more are needed", fix="tendon compare A B"
        )
    configs = {name: config_of(uri) for name, uri in names.items()}
    protocols = {name: protocol_of(config.env) for name, config in configs.items()}
    if len(set(protocols.values())) > 1:
        said = ", ".join(f"{name}: {protocol}" for name, protocol in protocols.items())
        raise ConfigError(
            "the bundles do different tasks",
            where="compare",
            why=f"task, length and rate of an episode decide what a success is: {said}",
            fix="compare policies of one task, or say env.episode_length=N for all of them",
        )
    protocol = next(iter(protocols.values()))
    seeds_id = compared_many([bundle_digest(uri) for uri in names.values()], protocol)
    tables = {
        name: evaluate(bundle_uri=uri, config=configs[name], block="confirmation", run_id=seeds_id)
        for name, uri in names.items()
    }
    trained = {name: configuration({k: v for k, v in to_dict(config).items() if k not in ("eval", "env")})
               for name, config in configs.items()}  # fmt: skip
    found = compare_many(entrants_of({name: (trained[name], Outcomes.of(tables[name].rows)) for name in names}))
    first, second = list(tables.values())[:2]
    verdict = compare_tables(first, second).sentence if len(tables) == 2 else found.sentence()
    summary = first.summary["seeds"]
    seeds = f"{summary['first']} to {summary['first'] + summary['count'] - 1}"
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    page = render_comparison(found, names, protocol, seeds, when)
    where = {name: table.uri for name, table in tables.items()}
    return ManyCompared(found, verdict, [_rate(table) for table in tables.values()], names, where, page)


def short_names(uris: Sequence[str]) -> dict[str, str]:
    """A short name for each address: what tells it from the others; the whole of it when nothing does.

    Example:
        >>> short_names(["s3://b/trials/aa/bundle", "s3://b/trials/bb/bundle"])
        {'aa': 's3://b/trials/aa/bundle', 'bb': 's3://b/trials/bb/bundle'}
    """
    parts = [[part for part in uri.rstrip("/").split("/") if part not in ("bundle", "")] for uri in uris]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(words[-depth:]) for words in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, uris, strict=True))
    return {uri if uris.index(uri) == i else f"{uri} ({i + 1})": uri for i, uri in enumerate(uris)}


def _rate(table: Evaluation) -> str:
    found = table.summary
    return describe_rate(found["successes"], found["n"], found["crashed"], found["block"])
