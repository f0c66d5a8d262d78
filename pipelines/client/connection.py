"""The API of a Kubeflow: one connection, answers or four lines, listings over all their pages.

kfp's client logs a traceback for every failed attempt; within ``ask`` it is silent, and what went wrong is said once.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tendon.errors import ConfigError, Problem, StorageError

TOKEN = "KF_PIPELINES_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 - the same; Kubeflow's own name for it
INSTALLED_IN = "KF_PIPELINES_NAMESPACE"  # where a single-user Kubeflow lives, if not in kubeflow
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
AWAY = (502, 503, 504)  # what a proxy says when nobody is behind it
MOST_MESSAGE = 300
NO_ACCOUNT = re.compile(r"error looking up service account ([\w.-]+)/([\w.-]+)")


@dataclass(frozen=True)
class Target:
    """Which Kubeflow, and under what names."""

    host: str
    experiment: str = "tendon"
    namespace: str | None = None
    run_name: str | None = None
    service_account: str | None = None
    pipeline_root: str | None = None
    store: str = ""  # where endings are read when the run's own arguments name no store
    kube_context: str = ""  # kubectl's; given, it is trusted to be this very cluster


@dataclass(frozen=True)
class Connection:
    """A Kubeflow that answers."""

    target: Target
    client: Any
    multi_user: bool

    @property
    def namespace(self) -> str:
        """Where the pods of the runs are."""
        if self.multi_user:
            return self.target.namespace or self.client.get_user_namespace() or ""
        return self.target.namespace or os.environ.get(INSTALLED_IN, "kubeflow")

    @property
    def asked_namespace(self) -> str | None:
        """What the API wants to hear: a single-user install has no namespaces."""
        return self.namespace or None if self.multi_user else None

    def ask(self, call: Callable[[], Any]) -> Any:
        """The answer of the API, or four lines about why there is none."""
        return answer(self.target.host, call)

    def pages(self, items: str, call: Any, **query: Any) -> Iterator[Any]:
        """Everything that a listing has, over all its pages."""
        token = ""
        while True:
            page = self.ask(lambda token=token: call(page_token=token, page_size=100, **query))  # type: ignore[misc]
            yield from getattr(page, items) or ()
            token = page.next_page_token or ""
            if not token:
                return

    def run(self, run_id: str) -> Any:
        """A run as it is now."""
        return self.ask(lambda: self.client.get_run(run_id))

    def experiment_id(self) -> str:
        """The experiment of the target, in the namespace of the runs; made when it is not there."""
        made = self.ask(lambda: self.client.create_experiment(self.target.experiment, namespace=self.asked_namespace))
        return str(made.experiment_id)

    def link(self, kind: str, identifier: str) -> str:
        """The page of a run, a pipeline or a schedule."""
        return f"{os.environ.get('KF_PIPELINES_UI_ENDPOINT') or self.target.host}/#/{kind}/{identifier}"

    def run_link(self, run_id: str) -> str:
        """The page of a run."""
        return self.link("runs/details", run_id)


def connect(target: Target, *, for_new: bool = False) -> Connection:
    """A connection to a Kubeflow that answers; ``for_new``: something will be made in a namespace or listed there.

    Raises:
        StorageError: It cannot be reached, or refuses.
        ConfigError: The namespace cannot work there.
    """
    import kfp_server_api as api

    configuration = api.Configuration(host=target.host)
    if token := _token():
        configuration.api_key, configuration.api_key_prefix = {"authorization": token}, {"authorization": "Bearer"}
    health = answer(target.host, lambda: _health(api.HealthzServiceApi(api.ApiClient(configuration))))
    client = answer(target.host, lambda: _kfp_client(target, token))
    connection = Connection(target, client, bool(health.get("multi_user")))
    if problem := _wrong_namespace(connection, for_new):
        raise ConfigError.of([problem])
    return connection


def _health(service: Any) -> dict[str, Any]:
    """The health of the install; ValueError for a page that is none."""
    text = service.healthz_service_get_healthz(_preload_content=False).data
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError(str(fields))
    return fields


def _kfp_client(target: Target, token: str) -> Any:
    import kfp

    return kfp.Client(host=target.host, namespace=target.namespace or "kubeflow", existing_token=token or None)


def _token() -> str:
    """From the environment, or the one that Kubernetes mounts for Kubeflow."""
    path = Path(os.environ.get(TOKEN_FILE, "/var/run/secrets/kubeflow/pipelines/token"))
    return os.environ.get(TOKEN) or (path.read_text(encoding="utf-8").strip() if path.is_file() else "")


def _wrong_namespace(connection: Connection, for_new: bool) -> Problem | None:
    wanted, home = connection.target.namespace, os.environ.get(INSTALLED_IN, "kubeflow")
    if not connection.multi_user and wanted and wanted != home:
        return Problem(
            f"--namespace {wanted} cannot work here",
            connection.target.host,
            f"this Kubeflow is a single-user install: it would ignore it and run in its own namespace, {home}",
            f"leave --namespace out; the account and the settings belong into {home} (k8s/overlays/kubeflow)",
        )
    if connection.multi_user and for_new and not connection.namespace:
        return Problem(
            "no namespace is named",
            "--namespace",
            "this Kubeflow is a multi-user install: experiments and runs belong to a profile's namespace",
            "--namespace PROFILE",
        )
    return None


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Within: no log lines, warnings or prints of the libraries."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def answer(host: str, call: Callable[[], Any]) -> Any:
    """What the API answers, or four lines about why it does not."""
    import kfp_server_api
    import urllib3

    try:
        with silence():
            return call()
    except kfp_server_api.ApiException as error:
        raise _refused(host, error.status, error.body or error.reason) from None
    except (urllib3.exceptions.HTTPError, OSError, TimeoutError) as error:
        why = str(getattr(error, "reason", None) or error)[:MOST_MESSAGE]
        raise Unreachable(
            "Kubeflow cannot be reached", where=host, why=why, fix="check --host, the port-forward and the network"
        ) from None
    except (AttributeError, ValueError) as error:
        raise StorageError(
            "this is not the API of Kubeflow Pipelines",
            where=host,
            why=f"its answer cannot be read: {str(error)[:MOST_MESSAGE]}",
            fix="--host is the address of the UI or of ml-pipeline, without a path; a login page in front wants a token",
        ) from None


class Unreachable(StorageError):  # noqa: N818 - reads better where it is raised
    """Nobody answered; asking again may help."""


class Refused(StorageError):  # noqa: N818
    """The API said no; ``message`` is its own."""

    status: int
    message: str


def _refused(host: str, status: int, body: Any) -> StorageError:
    message = message_of(body)
    if status in AWAY:
        why, fix = f"HTTP {status}: {message[:MOST_MESSAGE]}", "its API server is starting, or gone; ask again later"
        return Unreachable("Kubeflow cannot be reached", where=host, why=why, fix=fix)
    fix = "see the message; the server's log has more"
    if status in (401, 403):
        fix = f"put a token into {TOKEN}" if status == 401 else f"ask for the right, or put another token into {TOKEN}"
    if "multi-user mode" in message:
        fix = "--namespace PROFILE"
    if missing := NO_ACCOUNT.search(message):
        fix = account_fix(*missing.groups())
    error = Refused("Kubeflow refused", where=host, why=f"HTTP {status}: {message[:MOST_MESSAGE]}", fix=fix)
    error.status, error.message = status, message
    return error


def account_fix(namespace: str, account: str) -> str:
    """How an account that is not there gets there."""
    overlay = "kubeflow" if namespace == "kubeflow" else "profile"
    first = (
        "" if overlay == "kubeflow" else f"write namespace: {namespace} into k8s/overlays/profile/kustomization.yaml, "
    )
    return (
        f"{first}kubectl apply -k k8s/overlays/{overlay}  (makes {account} in {namespace}), or leave --service-account out: "
        "then the install's own account runs the steps"
    )


def message_of(body: Any) -> str:
    """The sentence in an error body of the API."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    with contextlib.suppress(ValueError):
        fields = json.loads(text)
        if isinstance(fields, dict):
            text = str(fields.get("message") or fields.get("error_message") or fields.get("error") or text)
    return " ".join(text.split())


def state_of(run: Any) -> str:
    """The engine's word for where a run or a task is."""
    return str(getattr(run, "state", None) or "PENDING").rpartition(".")[2].upper()


def was_canceled(run: Any) -> bool:
    """Whether somebody stopped it: a run that was terminated ends FAILED, only its history tells."""
    history = {state_of(entry) for entry in run.state_history or ()}
    return bool({"CANCELING", "CANCELED"} & (history | {state_of(run)}))
