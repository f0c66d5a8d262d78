"""Everything CI does with a Kubeflow: start a run, publish a version, keep a schedule, wait, stop. Through kfp's client.

    python pipelines/submit.py submit --host URL evaluate_episodes=100 policy_config="experiment=lift_bc"
    python pipelines/submit.py publish | schedule --cron "0 0 3 * * *" KEY=VALUE... | list
    python pipelines/submit.py watch RUN | cancel RUN | logs RUN --step train | open RUN

``--pipeline`` is policy (default), retrain, sweep, evaluate, or a compiled YAML. Arguments are checked against its form, and the
configuration is composed, before anything is sent. A token is read from KF_PIPELINES_TOKEN.
Exit codes: 0 succeeded or nothing to do, 1 failed or stopped, 2 wrong arguments, 4 unreachable or refused,
75 still running, or a part of a sweep is done and more are left.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "src")) if path not in sys.path]

from pipelines.client import runs  # noqa: E402 - after the path, like what follows
from pipelines.client.connection import Target, connect  # noqa: E402
from pipelines.client.cron import cron_problems  # noqa: E402
from pipelines.client.forms import Form, prefixed_images, typed  # noqa: E402
from pipelines.client.publishing import publish  # noqa: E402
from pipelines.client.schedules import schedule  # noqa: E402
from pipelines.client.watching import SUBMIT  # noqa: E402
from tendon.errors import ConfigError, Problem, leave_for_words, reported  # noqa: E402

STOPPED = f"{SUBMIT} list  shows whether a run was started; what was started goes on"
MAKES_OR_LISTS = ("submit", "schedule", "list")  # in a namespace, which has to be named on a multi-user Kubeflow


class Parser(argparse.ArgumentParser):
    """Its mistakes are four lines with the nearest word that exists."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and leave."""
        leave_for_words(message, self)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="submit.py" if __name__ == "__main__" else "tendon submit", description="Run the pipelines on a Kubeflow."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    common = argparse.ArgumentParser(add_help=False)
    endpoint = os.environ.get("KF_PIPELINES_ENDPOINT", "")
    common.add_argument("--host", default=endpoint, help="endpoint (KF_PIPELINES_ENDPOINT)")
    common.add_argument("--namespace", help="profile namespace of a multi-user Kubeflow")
    common.add_argument("--experiment", default="tendon", help="experiment that gets the run")
    common.add_argument("--service-account", help="service account of the pods")
    common.add_argument("--store", default="", help="where to read endings when a run names no store of its own")
    common.add_argument(
        "--kube-context",
        default="",
        help="kubectl's context of this very cluster, to look at pods; default: kubectl's current one",
    )
    waiting = argparse.ArgumentParser(add_help=False)
    waiting.add_argument("--timeout", type=float, default=86400, help="seconds to wait; 0 does not wait")
    waiting.add_argument("--poll", type=float, default=5, help="seconds between two looks at the run")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--pipeline", default="policy", help="policy, retrain, sweep, evaluate, or a compiled YAML")
    images = argparse.ArgumentParser(add_help=False)
    images.add_argument("--image-prefix", default="", help="registry of the images that are not named: REGISTRY/")
    arguments = argparse.ArgumentParser(add_help=False)
    arguments.add_argument("arguments", nargs="*", metavar="KEY=VALUE", help="parameters of the pipeline")
    one_run = argparse.ArgumentParser(add_help=False)
    one_run.add_argument("run", help="its id: the end of its page's address")

    verb = verbs.add_parser(
        "submit", parents=[common, named, images, waiting, arguments], help="start a run, wait for its end"
    )
    verb.add_argument("--run-name", help="name shown in the UI")
    verb.add_argument("--pipeline-root", help="where Kubeflow keeps the artifacts of the run")
    verb.add_argument("--again", action="store_true", help="start it although the same one is running")
    verb.add_argument("--batches", action="store_true", help="start part after part until the whole sweep is done")
    verbs.add_parser("publish", parents=[common, named, images], help="upload the YAML as a version, if it changed")
    verb = verbs.add_parser("schedule", parents=[common, images, arguments], help="keep one recurring run of this name")
    verb.add_argument("--pipeline", default="retrain", help="policy, retrain, sweep, evaluate, or a compiled YAML")
    verb.add_argument("--name", default="tendon-retrain", help="name of the schedule")
    verb.add_argument("--cron", default="0 0 3 * * *", help="six fields, seconds first (UTC)")
    verb.add_argument("--disabled", action="store_true", help="make it, but do not let it start")
    verbs.add_parser("watch", parents=[common, waiting, one_run], help="wait for a run")
    verbs.add_parser("cancel", parents=[common, one_run], help="stop a run")
    verb = verbs.add_parser("list", parents=[common], help="our runs, newest first, and what they came to")
    verb.add_argument("--most", type=int, default=20, help="how many")
    verb = verbs.add_parser("logs", parents=[common, one_run], help="the logs of a run, or the commands for them")
    verb.add_argument("--step", default="", help="one step: train, or train [2] of a loop")
    verbs.add_parser("open", parents=[common, one_run], help="the page of a run")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line and run it; exits with the codes above."""
    options = _parser().parse_args(words)
    with reported(options.verb, again=STOPPED):
        form, arguments = _checked(options)
        target = Target(
            options.host.rstrip("/"),
            options.experiment,
            options.namespace,
            getattr(options, "run_name", None),
            options.service_account,
            getattr(options, "pipeline_root", None),
            options.store,
            options.kube_context,
        )
        _act(options, target, form, arguments)
    return 0


def _checked(options: argparse.Namespace) -> tuple[Form | None, dict[str, object]]:
    """The form and the arguments; every problem of the command line at once, before anything is sent."""
    problems: list[Problem] = []
    form, arguments = None, {}
    try:
        form = Form.of(options.pipeline) if hasattr(options, "pipeline") else None
        if form and hasattr(options, "arguments"):
            arguments = typed(options.arguments, form)
            arguments |= prefixed_images(form, arguments, options.image_prefix)
    except ConfigError as error:
        problems += error.problems
    if options.verb == "schedule":
        problems += cron_problems(options.cron)
    if not options.host:
        fix = "--host URL, or export KF_PIPELINES_ENDPOINT=URL"
        problems.append(Problem("no Kubeflow is named", "--host", "it is empty", fix))
    elif not options.host.startswith(("http://", "https://")):
        fix = f"--host https://{options.host}, or http:// for a port-forward"
        problems.append(Problem(f"{options.host} is no web address", "--host", "it has no http:// or https://", fix))
    if problems:
        raise ConfigError.of(problems)
    return form, arguments


def _act(options: argparse.Namespace, target: Target, form: Form | None, arguments: dict[str, object]) -> None:
    connection = connect(target, for_new=options.verb in MAKES_OR_LISTS)
    waiting = {"timeout_s": getattr(options, "timeout", 0), "poll_s": getattr(options, "poll", 5)}
    if options.verb == "watch":
        runs.watch(connection, options.run, **waiting)
    elif options.verb == "cancel":
        runs.cancel(connection, options.run)
    elif options.verb == "list":
        runs.list_runs(connection, most=options.most)
    elif options.verb == "logs":
        runs.logs(connection, options.run, step=options.step)
    elif options.verb == "open":
        runs.open_page(connection, options.run)
    elif form and options.verb == "submit":
        runs.submit(connection, form, arguments, again=options.again, batches=options.batches, **waiting)
    elif form and options.verb == "publish":
        publish(connection, form, image_prefix=options.image_prefix)
    elif form:
        enabled = not options.disabled
        schedule(connection, form, arguments, name=options.name, cron=options.cron, enabled=enabled)


if __name__ == "__main__":
    sys.exit(main())
