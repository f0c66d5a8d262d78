"""Everything CI does with a Kubeflow: start a run, publish a version, keep a schedule, wait, stop. Through kfp's client.

    python pipelines/submit.py submit --host URL episodes=100 config="experiment=lift_bc"
    python pipelines/submit.py publish | schedule --cron "0 0 3 * * *" KEY=VALUE... | watch RUN | cancel RUN

``--pipeline`` is policy (default), retrain, evaluate, or a compiled YAML. Arguments are checked and typed against its form
before anything is sent. A token is read from KF_PIPELINES_TOKEN.
Exit codes: 0 succeeded, 1 failed or canceled, 2 wrong arguments, 4 unreachable or refused, 75 still running.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "src")) if path not in sys.path]

from components.images import VERSION  # noqa: E402
from pipelines.parameters import parameters_of  # noqa: E402 - after the path, like what follows
from tendon.errors import ConfigError, Interrupted, Problem, StorageError, TendonError, reported  # noqa: E402

COMPILED = ROOT / "pipelines" / "compiled"
SHORT = {"policy": "policy_pipeline", "retrain": "retrain_pipeline", "evaluate": "evaluate_pipeline"}
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")  # kfp's own waiting never returns from CANCELED
TOKEN = "KF_PIPELINES_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True)
class Target:
    """Which Kubeflow, and under what names."""

    host: str
    experiment: str
    namespace: str | None
    run_name: str | None
    service_account: str | None
    pipeline_root: str | None


@dataclass(frozen=True)
class Form:
    """A compiled pipeline and what may be given to it: name to (type, help)."""

    path: Path
    name: str
    fields: dict[str, tuple[type, str]]

    @classmethod
    def of(cls, pipeline: str) -> Form:
        """The form of one of our pipelines by its short name, or of any compiled YAML."""
        import yaml

        path = COMPILED / f"{SHORT[pipeline]}.yaml" if pipeline in SHORT else Path(pipeline)
        try:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            spec = next(yaml.load_all(path.read_text(encoding="utf-8"), loader))
            name, inputs = spec["pipelineInfo"]["name"], spec["root"].get("inputDefinitions", {}).get("parameters", {})
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise ConfigError(
                "the pipeline cannot be read",
                where=str(path),
                why=str(error),
                fix=f"--pipeline {' | '.join(SHORT)} | FILE",
            ) from None
        kinds = {
            "STRING": str,
            "NUMBER_INTEGER": int,
            "NUMBER_DOUBLE": float,
            "BOOLEAN": bool,
            "LIST": list,
            "STRUCT": dict,
        }
        told = {p.name: p.help for p in parameters_of(SHORT[pipeline])} if pipeline in SHORT else {}
        fields = {key: (kinds[found["parameterType"]], told.get(key, "")) for key, found in inputs.items()}
        return cls(path, name, fields)

    def digest(self) -> str:
        """Changes when the YAML does."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]


def typed(words: Sequence[str], form: Form | None = None) -> dict[str, Any]:
    """``key=value`` words as typed arguments; every problem at once."""
    table = (form or Form.of("policy")).fields
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for word in words:
        name, separator, text = word.partition("=")
        if not separator or name not in table:
            near = difflib.get_close_matches(name, table, n=1)
            fix = f"did you mean {near[0]}=...?" if near else f"one of {', '.join(table)}"
            problems.append(
                Problem(
                    f"no such parameter: {word!r}", "arguments", "arguments are KEY=VALUE of the pipeline's form", fix
                )
            )
            continue
        kind, told = table[name]
        try:
            values[name] = _value(kind, text)
        except ValueError:
            wanted = {
                int: "a whole number",
                float: "a number",
                bool: "true or false",
                list: "a JSON list",
                dict: "a JSON object",
            }[kind]
            problems.append(
                Problem(f"{name}={text} is not {wanted}", "arguments", f"{name} is {wanted}", f"{name}=VALUE; {told}")
            )
    if problems:
        raise ConfigError.of(problems)
    return values


def _value(kind: type, text: str) -> Any:
    if kind is str:
        return text
    value = json.loads(text)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(text)
    return value


def submit(
    target: Target, arguments: dict[str, Any], *, pipeline: Path, timeout_s: float = 0, poll_s: float = 5
) -> str:
    """Start a run and wait for its end; the link to it. ``timeout_s`` 0 does not wait.

    Raises:
        StorageError: The API cannot be reached, or refuses.
        Interrupted: The run goes on, the waiting ended.
        TendonError: The run ended otherwise than well.
    """
    client = _client(target)
    run = _asked(
        target,
        lambda: client.create_run_from_pipeline_package(
            str(pipeline),
            arguments=arguments,
            run_name=target.run_name,
            experiment_name=target.experiment,
            namespace=target.namespace,
            pipeline_root=target.pipeline_root,
            service_account=target.service_account,
        ),
    )
    link = _link(target, "runs/details", run.run_id)
    print(f"run {run.run_id}: {link}", flush=True)
    if timeout_s:
        _wait(target, client, run.run_id, link, timeout_s, poll_s)
    return link


def watch(target: Target, run_id: str, *, timeout_s: float, poll_s: float) -> None:
    """Wait for a run that is going on; the same errors as submit."""
    link = _link(target, "runs/details", run_id)
    print(f"run {run_id}: {link}", flush=True)
    _wait(target, _client(target), run_id, link, timeout_s, poll_s)


def cancel(target: Target, run_id: str) -> None:
    """Ask a run to stop: its steps save and leave. One that has ended stays as it is."""
    client = _client(target)
    state = _state(_asked(target, lambda: client.get_run(run_id)))
    if state not in ENDED:
        _asked(target, lambda: client.terminate_run(run_id))
        state = "stopping"
    print(f"run {run_id}: {state}: {_link(target, 'runs/details', run_id)}", flush=True)


def publish(target: Target, form: Form) -> str:
    """Make sure that Kubeflow has this very YAML as a version of its pipeline; the version's id. New only when it changed."""
    import kfp_server_api as api

    client, version_name = _client(target), f"{VERSION}-{form.digest()}"
    pipeline_id = _asked(target, lambda: client.get_pipeline_id(form.name))
    if pipeline_id is None:
        fresh = api.V2beta1Pipeline(display_name=form.name, name=form.name, namespace=target.namespace)
        pipeline_id = _asked(target, lambda: client._pipelines_api.pipeline_service_create_pipeline(fresh)).pipeline_id
    for version in _pages(target, "pipeline_versions", client.list_pipeline_versions, pipeline_id=pipeline_id):
        if version.display_name == version_name:
            print(f"{form.name} {version_name}: there already, {_link(target, 'pipelines/details', pipeline_id)}")
            return str(version.pipeline_version_id)
    made = _asked(
        target,
        lambda: client.upload_pipeline_version(
            str(form.path), pipeline_version_name=version_name, pipeline_id=pipeline_id
        ),
    )
    print(f"{form.name} {version_name}: published, {_link(target, 'pipelines/details', pipeline_id)}", flush=True)
    return str(made.pipeline_version_id)


def schedule(
    target: Target, form: Form, arguments: dict[str, Any], *, name: str, cron: str, enabled: bool = True
) -> str:
    """Make sure that there is exactly one schedule of this name, and that it is this one; its id.

    A schedule cannot be changed in Kubeflow, so one that differs is replaced. It starts enabled, runs one at a time, and
    does not catch up on ticks that were missed.
    """
    if len(cron.split()) != 6:
        raise ConfigError(
            f"{cron!r} is not a schedule",
            where="--cron",
            why="Kubeflow wants six fields, seconds first",
            fix='--cron "0 0 3 * * *"  (every night at three)',
        )
    client = _client(target)
    experiment = _asked(target, lambda: client.create_experiment(target.experiment, namespace=target.namespace))
    wanted = json.dumps([form.digest(), arguments, cron, enabled, target.service_account], sort_keys=True)
    mark = f"tendon {hashlib.sha256(wanted.encode()).hexdigest()[:16]}"
    found = [
        one
        for one in _pages(target, "recurring_runs", client.list_recurring_runs, experiment_id=experiment.experiment_id)
        if one.display_name == name
    ]
    same = [one for one in found if one.description == mark]
    for one in found:
        if one not in same[:1]:
            _asked(target, lambda one=one: client.delete_recurring_run(one.recurring_run_id))  # type: ignore[misc]
    if same:
        print(f"schedule {name}: there already, {_link(target, 'recurringrun/details', same[0].recurring_run_id)}")
        return str(same[0].recurring_run_id)
    made = _asked(
        target,
        lambda: client.create_recurring_run(
            experiment_id=experiment.experiment_id,
            job_name=name,
            description=mark,
            cron_expression=cron,
            max_concurrency=1,
            no_catchup=True,
            params=arguments,
            pipeline_package_path=str(form.path),
            enabled=enabled,
            service_account=target.service_account,
        ),
    )
    done = "replaced" if found else "made"
    print(f"schedule {name}: {done}, {_link(target, 'recurringrun/details', made.recurring_run_id)}", flush=True)
    return str(made.recurring_run_id)


def _pages(target: Target, items: str, ask: Any, **query: Any) -> Iterator[Any]:
    """Everything that a listing has, over all its pages."""
    token = ""
    while True:
        page = _asked(target, lambda token=token: ask(page_token=token, page_size=100, **query))  # type: ignore[misc]
        yield from getattr(page, items) or ()
        token = page.next_page_token or ""
        if not token:
            return


def _link(target: Target, kind: str, identifier: str) -> str:
    return f"{os.environ.get('KF_PIPELINES_UI_ENDPOINT') or target.host}/#/{kind}/{identifier}"


def _state(run: Any) -> str:
    return str(run.state or "PENDING").rpartition(".")[2].upper()


def _wait(target: Target, client: Any, run_id: str, link: str, timeout_s: float, poll_s: float) -> None:
    end, shown = time.monotonic() + timeout_s, ""
    while True:
        run = _asked(target, lambda: client.get_run(run_id))
        state = _state(run)
        if state != shown:
            print(f"run {run_id}: {state}", flush=True)
            shown = state
        if state == "SUCCEEDED":
            return
        if state in ENDED:
            why = (
                getattr(run.error, "message", "") or "the failing step is red in the graph, its log has the four lines"
            )
            raise TendonError(
                f"the run ended as {state}",
                where=link,
                why=why,
                fix="open the link, then start it again: finished steps are kept",
            )
        if time.monotonic() > end:
            raise Interrupted(
                f"the run is still {state}",
                where=link,
                why=f"{timeout_s:.0f} s are over",
                fix="it goes on; look at the link",
            )
        time.sleep(poll_s)


def _client(target: Target) -> Any:
    import warnings

    import kfp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return _asked(
            target,
            lambda: kfp.Client(
                host=target.host, namespace=target.namespace or "kubeflow", existing_token=os.environ.get(TOKEN)
            ),
        )


def _asked(target: Target, ask: Any) -> Any:
    """The answer of the API, or four lines about why there is none."""
    import kfp_server_api
    import urllib3

    try:
        return ask()
    except kfp_server_api.ApiException as error:
        fix = (
            f"put a token into {TOKEN}" if error.status in (401, 403) else "see the message; the server's log has more"
        )
        message = " ".join(str(error.body or error.reason).split())[:300]
        raise StorageError(
            "Kubeflow refused", where=target.host, why=f"HTTP {error.status}: {message}", fix=fix
        ) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise StorageError(
            "Kubeflow cannot be reached", where=target.host, why=str(error)[:300], fix="check --host and the network"
        ) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="submit.py", description="Run the pipelines on a Kubeflow.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    common = argparse.ArgumentParser(add_help=False)
    endpoint = os.environ.get("KF_PIPELINES_ENDPOINT", "")
    common.add_argument("--host", default=endpoint, help="endpoint (KF_PIPELINES_ENDPOINT)")
    common.add_argument("--namespace", help="profile namespace of a multi-user Kubeflow")
    common.add_argument("--experiment", default="tendon", help="experiment that gets the run")
    common.add_argument("--service-account", help="service account of the pods")
    waiting = argparse.ArgumentParser(add_help=False)
    waiting.add_argument("--timeout", type=float, default=86400, help="seconds to wait; 0 does not wait")
    waiting.add_argument("--poll", type=float, default=5, help="seconds between two looks at the run")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--pipeline", default="policy", help="policy, retrain, evaluate, or a compiled YAML")
    arguments = argparse.ArgumentParser(add_help=False)
    arguments.add_argument("arguments", nargs="*", metavar="KEY=VALUE", help="parameters of the pipeline")

    verb = verbs.add_parser("submit", parents=[common, named, waiting, arguments], help="start a run, wait for its end")
    verb.add_argument("--run-name", help="name shown in the UI")
    verb.add_argument("--pipeline-root", help="where Kubeflow keeps the artifacts of the run")
    verbs.add_parser("publish", parents=[common, named], help="upload the YAML as a version, if it changed")
    verb = verbs.add_parser("schedule", parents=[common, arguments], help="keep one recurring run of this name")
    verb.add_argument("--pipeline", default="retrain", help="policy, retrain, evaluate, or a compiled YAML")
    verb.add_argument("--name", default="tendon-retrain", help="name of the schedule")
    verb.add_argument("--cron", default="0 0 3 * * *", help="six fields, seconds first (UTC)")
    verb.add_argument("--disabled", action="store_true", help="make it, but do not let it start")
    verbs.add_parser("watch", parents=[common, waiting], help="wait for a run").add_argument("run")
    verbs.add_parser("cancel", parents=[common], help="stop a run").add_argument("run")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line and run it; exits with the codes above."""
    options = _parser().parse_args(words)
    with reported(options.verb):
        form = Form.of(options.pipeline) if hasattr(options, "pipeline") else None
        arguments = typed(options.arguments, form) if hasattr(options, "arguments") else {}
        if not options.host:
            raise ConfigError(
                "no Kubeflow is named",
                where="--host",
                why="it is empty",
                fix="--host URL, or export KF_PIPELINES_ENDPOINT=URL",
            )
        target = Target(
            options.host.rstrip("/"),
            options.experiment,
            options.namespace,
            getattr(options, "run_name", None),
            options.service_account,
            getattr(options, "pipeline_root", None),
        )
        _act(options, target, form, arguments)
    return 0


def _act(options: argparse.Namespace, target: Target, form: Form | None, arguments: dict[str, Any]) -> None:
    if options.verb == "watch":
        watch(target, options.run, timeout_s=options.timeout, poll_s=options.poll)
    elif options.verb == "cancel":
        cancel(target, options.run)
    elif form and options.verb == "submit":
        submit(target, arguments, pipeline=form.path, timeout_s=options.timeout, poll_s=options.poll)
    elif form and options.verb == "publish":
        publish(target, form)
    elif form:
        schedule(target, form, arguments, name=options.name, cron=options.cron, enabled=not options.disabled)


if __name__ == "__main__":
    sys.exit(main())
