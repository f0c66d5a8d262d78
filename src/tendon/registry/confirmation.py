"""The winner on seeds that chose nothing, beside the champion on the same seeds.

In: the run's plan and selection. Out: confirmation.json, with the gate's verdict and the tag of the champion pointer that
was read. Called by steps.confirm, read by steps.report and steps.promote. The seeds depend on what is compared and on
nothing else, so a rerun, or a copy of the store, draws no new ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tendon.config.digest import digest
from tendon.errors import Interrupted, TendonError
from tendon.evaluate.confidence import Outcomes, attained_alpha
from tendon.evaluate.seeds import confirmation as confirmation_block
from tendon.evaluate.table import Evaluation, load_evaluation
from tendon.registry.alpha import Allowance
from tendon.registry.champion import Champion, read_champion
from tendon.registry.evidence import kept_confirmation
from tendon.registry.gate import Contender, Looks, Verdict, decide
from tendon.registry.ledger import Entry, enter, settle
from tendon.registry.protocol import protocol_of_run
from tendon.runs.gate_rule import GateRule
from tendon.runs.plan import RunPlan
from tendon.storage import Store, join, open_store
from tendon.storage.json_values import to_json

Evaluate = Callable[..., Evaluation]


@dataclass(frozen=True)
class Confirmation:
    """What was confirmed. Empty strings: there was none (no trial finished, no champion)."""

    winner: str
    winner_uri: str
    champion_uri: str
    champion_bundle_uri: str
    champion_etag: str
    champion_error: str
    verdict: Verdict

    def metrics(self) -> dict[str, float]:
        """A few stable names for the Metrics artifact; without a winner there is nothing to count."""
        if not self.winner:
            return {}
        summary = load_evaluation(self.winner_uri).summary
        low, high = summary["interval_95"]
        return {
            "success_rate": summary["success_rate"],
            "success_low": low,
            "success_high": high,
            "episodes": float(summary["n"]),
            "crashed": float(summary["crashed"]),
            "promotes": float(self.verdict.promotes),
        }

    def to_json(self) -> str:
        """As confirmation.json keeps it."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "verdict"}
        return to_json(fields | {"verdict": self.verdict.to_dict()}, indent=1)


def load_confirmation(run_uri: str) -> Confirmation:
    """What the confirm step of the run found."""
    return _parsed(open_store(run_uri).read("confirmation.json"))


def _parsed(text: bytes) -> Confirmation:
    fields = json.loads(text)
    return Confirmation(**fields | {"verdict": Verdict.from_dict(fields["verdict"])})


def confirm_winner(run: RunPlan, evaluate: Evaluate) -> Confirmation:
    """Roll out the winner, and the champion if there is one, on the confirmation seeds of this run."""
    selection = json.loads(open_store(run.run_uri).read("selection.json"))
    winner = selection["winner"]
    if not winner:
        failed = len(selection["leaderboard"])
        sentence = (
            f"all {failed} trials failed: there is no policy to confirm"
            if failed > 1
            else "the only trial failed: there is no policy to confirm"
        )
        return Confirmation(
            "", "", "", "", "", "", Verdict("keep", sentence, "a policy is confirmed only when a trial finished", {})
        )
    comparison = _Comparison(run, winner, evaluate)
    kept = kept_confirmation(run, comparison.challenger_digest)
    if kept is not None:  # it was promoted with this; a rerun would only compare it with itself
        return _parsed(kept)
    return comparison.confirmed()


class _Comparison:
    """The winner of a run beside the champion of its task."""

    def __init__(self, run: RunPlan, winner: str, evaluate: Evaluate) -> None:
        from tendon.export.bundle import bundle_digest

        self.run, self.winner, self.evaluate = run, winner, evaluate
        self.rule: GateRule = run.gate
        self.bundle_uri = join(run.trial_uri(winner), "bundle")
        self.challenger_digest = bundle_digest(self.bundle_uri)
        self.store: Store = open_store(run.store_uri)
        protocol = protocol_of_run(run)
        self.pointer = read_champion(self.store, run.champion, protocol)
        self.champion: Champion | None = self.pointer.champion
        against = self.champion.policy_digest if self.champion is not None else ""
        self.seeds_id = compared(self.challenger_digest, against, protocol)

    def confirmed(self) -> Confirmation:
        """Both tables, and what they mean."""
        champion_error, champion_table = "", None
        if self.champion is None:
            table = self._table(self.bundle_uri, self.run.confirm_episodes)
            verdict = decide(contender(table), None, floor=self.rule.floor)
        else:
            allowance = self._allowance()
            try:
                table, champion_table, verdict = self._compared(allowance)
                verdict = self._settled(verdict, allowance)
            except _ChampionError as failed:  # a champion that no longer runs must not hide the winner's rate
                table, champion_error = self._table(self.bundle_uri, self.run.confirm_episodes), str(failed)
                verdict = _without_champion(self.run.champion, champion_error)
        return Confirmation(
            winner=self.winner,
            winner_uri=table.uri,
            champion_uri=champion_table.uri if champion_table else "",
            champion_bundle_uri=self.champion.bundle_uri if self.champion else "",
            champion_etag=self.pointer.etag or "",
            champion_error=champion_error,
            verdict=verdict,
        )

    def _compared(self, allowance: Allowance | None) -> tuple[Evaluation, Evaluation, Verdict]:
        """All pairs at once, or in rounds until the bets can tell."""
        assert self.champion is not None
        budget = self.run.confirm_episodes
        seeds = confirmation_block(self.seeds_id).take(budget)
        for count in rounds(budget) if self.rule.test == "anytime" else (budget,):
            table = self._table(self.bundle_uri, count)
            try:
                other = self._table(self.champion.bundle_uri, count)
            except Interrupted:
                raise
            except TendonError as error:
                raise _ChampionError(str(error)) from error
            looks = Looks(seeds[:count], budget) if self.rule.test == "anytime" else None
            verdict = decide(
                contender(table), contender(other), margin=self.rule.margin, allowance=allowance, looks=looks
            )
            if verdict.decision != "cannot_tell" or verdict.path.get("decision") == "budget":
                break
        return table, other, verdict

    def _allowance(self) -> Allowance | None:
        """What this comparison may err of the champion's lifetime, entered before anything is seen."""
        assert self.champion is not None
        if self.champion.policy_digest == self.challenger_digest:
            return None
        return enter(self.store, self.champion, self._entry(), self.rule.alpha)

    def _settled(self, verdict: Verdict, allowance: Allowance | None) -> Verdict:
        """The verdict with what is left after it: a test of few decided pairs could not err by all it was allowed."""
        if allowance is None or self.champion is None:
            return verdict
        spent = allowance.alpha
        if self.rule.test == "fixed":
            numbers = verdict.numbers
            decided = int(numbers["only_challenger"] + numbers["only_champion"])
            spent = attained_alpha(decided + int(numbers["crashed"] + numbers["champion_crashed"]), allowance.alpha)
        left = settle(self.store, self.champion, self._entry().question, spent, self.rule.alpha)
        return replace(verdict, numbers=verdict.numbers | {"alpha_left": left, "alpha_spent": spent})

    def _entry(self) -> Entry:
        rule, episodes = self.rule, self.run.confirm_episodes
        return Entry(self.challenger_digest, episodes, rule.test, rule.margin, 0.0, 0.0, self.run.run_uri, "")

    def _table(self, bundle_uri: str, count: int) -> Evaluation:
        config = self.run.config_of(self.winner)
        config = replace(config, eval=replace(config.eval, n_episodes=count))
        return self.evaluate(bundle_uri=bundle_uri, config=config, block="confirmation", run_id=self.seeds_id)


class _ChampionError(Exception):
    """The champion could not be rolled out."""


def compared(first: str, second: str, protocol: str) -> str:
    """What confirmation seeds are drawn by: both policies, whichever comes first, and their task."""
    return compared_many((first, second), protocol)


def compared_many(policies: Sequence[str], protocol: str) -> str:
    """As ``compared``, for any number of policies."""
    return digest("confirm", sorted(policies), protocol)


def rounds(budget: int) -> list[int]:
    """After how many pairs in all the next ones are asked for: each round adds a tenth of the budget, 5 to 50 pairs.

    Example:
        >>> rounds(30)
        [5, 10, 15, 20, 25, 30]
    """
    size = min(50, max(5, math.ceil(budget / 10)))
    return [*range(size, budget, size), budget]


def compare_tables(challenger: Evaluation, champion: Evaluation) -> Verdict:
    """The gate's verdict on two tables of the same seeds."""
    return decide(contender(challenger), contender(champion))


def contender(table: Evaluation) -> Contender:
    """A table as the gate sees it."""
    return Contender(table.summary["policy_digest"], Outcomes.of(table.rows))


def _without_champion(name: str, error: str) -> Verdict:
    why = error.strip().splitlines()[0].removeprefix("error: ") if error.strip() else "it gave no reason"
    return Verdict(
        "cannot_tell",
        f"cannot tell: champion {name!r} could not be rolled out ({why}): keep the champion",
        "a challenger is compared with the champion on the same seeds",
        {},
    )
