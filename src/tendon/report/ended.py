"""The pages of what is not a whole run: one that ended early, one that had nothing to do, one bundle that was measured.

Called by steps.finish and steps.measure; reads the store of the run, gives back a headline and a page.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from tendon.evaluate.table import Evaluation
from tendon.registry.confirmation import compare_tables
from tendon.registry.plan import load_plan
from tendon.report.page import render
from tendon.report.summary import Difference, Ending, Rate, ReportInputs
from tendon.storage import open_store


@dataclass(frozen=True)
class Shown:
    """A page, its first sentence, and its numbers."""

    headline: str
    html: str
    metrics: dict[str, float] = field(default_factory=dict)


def describe_end(run_uri: str, state: str, error: str) -> Shown:
    """How a run ended: its own report when it got that far, else a page with what there is and what stopped it."""
    if not run_uri:
        headline = (
            "there was nothing to do"
            if state == "SUCCEEDED"
            else f"the run ended as {state} before anything was planned"
        )
        return Shown(headline, render(ReportInputs("tendon", when=_now(), verdict=_with(headline, error))))
    store = open_store(run_uri)
    if state == "SUCCEEDED" and store.head("report.html") is not None:
        return Shown(f"the run ended well: {run_uri}", store.read("report.html").decode())
    headline = f"the run ended as {state}"
    return Shown(headline, render(_gathered(run_uri, _with(headline, error))))


def _gathered(run_uri: str, verdict: str) -> ReportInputs:
    from tendon.report.gather import gather

    run, store = load_plan(run_uri), open_store(run_uri)
    if store.head("selection.json") is not None and store.head("confirmation.json") is not None:
        inputs = gather(run)
        return replace(inputs, verdict=f"{verdict}. Before that: {inputs.verdict}", decision="")
    return ReportInputs(f"{run.dataset_name}: {run.source_uri}", run_id=run.run_id, when=_now(), verdict=verdict)


def describe_measurement(bundle_uri: str, champion_uri: str, tables: dict[str, Evaluation]) -> Shown:
    """The rate of a bundle, and the verdict beside another on the same seeds."""
    own = tables["winner"]
    names = {"winner": bundle_uri, "champion": champion_uri}
    rates = tuple(Rate.of(role, names[role], table.summary) for role, table in tables.items())
    verdict, difference, decision, rule = f"{bundle_uri}: {rates[0]}", None, "", ""
    if "champion" in tables:
        found = compare_tables(own, tables["champion"])
        verdict, decision, rule, numbers = found.sentence, found.decision, found.rule, found.numbers
        if numbers.get("pairs"):
            difference = Difference(numbers["difference"], (numbers["low"], numbers["high"]), int(numbers["pairs"]))  # type: ignore[arg-type]
    inputs = ReportInputs(
        "Evaluation of a bundle",
        when=_now(),
        verdict=verdict,
        decision=decision,
        rule=rule,
        rates=rates,
        difference=difference,
        endings=tuple(Ending(row["seed"], row["status"], row["steps"]) for row in own.rows),
    )
    low, high = own.summary["interval_95"]
    metrics = {name: float(own.summary[name]) for name in ("success_rate", "n", "crashed", "mean_steps")}
    return Shown(verdict, render(inputs), metrics | {"success_low": low, "success_high": high})


def _with(headline: str, error: str) -> str:
    return f"{headline}: {error}" if error else headline


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
