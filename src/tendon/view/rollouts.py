"""The episodes of an evaluation for the page: a table of all, the clips that were kept, and any other drawn on demand.

What is drawn on demand is played again in its simulator from the actions that the evaluation kept beside its table.
"""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tendon.errors import TendonError
from tendon.evaluate.confidence import describe_rate
from tendon.evaluate.table import Evaluation, load_evaluation
from tendon.storage import open_store
from tendon.storage.many import folders
from tendon.view.curves import lines, stride_of
from tendon.view.shell import Embedded, NothingThere, Reply, as_json, shell

if TYPE_CHECKING:
    from tendon.evaluate.rollout import EpisodeResult

CLIPS_KEPT = 16
FILE_BYTES = 24 << 20  # of clips in a page that is a file


class EvaluationView:
    """A table of episodes as a page."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.table: Evaluation = load_evaluation(uri)
        env = self.table.summary.get("env", {})
        self.title = f"Evaluation: {env.get('task', '')}, {self.table.summary.get('block', '')} seeds"
        self._rows = {int(row["seed"]): row for row in self.table.rows}
        self._clips: OrderedDict[int, bytes] = OrderedDict()
        self._drawing = threading.Lock()

    def page(self, trail: Sequence[tuple[str, str]] = ()) -> str:
        """The page that asks the server."""
        return shell("evaluation", self.title, self.uri, trail)

    def answer(self, path: str) -> Reply:
        """``api/evaluation``, ``api/rollout/SEED``, ``api/clip/SEED``, ``clip/SEED.mp4``."""
        first, _, rest = path.partition("/")
        if path == "api/evaluation":
            return as_json(self.describe())
        kind, _, name = rest.partition("/") if first == "api" else (first, "", rest.removesuffix(".mp4"))
        if not name.isdigit() or int(name) not in self._rows:
            raise NothingThere(f"the table has no seed {name}")
        if kind == "rollout":
            return as_json(self.rollout(int(name)))
        if kind != "clip":
            raise NothingThere(path)
        content = self.clip(int(name))
        return as_json({"bytes": len(content)}) if first == "api" else Reply(content, "video/mp4")

    def describe(self) -> dict[str, Any]:
        """The table, and what stands over it."""
        summary = self.table.summary
        low, high = summary["interval_95"]
        rows = [
            {
                "seed": row["seed"],
                "status": row["status"],
                "steps": row["steps"],
                "sum_reward": row["sum_reward"],
                "max_reward": row.get("max_reward"),
                "wall_s": row.get("wall_s", 0.0),
                "attempt": row.get("attempt", 1),
                "error": row.get("error", ""),
                "told": ", then ".join(row.get("instructions", ())),
                "video": bool(row.get("video")),
                "can_draw": int(row["seed"]) in self._kept,
            }
            for row in self.table.rows
        ]
        sentence = describe_rate(summary["successes"], summary["n"], summary["crashed"], summary["block"])
        return {
            "rate": summary["success_rate"],
            "low": low,
            "high": high,
            "sentence": f"success rate {sentence}",
            "facts": list(self._facts()),
            "note": summary.get("seeds_note", ""),
            "rows": rows,
        }

    def _facts(self) -> Iterator[tuple[str, str]]:
        summary = self.table.summary
        env, seeds = summary.get("env", {}), summary["seeds"]
        yield "simulator", str(env.get("simulator", ""))
        yield "seeds", f"{seeds['first']} to {seeds['first'] + seeds['count'] - 1}"
        yield "mean steps", f"{summary['mean_steps']:.1f}"
        yield "mean sum of rewards", f"{summary['mean_sum_reward']:.3g}"
        yield "took", f"{summary['wall_s']:.0f} s"
        yield "policy", str(summary.get("policy_digest", ""))
        yield "success", str(summary.get("success_rule", ""))

    @cached_property
    def _kept(self) -> dict[int, list[str]]:
        """Where the actions of each seed are kept, by seed: ``rows/QUESTION/NNNNNN.json`` beside the table."""
        store = open_store(self.uri.rstrip("/").rpartition("/")[0])
        first = int(self.table.summary["seeds"]["first"])
        keys: dict[int, list[str]] = {}
        for question in folders(store, "rows/"):
            for info in store.list(f"rows/{question}/"):
                number = info.key.rpartition("/")[2].removesuffix(".json")
                if number.isdigit() and first + int(number) in self._rows:
                    keys.setdefault(first + int(number), []).append(info.key)
        return keys

    def result(self, seed: int) -> EpisodeResult:
        """An episode with its actions: the kept row that ended as the table says, since several policies may have been asked."""
        from tendon.evaluate.kept_rows import parse_row

        row, store = self._rows[seed], open_store(self.uri.rstrip("/").rpartition("/")[0])
        for key in self._kept.get(seed, ()):
            kept = parse_row(store.read(key))
            if kept is not None and (kept.seed, kept.status, kept.steps) == (seed, row["status"], row["steps"]):
                return kept
        raise NothingThere(f"the actions of seed {seed} were not kept")

    def rollout(self, seed: int) -> dict[str, Any]:
        """Actions and rewards over the steps."""
        found = self.result(seed)
        parts = {"action": found.actions, "reward": np.asarray(found.rewards)}
        features = [lines(key, values) for key, values in parts.items() if len(values)]
        return {"length": found.steps, "stride": stride_of(found.steps), "features": features}

    def clip(self, seed: int) -> bytes:
        """The recording of an episode, or one that is drawn now."""
        recorded = self._rows[seed].get("video")
        if recorded:
            return open_store(self.uri).read(recorded)
        with self._drawing:
            if seed not in self._clips:
                self._clips[seed] = self._drawn(seed)
                while len(self._clips) > CLIPS_KEPT:
                    self._clips.popitem(last=False)
        return self._clips[seed]

    def _drawn(self, seed: int) -> bytes:
        from tendon.config.schema import EnvConfig, EvalConfig
        from tendon.evaluate.rollout import drawing_guest, render_episode
        from tendon.evaluate.video import encode_clip

        result = self.result(seed)
        env = EnvConfig(**{key: _tuples(value) for key, value in self.table.summary["env"].items()})
        eval = EvalConfig(1, 1, 1, max_crashed=0.0, step_timeout_s=60.0, start_timeout_s=180.0)
        try:
            with drawing_guest(env, eval) as guest:
                replay = render_episode(guest, seed, result.actions, recorded=result.status)
        except TendonError as error:
            raise NothingThere(f"it cannot be drawn here: {error.problems[0].what}; {error.problems[0].fix}") from error
        if not replay.frames:
            raise NothingThere(f"it cannot be drawn here: {replay.note}")
        return encode_clip(replay.frames, env.fps)

    def written(self) -> str:
        """The page with its recorded clips inside, while they fit."""
        about = self.describe()
        answers: dict[str, Any] = {"api/evaluation": about}
        media: dict[str, str] = {}
        room = FILE_BYTES
        for row in about["rows"]:
            content = self.clip(row["seed"]) if row["video"] else b""
            row["video"] = bool(content) and len(content) * 4 // 3 <= room
            if row["video"]:
                room -= len(content) * 4 // 3
                media[f"clip/{row['seed']}.mp4"] = f"data:video/mp4;base64,{base64.b64encode(content).decode()}"
            if row["can_draw"] and room > 0:
                answers[f"api/rollout/{row['seed']}"] = self.rollout(row["seed"])
        return shell("evaluation", self.title, self.uri, embedded=Embedded(answers, media))


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
