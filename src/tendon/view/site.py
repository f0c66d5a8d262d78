"""Which page is at which address of the local server: one view at the root, and whatever else of its store it links to."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from html import escape

from tendon.errors import TendonError
from tendon.storage import join, open_store
from tendon.storage.many import folders
from tendon.view.episodes import DatasetView
from tendon.view.rollouts import EvaluationView
from tendon.view.runs import StoreView
from tendon.view.shell import NothingThere, Reply, View

KEPT = 6  # views that stay open
INDEX, THIS = "index/", "this/"
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; media-src data:"
)


class Site:
    """Pages by their paths, which end with a slash; ``/`` leads to the first one."""

    def __init__(self, start: str, store_uri: str = "", only: View | None = None) -> None:
        """``only``: the page at THIS, of something that lies in no store."""
        self.start, self.store_uri, self._only = start, store_uri, only
        self._views: OrderedDict[str, View | str] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def first(self) -> View | str:
        """The page that opens first."""
        return self._view(self.start)

    def answer(self, path: str) -> Reply:
        """The answer to a path of the server.

        Raises:
            NothingThere: no page, or nothing below it, is there.
        """
        plain = path.removeprefix("/")
        if not plain:
            return Reply(b"", "text/html", 302, f"/{self.start}")
        place = next((found[0] for rule in PLACES if (found := rule.match(plain))), "")
        if not place or any(part in ("", ".", "..") for part in place.rstrip("/").split("/")):
            raise NothingThere(plain)
        view, rest = self._view(place), plain[len(place) :]
        if not isinstance(view, str):
            return Reply(view.page(self._trail(place)).encode(), "text/html") if not rest else view.answer(rest)
        if rest:
            raise NothingThere(plain)
        return Reply(view.encode(), "text/html", policy=REPORT_POLICY)

    def _trail(self, place: str) -> list[tuple[str, str]]:
        """What stands above a page."""
        if not self.store_uri or place == INDEX:
            return []
        trial = [("trial", f"/trial/{place.split('/')[1]}/")] if place.startswith("evaluation/") else []
        return [("all runs", f"/{INDEX}"), *trial]

    def _view(self, place: str) -> View | str:
        with self._lock:
            if place not in self._views or place.startswith(("run/", "trial/")):  # these may have gone on
                self._views[place] = self._opened(place)
            self._views.move_to_end(place)
            while len(self._views) > KEPT:
                self._views.popitem(last=False)
            return self._views[place]

    def _opened(self, place: str) -> View | str:
        if place == THIS and self._only is not None:
            return self._only
        for rule, (key, opened) in PLACES.items():
            found = rule.fullmatch(place)
            if found and self.store_uri:
                return opened(join(self.store_uri, key.format(*found.groups())) if key else self.store_uri)
        raise NothingThere(place)


def run_page(uri: str) -> str:
    """The report of a run, with links to its data and its evaluations; a page that says so where there is no report."""
    from tendon.runs.plan import load_plan

    run = load_plan(uri)
    store = open_store(uri)
    dataset = run.dataset_uri.rstrip("/").rpartition("/datasets/")[2]
    links = [("all runs", f"/{INDEX}"), ("the data", f"/dataset/{dataset}/")]
    links += [(f"trial {trial.name}", f"/trial/{trial.run_key}/") for trial in run.trials]
    if store.head("report.html") is None:
        return _linked(_bare(f"Run {run.run_id}", "This run has no report yet."), links)
    return _linked(store.read("report.html").decode(), links)


def trial_page(uri: str) -> str:
    """How a training went, with links to its evaluations."""
    from tendon.report.training_page import render_training

    store, key = open_store(uri), uri.rstrip("/").rpartition("/")[2]
    names = [name for name in folders(store, "evaluations/") if name != "rows"]
    links = [("all runs", f"/{INDEX}")]
    links += [(f"evaluation {name.partition('-')[0]} {name[-6:]}", f"/evaluation/{key}/{name}/") for name in names]
    try:
        page = render_training(uri)
    except TendonError as error:
        page = _bare(f"Trial {key}", str(error))
    return _linked(page, links)


def _linked(page: str, links: list[tuple[str, str]]) -> str:
    """A page with links above everything else: to look closer."""
    items = " &middot; ".join(f'<a href="{escape(href, quote=True)}">{escape(name)}</a>' for name, href in links)
    return (
        page.replace("<main>\n", f'<main>\n<p class="small" id="closer">Look closer: {items}</p>\n', 1)
        if items
        else page
    )


def _bare(title: str, words: str) -> str:
    from tendon.report.page import closing, opening
    from tendon.report.summary import ReportInputs

    return f"{opening(ReportInputs(title))}<section><p class=lede>{escape(words)}</p></section>{closing()}"


PLACES: dict[re.Pattern[str], tuple[str, Callable[[str], View | str]]] = {  # path: key in the store, what opens it
    re.compile(re.escape(INDEX)): ("", StoreView),
    re.compile(r"dataset/([^/]+)/([^/]+)/"): ("datasets/{}/{}", DatasetView),
    re.compile(r"evaluation/([^/]+)/([^/]+)/"): ("trials/{}/evaluations/{}", EvaluationView),
    re.compile(r"run/([^/]+)/"): ("runs/{}", run_page),
    re.compile(r"trial/([^/]+)/"): ("trials/{}", trial_page),
    re.compile(re.escape(THIS)): ("", StoreView),  # of what lies in no store
}
