"""What a job came to, read from what it left in the store and never from a word of the engine.

MLMD says COMPLETE of a good run, FAILED of a failed one, and RUNNING of a terminated one as well as of a good one whose
work was skipped. Called by steps.finish.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from tendon.errors import Interrupted, TendonError
from tendon.runs.conclusion import Conclusion, load_conclusion
from tendon.runs.failures import NO_TRIAL_FINISHED, StepFailure, failures_in, now
from tendon.runs.jobs import Job, find_job, job_folder, remember_trained, save_end
from tendon.runs.plan import RunPlan, load_plan

log = logging.getLogger(__name__)

SUCCEEDED = "succeeded"
NOTHING_TO_DO = "nothing to do"
PART_DONE = "part done"
FAILED = "failed"
STOPPED = "stopped"
NEVER_PLANNED = "never planned"
BAD = (FAILED, STOPPED, NEVER_PLANNED)


@dataclass(frozen=True)
class End:
    """How a job ended; ``exit_code`` is that of ``submit.py watch``."""

    ending: str
    headline: str
    exit_code: int
    job: Job
    conclusion: Conclusion | None = None
    failures: tuple[StepFailure, ...] = ()

    @property
    def is_bad(self) -> bool:
        """Whether somebody has to look."""
        return self.ending in BAD

    def to_note(self, report_uri: str) -> dict[str, Any]:
        """As ``ended.json`` keeps it."""
        failures = [
            {key: asdict(failure)[key] for key in ("step", "part", "when", "exit_code", "log", "soft")}
            | {"text": failure.text}
            for failure in self.failures
        ]
        return {
            "ending": self.ending,
            "headline": self.headline,
            "run_uri": self.job.run_uri,
            "report_uri": report_uri,
            "exit_code": self.exit_code,
            "failures": failures,
            "when": now(),
        }


def find_end(store_uri: str, job_id: str) -> End:
    """Read from the store what became of the job."""
    job = find_job(store_uri, job_id)
    run_uri = job.run_uri
    conclusion = load_conclusion(run_uri) if run_uri else None
    if conclusion is not None and not _is_of(conclusion, job_id, job):
        conclusion = None
    failures = failures_in(job_folder(store_uri, job_id), since=job.when)
    if run_uri:
        failures = [
            *failures_in(load_plan(run_uri).dataset_uri, since=job.when),
            *failures_in(run_uri, since=job.when),
            *failures,
        ]
    return judge(job, conclusion, failures)


def judge(job: Job, conclusion: Conclusion | None, failures: list[StepFailure]) -> End:
    """The ending that the marks speak for. Pure."""
    failures = sorted(failures, key=lambda failure: (failure.soft, failure.when))
    end = End("", "", 0, job, conclusion, tuple(failures))
    if conclusion is not None and conclusion.trials_left:
        return replace(end, ending=PART_DONE, headline=conclusion.verdict, exit_code=Interrupted.exit_code)
    if conclusion is not None:
        return replace(end, ending=SUCCEEDED, headline=f"the run ended well: {conclusion.verdict}")
    hard = [failure for failure in failures if not failure.soft]
    real = [failure for failure in hard if failure.exit_code != Interrupted.exit_code]
    if real:
        when = "" if job.run_uri else " before anything was planned"
        first = _first_cause(real[0], failures)
        headline = f"the run failed at {first.name}{when}: {first.problems[0].what}"
        return replace(end, ending=FAILED, headline=headline, exit_code=real[0].exit_code)
    if job.run_uri and not job.work:
        return replace(end, ending=NOTHING_TO_DO, headline=f"there was nothing to do: {job.reason}")
    if not job.run_uri:
        headline = "the run ended before anything was planned"
        return replace(end, ending=NEVER_PLANNED, headline=headline, exit_code=Interrupted.exit_code)
    at = f" at {hard[0].name}" if hard else ""
    return replace(end, ending=STOPPED, headline=f"the run was stopped{at}", exit_code=Interrupted.exit_code)


def _first_cause(ended: StepFailure, failures: list[StepFailure]) -> StepFailure:
    """What ended the run, or the error of the first trial where the run ended because all of them had failed."""
    if ended.problems[0].what != NO_TRIAL_FINISHED:
        return ended
    return min((failure for failure in failures if failure.soft), key=lambda failure: failure.when, default=ended)


def remember_end(
    end: End, store_uri: str, job_id: str, report_uri: str, *, trained_task: Callable[[RunPlan], str] | None
) -> None:
    """Keep how the job ended and, for a schedule, what its task was trained on; a store that refuses is logged."""
    try:
        save_end(store_uri, job_id, end.to_note(report_uri))
        if trained_task and (end.ending == SUCCEEDED or (end.ending == NOTHING_TO_DO and end.job.is_complete)):
            remember_trained(load_plan(end.job.run_uri), trained_task)
    except TendonError as error:
        log.warning("finish: how the run ended could not be kept: %s", error)


def unreadable(error: str) -> End:
    """The end of a job whose store cannot be read: nobody can say more."""
    headline = "how the run ended cannot be told: its store cannot be read"
    return End(NEVER_PLANNED, f"{headline}: {error.splitlines()[0].removeprefix('error: ')}", 4, Job())


def _is_of(conclusion: Conclusion, job_id: str, job: Job) -> bool:
    """Whether the conclusion is this job's, and not that of an earlier job of the same run."""
    return conclusion.job_id == job_id or conclusion.when > job.when  # the same moment is the earlier job's
