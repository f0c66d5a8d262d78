"""The pages of what is not a whole run: one that ended early, one that had nothing to do, one bundle that was measured.

Called by steps.finish and steps.evaluate_bundle; reads the store of the run, gives back a headline and a page.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from html import escape

from tendon.errors import TendonError
from tendon.evaluate.table import Evaluation
from tendon.registry.confirmation import compare_tables
from tendon.report.page import render
from tendon.report.reproduce import commands
from tendon.report.summary import Difference, Ending, LineageRow, Rate, ReportInputs, Stop
from tendon.runs.endings import NOTHING_TO_DO, PART_DONE, SUCCEEDED, End
from tendon.runs.failures import StepFailure
from tendon.runs.plan import RunPlan, load_plan
from tendon.storage import join, open_store
from tendon.train.distributed.waiters import describe_nodes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RenderedPage:
    """A page, its first sentence, and its numbers."""

    headline: str
    html: str
    metrics: dict[str, float] = field(default_factory=dict)


NEXT = {
    1: "This is a bug: report it with the traceback. What was finished is kept; the same parameters continue there.",
    2: "Change the parameters as its last line says and start a new run; trying the same again would end the same way.",
    3: "Repair or leave out the data as its last line says, then start again; trying the same again would end the same way.",
    4: "See that the store answers and that the secret tendon-store is right, then start again with the same parameters.",
    5: "Use an image that has it, or install it, then start again with the same parameters.",
    6: "Nothing is broken: the gate said no, and the champion stays.",
    75: "Start again with the same parameters: it saved its work and continues there.",
}
SILENT = (
    "No step left a message: the run was terminated, or a pod was killed or never started. Look at the red step in the "
    "graph: an image that cannot be pulled, a quota that is full or too little memory is told under its events. Finished "
    "steps are kept, so starting again with the same parameters repeats none of them."
)
NOTHING = "Start it with data_force=true to run it all the same."
REST = "Start the same run again: it takes the next trials, and selects when there are no more."


def describe_end(end: End, error: str = "") -> RenderedPage:
    """The page of a job that ended: the report of its run when that is what it came to, else what there is and what stopped it.

    Args:
        end: What the store says.
        error: What the engine says of it, if anything.
    """
    run_uri = end.job.run_uri
    if end.ending == SUCCEEDED or (end.ending == NOTHING_TO_DO and end.job.is_complete):
        page = open_store(run_uri).read("report.html").decode()
        return RenderedPage(end.headline, with_notes(page, end.job.unfinished))
    if not run_uri:
        stops = tuple(_stops(end.failures, error, {}))
        inputs = ReportInputs("tendon", when=_now(), verdict=_with(end.headline, error), stops=stops)
        return RenderedPage(end.headline, with_notes(render(inputs), end.job.unfinished))
    run = load_plan(run_uri)
    inputs = _gathered(run, end.headline)
    if end.ending == NOTHING_TO_DO:
        inputs = replace(inputs, stops=(Stop("plan", end.job.reason, "", "", NOTHING),))
    elif end.ending == PART_DONE:
        return RenderedPage(end.headline, with_notes(describe_part(run, end.headline).html, end.job.unfinished))
    else:
        shown = [
            failure for failure in end.failures if not (failure.soft and inputs.leaderboard)
        ]  # the board lists those
        inputs = replace(inputs, stops=tuple(_stops(shown, error, commands(run))))
    return RenderedPage(end.headline, with_notes(render(inputs), end.job.unfinished))


def describe_part(run: RunPlan, headline: str) -> RenderedPage:
    """The page of a run that did its share of the trials and leaves the rest to the next."""
    stop = Stop("conclude", headline, "", "", REST)
    title = f"{run.dataset_name}: {run.source_uri}"
    inputs = ReportInputs(title, run_id=run.run_id, when=_now(), verdict=headline, stops=(stop,))
    return RenderedPage(headline, render(replace(inputs, lineage=tuple(_made(run)))))


def keep_page(end: End, html: str, job_uri: str) -> str:
    """Where the page of a job is: the report of its run, which nobody overwrites, or the job's own folder; empty: nowhere."""
    if end.ending == SUCCEEDED or (end.ending == NOTHING_TO_DO and end.job.is_complete):
        return join(end.job.run_uri, "report.html")
    try:
        open_store(job_uri).write("report.html", html.encode())
    except TendonError as error:
        log.warning("finish: the page could not be kept: %s", error)
        return ""
    return join(job_uri, "report.html")


def with_notes(html: str, notes: Sequence[str]) -> str:
    """A page with sentences that are not about its run above everything else."""
    said = "".join(f"<p>Note: {escape(note)}.</p>" for note in notes)
    return html.replace("<main>\n", f'<main>\n<section id="notes">{said}</section>\n', 1) if said else html


def _stops(failures: Sequence[StepFailure], error: str, known: dict[str, str]) -> Iterator[Stop]:
    """What each step said; workers that said the same are shown once."""
    if all(failure.soft for failure in failures):
        yield Stop("a step", error or "it left no message", "", "", SILENT)
    for text in dict.fromkeys(failure.text for failure in failures):
        said = [failure for failure in failures if failure.text == text]
        command = known.get(f"{said[0].step}/{said[0].part}", known.get(said[0].step, ""))
        next = NEXT.get(said[0].exit_code, NEXT[1])
        yield Stop(", ".join(failure.name for failure in said), text, said[0].log, command, next)


def _made(run: RunPlan) -> Iterator[LineageRow]:
    """What a run has that ended early: it is found again by the next one."""
    known = commands(run)
    yield LineageRow("demonstrations", f"{run.source_uri} ({run.source_digest})")
    if open_store(run.dataset_uri).head("manifest.json") is not None:
        yield LineageRow("dataset", run.dataset_uri, known["convert"])
    for trial in run.trials:
        trial_uri = run.trial_uri(trial.name)
        there = [step for step in ("train", "export") if open_store(trial_uri).head(f"timings/{step}.json") is not None]
        if there:
            yield LineageRow(
                f"trial {trial.name}: {' and '.join(there)} finished", trial_uri, known[f"train/{trial.name}"]
            )
        elif nodes := describe_nodes(trial_uri):
            yield LineageRow(f"trial {trial.name}: its nodes when they were last seen", nodes)
    yield LineageRow("the plan", join(run.run_uri, "plan.json"))


def _gathered(run: RunPlan, verdict: str) -> ReportInputs:
    from tendon.report.gather import gather

    store = open_store(run.run_uri)
    if store.head("selection.json") is not None and store.head("confirmation.json") is not None:
        inputs = gather(run)
        return replace(inputs, verdict=f"{verdict}. Before that: {inputs.verdict}", decision="")
    title = f"{run.dataset_name}: {run.source_uri}"
    return ReportInputs(title, run_id=run.run_id, when=_now(), verdict=verdict, lineage=tuple(_made(run)))


def describe_measurement(bundle_uri: str, baseline_uri: str, tables: dict[str, Evaluation]) -> RenderedPage:
    """The rate of a bundle, and the verdict beside another on the same seeds."""
    own = tables["winner"]
    names = {"winner": bundle_uri, "champion": baseline_uri}
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
    metrics = {name: float(own.summary[name]) for name in ("success_rate", "crashed", "mean_steps")}
    metrics |= {"episodes": float(own.summary["n"]), "success_low": low, "success_high": high}
    return RenderedPage(verdict, render(inputs), metrics)


def _with(headline: str, error: str) -> str:
    return f"{headline}: {error}" if error else headline


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
