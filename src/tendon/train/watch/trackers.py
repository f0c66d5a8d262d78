"""Trackers that hear each line of metrics.jsonl: Weights & Biases, TensorBoard, Katib. All are callbacks.

A line's number is its step in W&B, so a resumed run, whose repeated lines are the same, adds nothing twice.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tendon.config.compose import to_dict
from tendon.config.schema import TrainConfig
from tendon.errors import MissingDependency
from tendon.storage.json_values import read_note
from tendon.storage.local import LocalStore
from tendon.storage.store import Store
from tendon.train.watch.callbacks import Callback, RunContext

logger = logging.getLogger(__name__)
WANDB_ID = "wandb_run.json"
SERVICE_WAIT_S = 300.0  # a busy node may take minutes to start W&B's process; its own limit of 30 s ends the training


def make_trackers(config: TrainConfig) -> list[Callback]:
    """The trackers that a configuration asks for.

    Raises:
        MissingDependency: the library of one is not installed.
    """
    trackers: list[Callback] = [WandbRun(config)] if config.wandb.enable else []
    trackers += [TensorBoard()] if config.track.tensorboard else []
    return trackers + ([MetricLines(config.track.metric_lines)] if config.track.metric_lines else [])


class WandbRun(Callback):
    """One W&B run per trial; its id is kept in the trial's folder. Without a key the run is an offline one."""

    def __init__(self, config: TrainConfig) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb", "wandb.enable") from None
        self._wandb, self._config = wandb, config
        self._run: Any = None
        self._folder = Path()

    def on_start(self, run: RunContext, lines: Sequence[Mapping[str, Any]]) -> None:
        """LeRobot's run: its tags and job type."""
        name, options = run.trial_uri.rstrip("/").rsplit("/", 1)[-1], self._config.wandb
        dataset = self._config.data.uri.rstrip("/").rsplit("/", 1)[-1]
        tags = [f"policy:{self._config.policy.name}", f"dataset:{dataset}", f"env:{self._config.env.name}"]
        offline = not (os.environ.get("WANDB_API_KEY") or _has_login())
        mode: Any = os.environ.get("WANDB_MODE") or ("offline" if offline else "online")
        self._folder = _folder(run.store, "wandb")
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._wandb.setup(self._wandb.Settings(x_service_wait=SERVICE_WAIT_S))
        self._run = self._wandb.init(
            id=_run_id(run.store),
            project=options.project,
            entity=options.entity or None,
            name=name,
            notes=options.notes or None,
            tags=[tag[:64] for tag in [*tags, f"seed:{self._config.seed}"]],
            dir=str(self._folder.parent),
            config=to_dict(self._config),
            job_type="train_eval",
            save_code=False,
            resume=None if offline else "allow",
            mode=mode,
            settings=self._wandb.Settings(console="off", silent=True),
        )
        logger.info("Track this run --> %s", self._run.url or f"wandb sync {self._run.dir}")

    def on_line(self, run: RunContext, index: int, line: Mapping[str, Any]) -> None:
        """Numbers only, as LeRobot does."""
        self._run.log({key: value for key, value in line.items() if isinstance(value, (int, float))}, step=index)

    def on_end(self, run: RunContext, *, finished: bool) -> None:
        """Close it; its folder goes beside the metrics when the trial is not on this machine."""
        self._run.finish(exit_code=0 if finished else 1)
        _bring(run.store, "wandb", self._folder)


class TensorBoard(Callback):
    """Event files in the trial's folder ``tensorboard``; scalars are named as in metrics.jsonl."""

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard", "track.tensorboard") from None
        self._make: Any = SummaryWriter
        self._writer: Any = None
        self._folder = Path()

    def on_start(self, run: RunContext, lines: Sequence[Mapping[str, Any]]) -> None:
        """Steps that an earlier attempt wrote and that are run again are struck out by TensorBoard itself."""
        self._folder = _folder(run.store, "tensorboard")
        purge = int(lines[-1]["step"]) + 1 if lines else 0
        self._writer = self._make(str(self._folder), purge_step=purge)

    def on_line(self, run: RunContext, index: int, line: Mapping[str, Any]) -> None:
        """One scalar per number."""
        for key, value in line.items():
            if key != "step" and isinstance(value, (int, float)):
                self._writer.add_scalar(key, value, line["step"])

    def on_save(self, run: RunContext, step: int, reasons: Mapping[str, float]) -> None:
        """What a checkpoint knows, the event file knows too."""
        self._writer.flush()

    def on_end(self, run: RunContext, *, finished: bool) -> None:
        """Close it, and bring it to the store."""
        self._writer.close()
        _bring(run.store, "tensorboard", self._folder)


class MetricLines(Callback):
    """``2026-01-31T12:00:00Z loss=0.1`` for Katib's collectors, which read standard output or a file; one metric a line."""

    def __init__(self, target: str) -> None:
        self._target = target

    def on_line(self, run: RunContext, index: int, line: Mapping[str, Any]) -> None:
        """Names as in metrics.jsonl, with _ for what Katib's filter does not take as a name."""
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        rows = [
            f"{now} {key.replace('/', '_').replace('(', '_').replace(')', '')}={value:.10g}\n"
            for key, value in line.items()
            if isinstance(value, (int, float))
        ]
        if self._target == "-":
            sys.stdout.write("".join(rows))
            sys.stdout.flush()
            return
        with open(self._target, "a") as file:
            file.write("".join(rows))


def _run_id(store: Store) -> str:
    """The id of the trial's W&B run, made once."""
    if "id" not in (note := read_note(store, WANDB_ID)):
        note = {"id": secrets.token_hex(4)}
        store.write(WANDB_ID, json.dumps(note).encode())
    return str(note["id"])


def _has_login() -> bool:
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "wandb" in netrc.read_text()


def _folder(store: Store, name: str) -> Path:
    """Where a tracker may write files: in the trial's folder, or in a scratch folder when the store is remote."""
    return store.root / name if isinstance(store, LocalStore) else Path(tempfile.mkdtemp(prefix="tendon-")) / name


def _bring(store: Store, name: str, folder: Path) -> None:
    if not isinstance(store, LocalStore):
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
            store.write(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def _missing(library: str, key: str) -> MissingDependency:
    return MissingDependency(
        f"{library} is not installed",
        where=key,
        why="tracking is an extra",
        fix=f"pip install 'tendon-robotics[tracking]', or {key}=false",
    )
