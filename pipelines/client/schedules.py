"""A schedule that exists exactly once, and that is this one. Kubeflow cannot change a schedule, so one that differs is replaced.

Deleting a recurring run kills the run that it started (its owner), without the exit task. So: the new one is made first,
then the old one is paused, and it is deleted only when none of its runs goes on; else at the next call.
"""

from __future__ import annotations

from typing import Any

from pipelines.client.connection import ENDED, Connection, state_of
from pipelines.client.cron import cron_problems
from pipelines.client.forms import Form
from pipelines.client.runs import check_account
from tendon.errors import ConfigError


def schedule(
    connection: Connection, form: Form, arguments: dict[str, Any], *, name: str, cron: str, enabled: bool = True
) -> str:
    """Make sure that there is one schedule of this name, and that it is this one; its id.

    It starts enabled, runs one at a time, and does not catch up on ticks that were missed.
    """
    if problems := cron_problems(cron):
        raise ConfigError.of(problems)
    client, target = connection.client, connection.target
    check_account(connection)
    experiment_id = connection.experiment_id()
    mark = form.arguments_mark(arguments, cron, enabled, target.service_account)
    found = [
        one
        for one in connection.pages("recurring_runs", client.list_recurring_runs, experiment_id=experiment_id)
        if one.display_name == name
    ]
    mine = next((one for one in found if one.description == mark), None)
    if mine is None:
        identifier = _made(connection, form, arguments, experiment_id, name, cron, enabled, mark)
        words = "replaced" if found else "made"
    else:
        identifier, words = str(mine.recurring_run_id), "there already"
        if enabled and _is_paused(mine):
            connection.ask(lambda: client.enable_recurring_run(identifier))
            words = "there already, it was paused and is enabled again"
    for one in found:
        if one.recurring_run_id != identifier:
            _retire(connection, one, experiment_id)
    print(f"schedule {name}: {words}, {connection.link('recurringrun/details', identifier)}", flush=True)
    return identifier


def _made(
    connection: Connection,
    form: Form,
    arguments: dict[str, Any],
    experiment_id: str,
    name: str,
    cron: str,
    enabled: bool,
    mark: str,
) -> str:
    made = connection.ask(
        lambda: connection.client.create_recurring_run(
            experiment_id=experiment_id,
            job_name=name,
            description=mark,
            cron_expression=cron,
            max_concurrency=1,
            no_catchup=True,
            params=arguments,
            pipeline_package_path=str(form.path),
            pipeline_root=connection.target.pipeline_root,
            enabled=enabled,
            service_account=connection.target.service_account,
        )
    )
    return str(made.recurring_run_id)


def _is_paused(recurring: Any) -> bool:
    words = {str(word or "").rpartition(".")[2].upper() for word in (recurring.mode, recurring.status)}
    return bool(words & {"DISABLE", "DISABLED"})


def _retire(connection: Connection, recurring: Any, experiment_id: str) -> None:
    """Pause a schedule that was replaced, and delete it when that kills nobody."""
    identifier = str(recurring.recurring_run_id)
    if not _is_paused(recurring):
        connection.ask(lambda: connection.client.disable_recurring_run(identifier))
    if running := _run_in_progress(connection, identifier, experiment_id):
        print(
            f"schedule {recurring.display_name}: the old one is paused; its run {running} goes on, and deleting it now "
            "would kill that run: the next call of schedule deletes it",
            flush=True,
        )
        return
    connection.ask(lambda: connection.client.delete_recurring_run(identifier))


def _run_in_progress(connection: Connection, identifier: str, experiment_id: str) -> str:
    runs = connection.pages("runs", connection.client.list_runs, experiment_id=experiment_id, sort_by="created_at desc")
    for run in runs:
        if run.recurring_run_id == identifier and state_of(run) not in ENDED:
            return str(run.run_id)
    return ""
