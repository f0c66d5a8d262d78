"""The winner on seeds that chose nothing, beside the champion on the same seeds.

In: the run's plan and selection. Out: confirmation.json, with the gate's verdict and the tag of the champion pointer that
was read. Called by steps.confirm, read by steps.report and steps.promote.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from tendon.errors import TendonError
from tendon.evaluate.confidence import Outcomes
from tendon.evaluate.table import Evaluation, load_evaluation
from tendon.registry.champion import read_champion
from tendon.registry.gate import Contender, Verdict, decide
from tendon.runs.plan import RunPlan
from tendon.storage import join, open_store
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
    fields = json.loads(open_store(run_uri).read("confirmation.json"))
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
    table = _table(run, winner, join(run.trial_uri(winner), "bundle"), evaluate)
    pointer = read_champion(open_store(run.store_uri), run.champion)
    champion_table, champion_error = None, ""
    if pointer.champion is not None:
        try:
            champion_table = _table(run, winner, pointer.champion.bundle_uri, evaluate)
        except TendonError as error:  # a champion that no longer runs must not hide the winner's rate
            champion_error = str(error)
    verdict = _verdict(run, table, champion_table, champion_error)
    return Confirmation(
        winner=winner,
        winner_uri=table.uri,
        champion_uri=champion_table.uri if champion_table else "",
        champion_bundle_uri=pointer.champion.bundle_uri if pointer.champion else "",
        champion_etag=pointer.etag or "",
        champion_error=champion_error,
        verdict=verdict,
    )


def compare_tables(challenger: Evaluation, champion: Evaluation) -> Verdict:
    """The gate's verdict on two tables of the same seeds."""
    return decide(contender(challenger), contender(champion))


def contender(table: Evaluation) -> Contender:
    """A table as the gate sees it."""
    return Contender(table.summary["policy_digest"], Outcomes.of(table.rows))


def _table(run: RunPlan, winner: str, bundle_uri: str, evaluate: Evaluate) -> Evaluation:
    config = run.config_of(winner)
    config = replace(config, eval=replace(config.eval, n_episodes=run.confirm_episodes))
    return evaluate(bundle_uri=bundle_uri, config=config, block="confirmation", run_id=run.run_id)


def _verdict(run: RunPlan, table: Evaluation, champion: Evaluation | None, champion_error: str) -> Verdict:
    if champion_error:
        rule = "a challenger is compared with the champion on the same seeds"
        return Verdict(
            "cannot_tell",
            f"cannot tell: champion {run.champion!r} could not be rolled out: keep the champion",
            rule,
            {},
        )
    return decide(contender(table), contender(champion) if champion else None)
