"""The store of a run that names none: the bucket of the pipeline root, with what a stock Kubeflow Pipelines has for it.

A stock install keeps artifacts at ``minio://mlpipeline/v2/artifacts``. The keys are in the secret
``mlpipeline-minio-artifact`` of the run's namespace, which the compiled pipelines map to TENDON_STOCK_ACCESS_KEY and
TENDON_STOCK_SECRET_KEY; the services are ``seaweedfs`` or ``minio-service``. Anything configured for AWS comes first,
and no bucket but that of the pipeline root is ever sent these keys. Called by s3_client.py, steps.py and doctor.py.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from tendon.errors import ConfigError, StorageError, TendonError
from tendon.storage.uri import join, scheme_of

log = logging.getLogger(__name__)

STOCK_SECRET = "mlpipeline-minio-artifact"  # noqa: S105 - the name of a secret
STORE_SECRET = "tendon-store"  # noqa: S105
ACCESS_KEY, SECRET_KEY = "TENDON_STOCK_ACCESS_KEY", "TENDON_STOCK_SECRET_KEY"
PIPELINE_ROOT = "TENDON_PIPELINE_ROOT"  # where artifacts of this run go; processes started by this one inherit it
DEFAULT_ROOT = "minio://mlpipeline/v2/artifacts"
SERVICES = ("seaweedfs", "minio-service")  # in the order in which they are tried
INSTALL_NAMESPACE = "kubeflow"
PORT = "9000"
CONNECT_S = 2.0
ROUNDS = 3  # over all services, a second apart: a service may be starting
# What says that credentials or an endpoint were chosen on purpose; profile files are looked at besides.
EXPLICIT = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
BOTH_WAYS = (
    f"either give data_store_uri=s3://BUCKET/PREFIX and its keys in the secret {STORE_SECRET} of the run's namespace, "
    f"or let the install's secret {STOCK_SECRET} (accesskey, secretkey) and its object store be reachable from there"
)


@dataclass(frozen=True)
class StockAccess:
    """Endpoint and keys of a stock install's object store; the keys are never printed."""

    endpoint: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


def store_beside(artifact_uri: str) -> str:
    """The store of a run that names none: a folder beside the pipeline root of the engine.

    Example:
        >>> store_beside("minio://mlpipeline/v2/artifacts/policy/7/plan/trial_table")
        's3://mlpipeline/tendon'
    """
    if not artifact_uri:
        raise ConfigError(
            "no store is given",
            where="data_store_uri",
            why="it is empty",
            fix="data_store_uri=outputs/run or data_store_uri=s3://bucket/prefix",
        )
    scheme = scheme_of(artifact_uri)
    if scheme not in ("s3", "file"):
        raise ConfigError(
            "the pipeline root cannot hold the store of a run",
            where=f"data_store_uri (empty), pipeline root {artifact_uri.partition('?')[0]}",
            why=f"it is a {scheme}:// address, and a store is an s3:// prefix or a folder that all pods mount",
            fix=f"data_store_uri=s3://BUCKET/PREFIX, with its keys in the secret {STORE_SECRET}; "
            f"Google's storage speaks S3 at AWS_ENDPOINT_URL=https://storage.googleapis.com with HMAC keys",
        )
    if scheme == "s3":
        os.environ[PIPELINE_ROOT] = artifact_uri
        artifact_uri = "s3://" + artifact_uri.partition("?")[0].partition("://")[2]
    marker = "/v2/artifacts/"
    root = artifact_uri.split(marker)[0] if marker in artifact_uri else artifact_uri.rsplit("/", 4)[0]
    return join(root, "tendon")


def stock_access(bucket: str) -> StockAccess | None:
    """How to reach the pipeline root's bucket in a stock install; None for other buckets and where AWS is configured.

    Raises:
        StorageError: the keys are there, and none of the services answers.
    """
    access_key, secret_key = os.environ.get(ACCESS_KEY, ""), os.environ.get(SECRET_KEY, "")
    if not (access_key and secret_key) or bucket != root_bucket() or is_configured():
        return None
    endpoint = _reachable(tuple(stock_endpoints()), bucket)
    _log_once(bucket, endpoint)
    return StockAccess(endpoint, access_key, secret_key)


def root_bucket() -> str:
    """The bucket of the pipeline root, empty where the root is not ``minio://`` (the install's keys are not for it)."""
    scheme, _, rest = pipeline_root().partition("://")
    return rest.partition("/")[0].partition("?")[0] if scheme.lower() == "minio" else ""


def pipeline_root() -> str:
    """Where the artifacts of this run go: as the engine told this process or its parent, else a stock install's default."""
    named = os.environ.get(PIPELINE_ROOT) or _root_of_executor(tuple(sys.argv))
    if named:
        os.environ[PIPELINE_ROOT] = named  # a process that trains or rolls out has other arguments, and inherits this
    return named or DEFAULT_ROOT


def is_configured() -> bool:
    """Whether somebody chose S3 credentials or an endpoint: by variables, a profile, a web identity or a container role."""
    if any(os.environ.get(name) for name in EXPLICIT):
        return True
    import botocore.session

    session = botocore.session.get_session()
    chosen = session.get_scoped_config()
    if chosen.get("endpoint_url") or chosen.get("services"):
        return True
    resolver = session.get_component("credential_provider")
    resolver.remove("iam-role")  # a node's role is nobody's choice, and asking for it takes seconds
    return resolver.load_credentials() is not None


def stock_endpoints() -> list[str]:
    """Addresses to try, best first: Kubernetes' own variables (services of this namespace), then names in ``kubeflow``."""
    endpoints = []
    for service in SERVICES:
        variable = f"{service.upper().replace('-', '_')}_SERVICE"
        host = os.environ.get(f"{variable}_HOST", "")
        if host:
            shown = f"[{host}]" if ":" in host else host
            endpoints += [f"http://{shown}:{port}" for port in _s3_ports(variable)]
    return [*endpoints, *(f"http://{service}.{INSTALL_NAMESPACE}:{PORT}" for service in SERVICES)]


def _s3_ports(variable: str) -> list[str]:
    """The ports of a service that speak S3. The plain variable is the first port, which for ``seaweedfs`` is the IAM API."""
    named = [os.environ.get(f"{variable}_PORT_{name}", "") for name in ("HTTP_S3_COMPAT", "HTTP_S3")]
    if any(named):
        return [port for port in named if port]
    return [os.environ.get(f"{variable}_PORT") or PORT]


def with_both_ways(error: TendonError, bucket: str) -> TendonError:
    """A storage error whose fix names what a run in a cluster may give, where it is about the pipeline root's bucket."""
    if bucket != root_bucket() or not is_in_cluster():
        return error
    problem = error.problems[0]
    why = problem.why
    if not is_configured():
        keys = "is there" if os.environ.get(ACCESS_KEY) else "is not in this namespace"
        why += f"; no data_store_uri with keys of its own was given, and the secret {STOCK_SECRET} {keys}"
    return type(error)(problem.what, where=problem.where, why=why, fix=BOTH_WAYS)


def is_in_cluster() -> bool:
    """Whether this process runs in a pod."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


@functools.cache
def _reachable(endpoints: tuple[str, ...], bucket: str) -> str:
    """The first that takes a connection; found once per process."""
    for attempt in range(ROUNDS):
        if attempt:
            time.sleep(1.0)
        for endpoint in endpoints:
            if _takes_connections(endpoint):
                return endpoint
    raise StorageError(
        "the install's object store cannot be reached",
        where=f"s3://{bucket}, the bucket of the pipeline root",
        why=f"none of {', '.join(endpoints)} takes a connection",
        fix=BOTH_WAYS,
    )


def _takes_connections(endpoint: str) -> bool:
    host, _, port = endpoint.partition("://")[2].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S):
            return True
    except (OSError, ValueError):
        return False


@functools.cache
def _log_once(bucket: str, endpoint: str) -> None:
    log.info("store: the pipeline root's bucket %s at %s with the install's own secret", bucket, endpoint)


@functools.cache
def _root_of_executor(arguments: tuple[str, ...]) -> str:
    """An artifact's address in what the engine gave the executor of this pod, empty where there is none."""
    for index, word in enumerate(arguments):
        name, _, value = word.partition("=")
        if name == "--executor_input":
            try:
                given = json.loads(value or arguments[index + 1])
            except (IndexError, ValueError):
                return ""
            return next((uri for side in ("outputs", "inputs") for uri in _uris(given, side)), "")
    return ""


def _uris(executor_input: Any, side: str) -> list[str]:
    try:
        lists = executor_input.get(side, {}).get("artifacts", {}).values()
        return [artifact["uri"] for each in lists for artifact in each.get("artifacts", ()) if "://" in artifact["uri"]]
    except (AttributeError, KeyError, TypeError):
        return []
