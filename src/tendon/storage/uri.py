"""URIs of stores: a folder (plain path or ``file://``) or ``s3://bucket/prefix``."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from tendon.errors import ConfigError, nearest
from tendon.storage.store import Store

SCHEMES = ("s3", "file")
S3_ALIASES = ("s3", "minio")  # Kubeflow's default pipeline root is minio://mlpipeline/v2/artifacts


def join(uri: str, *parts: str) -> str:
    """The URI of something deeper: ``join("s3://b/x", "runs", "7")`` is ``s3://b/x/runs/7``."""
    tail = [part.strip("/") for part in parts if part.strip("/")]
    head = uri if uri.endswith("://") else uri.rstrip("/")
    if not tail:
        return head or uri
    return "/".join([head, *tail]) if not head.endswith("://") else head + "/".join(tail)


def scheme_of(uri: str) -> str:
    """``s3`` (also for ``minio://``), ``file`` (also for a plain path), or whatever stands before ``://``."""
    head, found, _ = uri.partition("://")
    if head.lower() in S3_ALIASES and found:
        return "s3"
    return head.lower() if found else "file"


def split_trial(uri: str) -> tuple[str, str]:
    """The store that a trial's address is in and what follows its folder of trials; empty for another address.

    A bucket of the name "trials" is not a store's folder of them.

    Example:
        >>> split_trial("s3://bucket/store/trials/0123/bundle")
        ('s3://bucket/store', '0123/bundle')
        >>> split_trial("s3://trials/0123/bundle")
        ('', '')
    """
    scheme, double, path = uri.rpartition("://")
    head, found, tail = path.rpartition("/trials/")
    return (scheme + double + head, tail) if found and head else ("", "")


def local_path(uri: str) -> Path:
    """The path of a plain path or ``file://`` URI, absolute."""
    if uri.lower().startswith("file://"):
        uri = unquote(uri[len("file://") :].removeprefix("localhost"))
    return Path(uri).expanduser().absolute()


def open_store(uri: str) -> Store:
    """A store rooted at ``uri``; nothing is touched or connected to before the first call.

    Raises:
        ConfigError: the URI is empty or its scheme is unknown.
    """
    scheme = scheme_of(uri)
    if uri and scheme == "file":
        from tendon.storage.local import LocalStore

        return LocalStore(local_path(uri))
    if scheme == "s3":
        from tendon.storage.s3 import S3Store

        return S3Store.of(uri)
    near = nearest(scheme, SCHEMES, 0.3) or "s3"
    raise ConfigError(
        "a storage address is not understood" if uri else "a storage address is empty",
        where=repr(uri),
        why=f"its scheme is {scheme}://; a folder or s3://bucket/prefix is needed",
        fix=f"write a path, or {near}://...",
    )
