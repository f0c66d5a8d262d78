"""Whether the episodes that a curation leaves out may stay out: its two trials on fresh common seeds.

In: a run of two trials that differ in ``data.skip_episodes`` alone. Out: subset.json with both tables and the decision; the subset is kept
only when the policy that was trained on it is confirmed not worse. Called by steps.confirm before the winner meets the champion.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tendon.evaluate.confidence import (
    Interval,
    Outcomes,
    Pairs,
    better_exact,
    describe_rate,
    difference_paired,
    episodes_to_tell,
)
from tendon.evaluate.table import Evaluation
from tendon.registry.confirmation import compared
from tendon.registry.protocol import protocol_of_run
from tendon.runs.plan import RunPlan
from tendon.storage import join, open_store
from tendon.storage.json_values import to_json

FILE = "subset.json"
MARGIN = 0.05  # of the success rate: so much less would be worse
ALPHA = 0.025


@dataclass(frozen=True)
class SubsetDecision:
    """Both trials on the same seeds, and what became of it."""

    all_trial: str
    subset_trial: str
    left_out: tuple[str, ...]
    kept: bool  # the subset
    verdict: str  # better, not worse, worse, cannot tell
    sentence: str
    all_rate: str
    subset_rate: str
    difference: float  # subset minus all
    difference_95: Interval
    pairs: int
    all_table: str
    subset_table: str

    @property
    def winner(self) -> str:
        """The trial that stands."""
        return self.subset_trial if self.kept else self.all_trial


def subset_trials(run: RunPlan) -> tuple[str, str] | None:
    """The trial of all episodes, and that of some of them; None: the run is no curation."""
    if len(run.trials) != 2:
        return None
    first, second = run.trials
    if _without(first.config) != _without(second.config):
        return None
    skipped = [set(trial.config["data"]["skip_episodes"]) for trial in (first, second)]
    if skipped[0] < skipped[1]:
        return first.name, second.name
    return (second.name, first.name) if skipped[1] < skipped[0] else None


def decide_subset(run: RunPlan, evaluate: Callable[..., Evaluation]) -> SubsetDecision | None:
    """Roll both trials out on seeds that chose nothing, decide, and let the one that stands be the run's winner.

    None: the run is no curation, or one of its trials has no policy.
    """
    names, store = subset_trials(run), open_store(run.run_uri)
    selection = json.loads(store.read("selection.json"))
    finished = {row["name"] for row in selection["leaderboard"] if row["rank"]}
    if names is None or not set(names) <= finished:
        return None
    decision = _decided(run, *names, evaluate)
    store.write(FILE, to_json(asdict(decision), indent=1).encode())
    store.write("selection.json", to_json(selection | {"winner": decision.winner}, indent=1).encode())
    return decision


def load_subset(run: RunPlan) -> SubsetDecision | None:
    """The decision of a run that was a curation."""
    store = open_store(run.run_uri)
    if subset_trials(run) is None or store.head(FILE) is None:
        return None
    values = json.loads(store.read(FILE))
    ends = {"difference_95": Interval(*values["difference_95"]), "left_out": tuple(values["left_out"])}
    return SubsetDecision(**{**values, **ends})


def judge(subset: Outcomes, everything: Outcomes, margin: float = MARGIN) -> tuple[str, str]:
    """The verdict and its reason; a crash speaks against the subset where it is to be kept, and for it where it is called worse.

    Example:
        >>> won = Outcomes(dict.fromkeys(range(200), True))
        >>> judge(won, won)[0]
        'not worse'
    """
    pairs = Pairs.of(subset.by_seed, everything.by_seed)
    if pairs.n == 0:
        return "cannot tell", "there is no seed that both policies finished"
    least = Pairs.with_crashes(subset, everything, for_first=False)
    most = Pairs.with_crashes(subset, everything, for_first=True)
    low, high = difference_paired(pairs)
    ends = (
        f"({100 * pairs.difference:+.1f} points, 95% {100 * low:+.1f} to {100 * high:+.1f}, paired, {pairs.n:,} seeds)"
    )
    if difference_paired(least).low > 0 and better_exact(least.only_first, least.only_second) <= ALPHA:
        return "better", f"the policy without them is better {ends}"
    if difference_paired(least).low > -margin:
        return "not worse", f"the policy without them is not worse by {100 * margin:g} points or more {ends}"
    if difference_paired(most).high < 0 and better_exact(most.only_second, most.only_first) <= ALPHA:
        return "worse", f"the policy without them is worse {ends}"
    if low > -margin:
        return "cannot tell", f"it would be not worse, but not if the crashes were its failures {ends}"
    more = episodes_to_tell(pairs, -margin)
    outlook = f"about {more:,} more episodes needed" if more else "more episodes would hardly tell"
    return (
        "cannot tell",
        f"it cannot be told whether the policy without them is worse by {100 * margin:g} points {ends}; {outlook}",
    )


def _decided(run: RunPlan, all_trial: str, subset_trial: str, evaluate: Callable[..., Evaluation]) -> SubsetDecision:
    from tendon.export.bundle import bundle_digest

    bundles = {name: join(run.trial_uri(name), "bundle") for name in (all_trial, subset_trial)}
    digests = [bundle_digest(uri) for uri in bundles.values()]
    seeds_id = compared(digests[0], digests[1], protocol_of_run(run))
    tables = {}
    for name, uri in bundles.items():
        config = run.config_of(name)
        config = replace(config, eval=replace(config.eval, n_episodes=run.confirm_episodes))
        tables[name] = evaluate(bundle_uri=uri, config=config, block="confirmation", run_id=seeds_id)
    everything, subset = (Outcomes.of(tables[name].rows) for name in (all_trial, subset_trial))
    verdict, reason = judge(subset, everything)
    kept = verdict in ("better", "not worse")
    pairs = Pairs.of(subset.by_seed, everything.by_seed)
    skipped = [set(run.trial(name).config["data"]["skip_episodes"]) for name in (subset_trial, all_trial)]
    left_out = tuple(sorted(skipped[0] - skipped[1]))
    episodes = f"{len(left_out)} episode{'' if len(left_out) == 1 else 's'}"
    return SubsetDecision(
        all_trial,
        subset_trial,
        left_out,
        kept,
        verdict,
        f"{episodes} {'stay' if kept else 'do not stay'} left out: {reason}",
        _rate(tables[all_trial]),
        _rate(tables[subset_trial]),
        pairs.difference,
        difference_paired(pairs),
        pairs.n,
        tables[all_trial].uri,
        tables[subset_trial].uri,
    )


def _rate(table: Evaluation) -> str:
    found = table.summary
    return describe_rate(found["successes"], found["n"], found["crashed"], found["block"])


def _without(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, "data": {key: value for key, value in config["data"].items() if key != "skip_episodes"}}
