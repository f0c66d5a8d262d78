"""What ``tendon view`` does with an address: find out what is there, then serve its page, write it, or write a recording."""

from __future__ import annotations

import logging
import sys
import webbrowser
from argparse import Namespace
from pathlib import Path

from tendon.answers import finish, tell
from tendon.data.manifest import KEY
from tendon.errors import ConfigError, StorageError
from tendon.registry.catalogue import KINDS
from tendon.registry.names import find
from tendon.storage import open_store
from tendon.storage.many import folders
from tendon.storage.outputs import refuse_existing, writing
from tendon.view.site import INDEX, THIS, Site

log = logging.getLogger(__name__)


def view(arguments: Namespace) -> int:
    """Serve, write or record."""
    row = find(arguments.uri, KINDS, arguments.store_uri or "")
    uri = (row.uri if row is not None else arguments.uri).rstrip("/")
    site = site_of(uri)
    if arguments.rrd:
        return _record(arguments, site, uri)
    if arguments.out:
        refuse_existing(arguments.out, force=arguments.force)
        page = written(site, arguments.episodes)
        with writing(arguments.out):
            Path(arguments.out).write_text(page, encoding="utf-8")
        return finish(arguments, "written", {"page": arguments.out, "bytes": len(page.encode())}, "")
    return _serve(arguments, site)


def site_of(uri: str) -> Site:
    """The pages of an address: a dataset, an evaluation, a trial, a run, or a store.

    Raises:
        ConfigError: nothing that can be looked at is there.
    """
    from tendon.view.episodes import DatasetView
    from tendon.view.rollouts import EvaluationView

    store = open_store(uri)
    for kind, page in (("runs", "run"), ("trials", "trial")):
        above, slash, tail = uri.rpartition(f"/{kind}/")
        if slash and "/" not in tail and next(iter(store.list()), None) is not None:
            return Site(f"{page}/{tail}/", above)
    if store.head(KEY) is not None:
        above, slash, tail = uri.rpartition("/datasets/")
        return Site(f"dataset/{tail}/", above) if tail.count("/") == 1 else Site(THIS, only=DatasetView(uri))
    if store.head("episodes.jsonl") is not None:
        above, slash, tail = uri.rpartition("/trials/")
        key, _, name = tail.partition("/evaluations/")
        in_store = slash and name and "/" not in f"{key}{name}"
        return Site(f"evaluation/{key}/{name}/", above) if in_store else Site(THIS, only=EvaluationView(uri))
    if set(folders(store, "")) & set(KINDS):
        return Site(INDEX, uri)
    raise ConfigError(
        "there is nothing to look at",
        where=uri,
        why="it is no dataset (manifest.json), no evaluation (episodes.jsonl), no trial, no run and no store",
        fix="tendon ls lists what a store holds; demonstrations are looked at once they are converted: tendon convert",
    )


def written(site: Site, episodes: list[str]) -> str:
    """One page with everything inside."""
    from tendon.view.episodes import DatasetView

    first = site.first
    if isinstance(first, str):
        return first
    return first.written(episodes) if isinstance(first, DatasetView) else first.written()


def _record(arguments: Namespace, site: Site, uri: str) -> int:
    from tendon.view.episodes import DatasetView
    from tendon.view.rerun_file import write_recording

    first = site.first
    if not isinstance(first, DatasetView):
        raise ConfigError(
            "only episodes of a dataset are recorded for Rerun",
            where=uri,
            why="--rrd was given, and this is no dataset",
            fix="name a dataset: tendon ls datasets",
        )
    refuse_existing(arguments.rrd, force=arguments.force)
    with writing(arguments.rrd):
        count = write_recording(first, arguments.episodes, arguments.rrd)
    return finish(arguments, "recorded", {"recording": arguments.rrd, "episodes": count}, f"rerun {arguments.rrd}")


def _serve(arguments: Namespace, site: Site) -> int:
    from tendon.view.server import HOST, Server

    try:
        server = Server(site, arguments.port)
    except OSError as error:
        raise StorageError(
            f"port {arguments.port} of {HOST} cannot be used",
            where="--port",
            why=error.strerror or str(error),
            fix="leave --port away: any that is free is taken",
        ) from error
    address = f"{server.address}{site.start}"
    log.info("view: %s", address)
    tell(arguments, f"{address}\nCtrl-C ends it.", address=address)
    sys.stdout.flush()
    if not arguments.no_browser and sys.stdout.isatty():
        webbrowser.open(address)
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        return 0
    finally:
        server.server_close()
    return 0
