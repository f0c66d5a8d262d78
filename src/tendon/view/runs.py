"""All runs of a store on one page: ranked, beside each other, and what changed between two of them; champions over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tendon.evaluate.confidence import describe_rate, wilson
from tendon.registry.catalogue import ChampionRow, RunRow, flat, list_champions, list_runs, seconds_of
from tendon.view.shell import Embedded, NothingThere, Reply, as_json, shell

ABOUT_DATA = ("data.",)  # keys of a configuration that say which data
NOT_COMPARED = ("data.uri", "seed_block")


class StoreView:
    """The index page."""

    def __init__(self, uri: str) -> None:
        self.uri, self.title = uri, "Runs"

    def page(self, trail: Sequence[tuple[str, str]] = ()) -> str:
        """The page that asks the server."""
        return shell("index", self.title, self.uri, trail)

    def answer(self, path: str) -> Reply:
        """``api/index``: read anew, so that a reload shows what has ended meanwhile."""
        if path != "api/index":
            raise NothingThere(path)
        return as_json(self.describe())

    def written(self) -> str:
        """The page with everything inside."""
        return shell("index", self.title, self.uri, embedded=Embedded({"api/index": self.describe()}))

    def describe(self) -> dict[str, Any]:
        """Runs and champions, and of the configurations what differs between any two."""
        runs, champions = list_runs(self.uri), list_champions(self.uri)
        configs = {run.id: flat(_config(run)) for run in runs}
        keys = sorted({key for config in configs.values() for key in config} - set(NOT_COMPARED))
        varying = [key for key in keys if len({config.get(key) for config in configs.values()}) > 1]
        reigning = {champion.run_uri.rstrip("/").rpartition("/")[2] for champion in champions}
        concluded = sum(run.state == "concluded" for run in runs)
        facts = [("runs", f"{len(runs):,}"), ("concluded", f"{concluded:,}"), ("champions", f"{len(champions):,}")]
        return {
            "facts": facts,
            "champions": [_champion(champion) for champion in champions],
            "runs": [_run(run, configs[run.id], varying, run.id in reigning) for run in runs],
        }


def _config(run: RunRow) -> Mapping[str, Any]:
    """The winner's configuration, or the first one; of a run without a report from its plan."""
    configs = run.record.get("configs") or {one["name"]: one["config"] for one in run.record.get("trials", ())}
    config: Any = configs.get(run.winner) or next(iter(configs.values()), {})
    return config if isinstance(config, Mapping) else {}


def _run(run: RunRow, config: Mapping[str, str], varying: Sequence[str], is_champion: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": run.name,
        "id": run.id,
        "at": run.at,
        "when": run.when,
        "task": run.task,
        "policies": run.policies,
        "num_trials": run.num_trials,
        "verdict": run.verdict,
        "champion": is_champion,
        "n": run.n,
        "successes": run.successes,
        "config": {key: config[key] for key in varying if key in config and not key.startswith(ABOUT_DATA)},
        "data": dict(_data(run, config, varying)),
        "code": dict(_code(run)),
    }
    if run.n:
        interval = wilson(run.successes, run.n)
        sentence = f"success rate {describe_rate(run.successes, run.n, run.crashed, 'confirmation')}"
        values |= {"rate": run.rate, "low": interval.low, "high": interval.high, "sentence": sentence}
    return values


def _data(run: RunRow, config: Mapping[str, str], varying: Sequence[str]) -> Iterator[tuple[str, str]]:
    record = run.record
    yield "demonstrations", str(record.get("source_uri", ""))
    yield "their digest", str(record.get("source_digest", ""))
    yield "dataset", run.dataset_uri
    yield "dataset's digest", str(record.get("dataset_digest", ""))[:16]
    yield "training episodes", str(record.get("episode_list_digest", ""))
    yield from ((key, config[key]) for key in varying if key in config and key.startswith(ABOUT_DATA))


def _code(run: RunRow) -> Iterator[tuple[str, str]]:
    record = run.record
    yield "code", str(record.get("code_version", ""))
    for step, image in sorted(record.get("images", {}).items()):
        yield f"image of {step}", str(image)


def _champion(champion: ChampionRow) -> dict[str, Any]:
    reigns = [*reversed(champion.history), _as_entry(champion)]
    points = []
    for reign in reigns:
        successes, n = int(reign.get("successes", 0)), int(reign.get("n", 0))
        low, high = wilson(successes, n) if n else (0.0, 1.0)
        when = str(reign.get("when", ""))
        points.append(
            {"at": seconds_of(when), "when": when, "rate": successes / n if n else 0.0, "low": low, "high": high,
             "policy": str(reign.get("policy_digest", ""))}
        )  # fmt: skip
    before = f", after {len(champion.history)} predecessors" if champion.history else ", the first"
    rate = describe_rate(champion.successes, champion.n, 0, "confirmation") if champion.n else "no rate"
    return {"name": champion.name, "sentence": f"{rate}, since {champion.when[:10]}{before}", "points": points}


def _as_entry(champion: ChampionRow) -> Mapping[str, Any]:
    return {
        "successes": champion.successes,
        "n": champion.n,
        "when": champion.when,
        "policy_digest": champion.policy_digest,
    }
