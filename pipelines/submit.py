"""Start the pipeline on a Kubeflow, wait for it, and leave with the exit code that CI needs.

    python pipelines/submit.py submit --host https://kubeflow.example episodes=100 config="experiment=lift_bc"

Arguments are checked and typed against parameters.py before anything is sent. A token is read from KF_PIPELINES_TOKEN.
Exit codes: 0 succeeded, 1 failed or canceled, 2 wrong arguments, 4 unreachable or refused, 75 still running.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "src")) if path not in sys.path]

from pipelines.parameters import PARAMETERS, Parameter  # noqa: E402 - after the path, like what follows
from tendon.errors import ConfigError, Interrupted, Problem, StorageError, TendonError, reported  # noqa: E402

COMPILED = ROOT / "pipelines" / "compiled" / "policy_pipeline.yaml"
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


def typed(words: Sequence[str]) -> dict[str, Any]:
    """``key=value`` words as typed arguments; every problem at once."""
    table = {parameter.name: parameter for parameter in PARAMETERS}
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
        try:
            values[name] = _value(table[name], text)
        except ValueError:
            wanted = {int: "a whole number", bool: "true or false", list: "a JSON list"}[table[name].type]
            problems.append(
                Problem(
                    f"{name}={text} is not {wanted}",
                    "arguments",
                    f"{name} is {wanted}",
                    f"{name}=VALUE; {table[name].help}",
                )
            )
    if problems:
        raise ConfigError.of(problems)
    return values


def _value(parameter: Parameter, text: str) -> Any:
    if parameter.type is str:
        return text
    value = json.loads(text)
    if type(value) is not parameter.type:
        raise ValueError(text)
    return value


def submit(
    target: Target, arguments: dict[str, Any], *, pipeline: Path = COMPILED, timeout_s: float = 0, poll_s: float = 5
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
    link = f"{os.environ.get('KF_PIPELINES_UI_ENDPOINT') or target.host}/#/runs/details/{run.run_id}"
    print(f"run {run.run_id}: {link}", flush=True)
    if timeout_s:
        _wait(target, client, run.run_id, link, timeout_s, poll_s)
    return link


def _wait(target: Target, client: Any, run_id: str, link: str, timeout_s: float, poll_s: float) -> None:
    end, shown = time.monotonic() + timeout_s, ""
    while True:
        run = _asked(target, lambda: client.get_run(run_id))
        state = str(run.state or "PENDING").rpartition(".")[2].upper()
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


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line and run it; exits with the codes above."""
    parser = argparse.ArgumentParser(prog="submit.py", description="Run the pipeline on a Kubeflow.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("submit", help="start a run and wait for its end")
    verb.add_argument(
        "--host", default=os.environ.get("KF_PIPELINES_ENDPOINT", ""), help="endpoint (KF_PIPELINES_ENDPOINT)"
    )
    verb.add_argument("--experiment", default="tendon", help="experiment that gets the run")
    verb.add_argument("--namespace", help="profile namespace of a multi-user Kubeflow")
    verb.add_argument("--run-name", help="name shown in the UI")
    verb.add_argument("--service-account", help="service account of the pods")
    verb.add_argument("--pipeline-root", help="where Kubeflow keeps the artifacts of the run")
    verb.add_argument("--pipeline", type=Path, default=COMPILED, help="compiled YAML")
    verb.add_argument("--timeout", type=float, default=86400, help="seconds to wait; 0 does not wait")
    verb.add_argument("--poll", type=float, default=5, help="seconds between two looks at the run")
    verb.add_argument("arguments", nargs="*", metavar="KEY=VALUE", help="parameters of the pipeline")
    options = parser.parse_args(words)
    with reported("submit"):
        arguments = typed(options.arguments)
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
            options.run_name,
            options.service_account,
            options.pipeline_root,
        )
        submit(target, arguments, pipeline=options.pipeline, timeout_s=options.timeout, poll_s=options.poll)
    return 0


if __name__ == "__main__":
    sys.exit(main())
