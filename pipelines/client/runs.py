"""Runs: start one unless it is running already, list them, stop one, read its logs, open its page."""

from __future__ import annotations

import os
import re
import sys
import webbrowser
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from pipelines.client.connection import ENDED, Connection, Refused, account_fix, state_of, was_canceled
from pipelines.client.endings import DIED, PART_DONE, STORE, Ending, Endings
from pipelines.client.forms import SHORT, Form
from pipelines.client.pods import Kubectl, log_command
from pipelines.client.tasks import Task, tasks_of
from pipelines.client.watching import SUBMIT, wait
from tendon.errors import ConfigError, Interrupted, TendonError

MOST_LOOKED_AT = 500  # runs, newest first, in which a running one is looked for
PIPELINE_NAMES = tuple(name.replace("_", "-") for name in SHORT.values())
LEFT = re.compile(r"(\d+) (?:of \d+ )?trials? (?:is |are )?left")


def submit(
    connection: Connection,
    form: Form,
    arguments: dict[str, Any],
    *,
    again: bool = False,
    batches: bool = False,
    timeout_s: float = 0,
    poll_s: float = 5,
) -> None:
    """Start a run unless the same one is running, and wait for its end; ``timeout_s`` 0 does not wait.

    Raises:
        StorageError: The API cannot be reached, or refuses.
        Interrupted: The run goes on, the waiting ended; or more parts are left.
        TendonError: The run ended otherwise than well.
    """
    if batches:
        _check_batches(connection, arguments, timeout_s)
    elif not again and (
        running := _running(connection, form.arguments_mark(arguments, connection.target.pipeline_root))
    ):
        age = _age(running.created_at)
        print(f"run {running.run_id}: {state_of(running)} already, since {age}: {connection.run_link(running.run_id)}")
        print("nothing was started; --again starts another", flush=True)
        return
    part, left = 1, -1
    while True:
        run_id = _start(connection, form, arguments)
        if batches:
            print(f"part {part}: run {run_id}", flush=True)
        if not timeout_s:
            return
        ending = wait(connection, run_id, timeout_s=timeout_s, poll_s=poll_s)
        if ending.word != PART_DONE:
            return
        if not batches:
            raise _part_done(connection, run_id, ending)
        found = LEFT.search(ending.headline)
        if found and int(found[1]) == left:
            raise TendonError(
                "the parts do not go on",
                where=connection.run_link(run_id),
                why=f"after part {part} there are as many trials left as before: {left}",
                fix=f"{SUBMIT} logs {run_id}",
            )
        part, left = part + 1, int(found[1]) if found else -1


def _part_done(connection: Connection, run_id: str, ending: Ending) -> Interrupted:
    return Interrupted(
        "this part of the sweep is done, more are left",
        where=connection.run_link(run_id),
        why=ending.headline or "more trials were asked for than one run can hold",
        fix="start the same again, or all parts in a row: --batches",
    )


def _check_batches(connection: Connection, arguments: dict[str, Any], timeout_s: float) -> None:
    store_uri = str(arguments.get(STORE) or connection.target.store)
    endings = Endings(connection)
    if not timeout_s:
        raise ConfigError(
            "--batches waits for each part", where="--timeout", why="it is 0", fix="leave --timeout out, or raise it"
        )
    if not endings.readable(store_uri):
        raise ConfigError(
            "--batches cannot know whether a part is left",
            where=STORE,
            why=endings.unreadable.get(store_uri, "no store is named, and what a run came to is read there"),
            fix=f"{STORE}=s3://bucket/prefix, or --store URI; the credentials come from the environment",
        )


def _start(connection: Connection, form: Form, arguments: dict[str, Any]) -> str:
    import kfp_server_api as api

    target, client, experiment_id = connection.target, connection.client, connection.experiment_id()
    check_account(connection)
    job = connection.ask(
        lambda: client._create_job_config(
            params=arguments,
            pipeline_package_path=str(form.path),
            pipeline_id=None,
            version_id=None,
            enable_caching=None,
            cache_key=None,
            pipeline_root=target.pipeline_root,
        )
    )
    body = api.V2beta1Run(
        experiment_id=experiment_id,
        display_name=target.run_name or f"{form.name} {datetime.now():%Y-%m-%d %H-%M-%S}",
        description=form.arguments_mark(arguments, target.pipeline_root),
        pipeline_spec=job.pipeline_spec,
        runtime_config=job.runtime_config,
        service_account=target.service_account,
    )
    run = connection.ask(lambda: client._run_api.run_service_create_run(run=body))
    print(f"run {run.run_id}: {connection.run_link(run.run_id)}", flush=True)
    return str(run.run_id)


def check_account(connection: Connection) -> None:
    """Refuse an account that the namespace lacks, where kubectl surely looks at this cluster and may look."""
    account, context = connection.target.service_account, connection.target.kube_context
    if account and context and Kubectl(connection.namespace, context).lacks_account(account):
        raise ConfigError(
            f"--service-account {account} cannot work here",
            where=f"namespace {connection.namespace}",
            why="there is no such account; no pod of the run would start",
            fix=account_fix(connection.namespace, account),
        )


def _runs(connection: Connection) -> Iterator[Any]:
    """Every run that may be looked at, newest first."""
    yield from connection.pages(
        "runs", connection.client.list_runs, sort_by="created_at desc", namespace=connection.asked_namespace
    )


def _running(connection: Connection, mark: str) -> Any:
    """A run of the same pipeline with the same arguments that goes on."""
    for number, run in enumerate(_runs(connection)):
        if number >= MOST_LOOKED_AT:
            return None
        if run.description == mark and state_of(run) not in ENDED and not was_canceled(run):
            return run
    return None


def is_ours(run: Any) -> bool:
    """Whether a run is of one of our pipelines: by its mark, its pipeline's name, or the name a schedule gives."""
    spec = run.pipeline_spec if isinstance(run.pipeline_spec, dict) else {}
    name = (spec.get("pipeline_spec") or spec).get("pipelineInfo", {}).get("name", "")
    named = str(run.display_name or "").startswith((*PIPELINE_NAMES, "tendon-"))
    return str(run.description or "").startswith("tendon ") or name in PIPELINE_NAMES or named


def list_runs(connection: Connection, *, most: int) -> None:
    """Print our runs, newest first: state, age, name, what they came to."""
    endings, orphans = Endings(connection), Orphans(connection)
    rows: list[tuple[str, ...]] = []
    for run in _runs(connection):
        if len(rows) == most:
            break
        if is_ours(run):
            rows.append(_row(run, endings, orphans))
    for row in rows:
        print(f"{row[0]:36}  {row[1]:9}  {row[2]:>6}  {row[3]}" + (f"  | {row[4]}" if row[4] else ""))
    for store_uri, why in endings.unreadable.items():
        print(f"note: {store_uri} cannot be read, so the engine's word stands: {why}", file=sys.stderr)
    if not rows:
        print("no run of our pipelines; another namespace may have some: --namespace")


class Orphans:
    """Runs whose schedule was deleted: that kills them without their exit task, and their state stays as it was."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.schedules: set[str] | None = None  # asked for when a run needs it

    def has(self, run: Any) -> bool:
        """Whether this run is one."""
        if not run.recurring_run_id or state_of(run) in ENDED:
            return False
        if self.schedules is None:
            call, namespace = self.connection.client.list_recurring_runs, self.connection.asked_namespace
            pages = self.connection.pages("recurring_runs", call, namespace=namespace)
            self.schedules = {str(one.recurring_run_id) for one in pages}
        return run.recurring_run_id not in self.schedules


def _row(run: Any, endings: Endings, orphans: Orphans) -> tuple[str, ...]:
    ending = Ending(DIED, "its schedule was deleted") if orphans.has(run) else endings.of(run)
    outcome = f"{ending.word}: {ending.headline}".removesuffix(": ") if ending else ""
    return run.run_id, state_of(run), _age(run.created_at), str(run.display_name), outcome


def _age(moment: datetime | None) -> str:
    """How long ago, in the largest unit that fits."""
    if moment is None:
        return "?"
    seconds = max(0, (datetime.now(timezone.utc) - moment).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def cancel(connection: Connection, run_id: str) -> None:
    """Ask a run to stop: its steps save and leave. One that is stopping or has ended stays as it is."""
    run = connection.run(run_id)
    if not _is_over(run):
        try:
            connection.ask(lambda: connection.client.terminate_run(run_id))
            run.state = "CANCELING"
        except Refused as error:
            run = connection.run(run_id)  # it ended, or somebody else stopped it, in between
            if error.status != 400 or not _is_over(run):
                raise
    state = state_of(run)
    words = "stopping" if state == "CANCELING" else f"{state}: it has ended, there is nothing to stop"
    print(f"run {run_id}: {words}: {connection.run_link(run_id)}", flush=True)


def _is_over(run: Any) -> bool:
    return state_of(run) in ENDED or state_of(run) == "CANCELING"


def logs(connection: Connection, run_id: str, *, step: str) -> None:
    """Print the log of each pod of a step, or the command for it where the text cannot be had."""
    run = connection.run(run_id)
    tasks = [task for task in tasks_of(run) if step or not task.step.endswith("-driver")]
    chosen = [task for task in tasks if step in ("", task.step, task.name)]
    if step and not chosen:
        names = ", ".join(dict.fromkeys(task.name for task in tasks)) or "none yet"
        raise ConfigError(
            f"the run has no step {step}", where="--step", why=f"its steps are {names}", fix="name one of them"
        )
    kubectl = Kubectl(connection.namespace, connection.target.kube_context)
    pods = [pod.name for pod in kubectl.pods(run_id)]
    print(f"run {run_id}: {state_of(run)}: {connection.run_link(run_id)}")
    if not chosen:
        print(f"no step has started; all pods: {log_command(kubectl, run_id, '')}")
    missing = sum(not _log_of(kubectl, run_id, task, pods) for task in chosen)
    if missing:
        print(f"{missing} logs are not here: no kubectl that may look, or the pods are gone (they live an hour)")


def _log_of(kubectl: Kubectl, run_id: str, task: Task, pods: list[str]) -> bool:
    """Print one pod's part; whether its text was there."""
    pod = next((name for name in pods if task.pod_id and name.endswith(f"-{task.pod_id}")), "")
    print(f"\n== {task.name}: {task.state}\n   {log_command(kubectl, run_id, task.pod_id, pod)}", flush=True)
    text = kubectl.ask("logs", pod, "-c", "main") if pod else None
    if text:
        print(text.rstrip())
    return text is not None


def open_page(connection: Connection, run_id: str) -> None:
    """Print the page of a run, and open it where there is a display."""
    connection.run(run_id)
    link = connection.run_link(run_id)
    print(link, flush=True)
    display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    if display or sys.platform in ("darwin", "win32"):
        webbrowser.open(link)


def watch(connection: Connection, run_id: str, *, timeout_s: float, poll_s: float) -> None:
    """Wait for a run that is going on; the same errors as submit."""
    print(f"run {run_id}: {connection.run_link(run_id)}", flush=True)
    ending = wait(connection, run_id, timeout_s=timeout_s, poll_s=poll_s)
    if ending.word == PART_DONE:
        raise _part_done(connection, run_id, ending)
