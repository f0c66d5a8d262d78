"""A search by TPE over a sweep's own lists: which trials come next, from how those before them ended.

The loops of a compiled DAG are drawn before it runs, so nothing in it can ask for trials that depend on results. A round is
therefore a run: the same run, started again, plans the next round. ``searches/KEY.json`` in the store is the state: the
rounds so far, each with its run and its trials, replaced by compare-and-swap; scores are read from those runs. Optuna's
sampler proposes; it is seeded, so that the same state proposes the same trials, on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tendon.config.digest import digest
from tendon.config.sweep import Parameter, Parameters, Search, Trial, chosen_points, expand, group_lengths, is_ordered
from tendon.errors import ConfigError, MissingDependency
from tendon.runs.outcomes import TrialOutcome, has_ended, is_evaluated, load_outcomes, save_outcome
from tendon.runs.plan import RunPlan, load_plan
from tendon.storage import open_store
from tendon.storage.json_values import to_json

Point = tuple[int, ...]  # for each group of parameters the index of its values


@dataclass(frozen=True)
class Round:
    """The points of every round so far and of this one, and where the state is."""

    key: str
    number: int  # from 0
    points: tuple[Point, ...]  # all of them, the newest last
    etag: str | None  # of the state that this was decided by; None: there is none

    def trials(self, parameters: Parameters, base_name: str) -> tuple[Trial, ...]:
        """The trials of these points."""
        groups = list(group_lengths(parameters))
        return expand(parameters, base_name, [dict(zip(groups, point, strict=True)) for point in self.points])


def next_round(store_uri: str, parameters: Parameters, identity: Any) -> Round:
    """The round that a run of this search is to do: the last one again until all of its trials have ended, then the next.

    Args:
        store_uri: The store.
        parameters: A sweep with ``{tpe: ...}``.
        identity: What else makes it this search: configuration, data, episodes.
    """
    search = parameters.search
    assert search is not None
    if search.trials > search.per_run:
        _optuna()  # so that a later round does not fail for it
    key = f"searches/{digest([_plain(one) for one in parameters], search.seed, search.per_run, identity)}.json"
    info = open_store(store_uri).head(key)
    rounds = _rounds(store_uri, key) if info is not None else []
    etag = info.etag if info is not None else None
    points = [tuple(point) for one in rounds for point in one["points"]]
    if rounds and (len(points) >= search.trials or not _has_ended(rounds[-1]["run_uri"])):
        return Round(key, len(rounds) - 1, tuple(points), etag)
    lengths = list(group_lengths(parameters).values())
    room = min(search.per_run, search.trials - len(points))
    scores = _scores(rounds, points)
    fresh = list(_propose(parameters, search, lengths, scores, len(rounds), room))
    return Round(key, len(rounds), (*points, *fresh), etag)


def keep_round(run: RunPlan, decided: Round) -> None:
    """Make the round this run's, and give the run how the trials of earlier rounds ended: they are finished."""
    store = open_store(run.store_uri)
    rounds = _rounds(run.store_uri, decided.key) if decided.etag is not None else []
    known = {tuple(point) for one in rounds[: decided.number] for point in one["points"]}
    mine = {"run_uri": run.run_uri, "points": [list(point) for point in decided.points if point not in known]}
    if rounds[decided.number :] != [mine]:
        text = to_json({"rounds": [*rounds[: decided.number], mine]}, indent=1).encode()
        if not store.replace(decided.key, text, decided.etag) and _rounds(run.store_uri, decided.key)[-1] != mine:
            raise ConfigError(
                "another run of this search took its next round at the same moment",
                where=f"{run.store_uri}/{decided.key}",
                why="both would propose trials without knowing of each other",
                fix="start this run again when the other has ended",
            )
    own = load_outcomes(run)
    for one in rounds[: decided.number]:
        for outcome in load_outcomes(load_plan(one["run_uri"])).values():
            if has_ended(outcome) and outcome.trial not in own and _is_planned(run, outcome):
                save_outcome(run.run_uri, outcome)


def _propose(
    parameters: Parameters,
    search: Search,
    lengths: Sequence[int],
    scores: Mapping[Point, float | None],
    number: int,
    count: int,
) -> Iterator[Point]:
    """New points; the first round is drawn by chance, as no score is known."""
    if not scores:
        for index_of in chosen_points(parameters, None, search):
            yield tuple(index_of.values())
        return
    optuna = _optuna()
    groups = group_lengths(parameters)
    distributions = {
        str(place): optuna.distributions.IntDistribution(0, length - 1)
        if is_ordered(parameters, group)
        else optuna.distributions.CategoricalDistribution(list(range(length)))
        for place, (group, length) in enumerate(groups.items())
    }
    sampler = optuna.samplers.TPESampler(
        seed=search.seed + number, n_startup_trials=1, multivariate=True, constant_liar=True
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for point, score in scores.items():
        values = {str(place): index for place, index in enumerate(point)}
        study.add_trial(
            optuna.trial.create_trial(
                params=values, distributions=distributions, value=-1.0 if score is None else score
            )
        )
    seen, left, tries = set(scores), count, 0
    while left and len(seen) < _product(lengths):
        asked = study.ask(distributions)
        tries += 1
        point = tuple(int(asked.params[str(place)]) for place in range(len(lengths)))
        if point in seen and tries > 20 * count:  # the sampler keeps to what it knows: the nearest point that is new
            point = min((one for one in _all_points(lengths) if one not in seen), key=lambda one: _distance(one, point))
        if point not in seen:
            seen.add(point)
            left -= 1
            yield point


def _scores(rounds: Sequence[Mapping[str, Any]], points: Sequence[Point]) -> dict[Point, float | None]:
    """Success rate of each point that ended; None where the trial failed."""
    scores: dict[Point, float | None] = {}
    for one in rounds:
        run = load_plan(one["run_uri"])
        outcomes = load_outcomes(run)
        first = len(run.trials) - len(one["points"])
        for point, trial in zip(one["points"], run.trials[first:], strict=True):
            outcome = outcomes.get(trial.name)
            scored = outcome is not None and is_evaluated(outcome)
            scores[tuple(point)] = outcome.metrics["success_rate"] if outcome is not None and scored else None
    return scores


def _has_ended(run_uri: str) -> bool:
    run = load_plan(run_uri)
    outcomes = load_outcomes(run)
    return all(has_ended(outcomes.get(trial.name)) for trial in run.trials)


def _is_planned(run: RunPlan, outcome: TrialOutcome) -> bool:
    return any(trial.name == outcome.trial and trial.run_key == outcome.run_key for trial in run.trials)


def _rounds(store_uri: str, key: str) -> list[dict[str, Any]]:
    rounds: list[dict[str, Any]] = json.loads(open_store(store_uri).read(key))["rounds"]
    return rounds


def _plain(parameter: Parameter) -> list[Any]:
    return [parameter.key, parameter.group, list(parameter.values)]


def _product(lengths: Sequence[int]) -> int:
    total = 1
    for length in lengths:
        total *= length
    return total


def _all_points(lengths: Sequence[int]) -> Iterator[Point]:
    for number in range(_product(lengths)):
        point = []
        for length in reversed(lengths):
            number, index = divmod(number, length)
            point.append(index)
        yield tuple(reversed(point))


def _distance(one: Point, other: Point) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingDependency(
            "a search by TPE needs Optuna",
            where="policy_sweep: {tpe: ...}",
            why="no module optuna",
            fix="pip install 'tendon-robotics[search]'",
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
