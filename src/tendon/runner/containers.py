"""The containers of the steps, for kfp's docker runner: started, listened to, stopped with one signal each.

Stands in for kfp's own function, which removes a container before it has asked for its exit code and then takes a quick
failure for a success. A container gets what a pod gets: a read-only root, /tmp, no rights, secrets as environment.
Called by engine.py from one thread per task.
"""

from __future__ import annotations

import importlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tendon.config.digest import IMAGE
from tendon.errors import MissingDependency
from tendon.registry.failure import LOG
from tendon.runner.processes import Finished, forward, task_folder

PASSED_ON = re.compile(
    r"AWS_(?!CA_BUNDLE)\w+|TENDON_WEBHOOK_URL|TENDON_STOCK_\w+"
)  # what a secret and a config map hold on a cluster
EXECUTOR = re.compile(r"_KFP_RUNTIME=true python3 -m kfp\.dsl\.executor_main")  # in kfp's shell words
PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\['(pipelinechannel--\w+)'\]\}\}")


@dataclass(frozen=True)
class Docker:
    """How containers are run; an empty user means the image's own."""

    network: str = "host"
    user: str = ""
    tmp_size: str = "4g"
    shm_size: str = "1g"

    def options(self) -> dict[str, Any]:
        """Arguments of kfp's DockerRunner."""
        given = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
        mine = "" if os.getuid() == 0 else f"{os.getuid()}:0"  # outputs then belong to who started the run
        options: dict[str, Any] = {
            "environment": given,
            "network_mode": self.network,
            "read_only": True,
            "tmpfs": {"/tmp": f"size={self.tmp_size},mode=1777,exec"},  # noqa: S108 - inside the container
            "shm_size": self.shm_size,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
        }
        return options | ({"user": self.user or mine} if self.user or mine else {})


class Containers:
    """The step containers that run now, and the wish to stop them."""

    def __init__(self) -> None:
        self.stopping = False
        self._running: set[Any] = set()
        self._lock = threading.RLock()  # the signal handler may interrupt the thread that holds it

    def run(
        self, client: Any, image: str, command: Sequence[str], say: Callable[[str], None], **options: Any
    ) -> Finished:
        """Run kfp's command for one task to its end in a container; ``say`` gets every progress line as it comes."""
        folder = task_folder(command)
        options["environment"] = {**options.get("environment", {}), LOG: str(folder / "log.txt")}
        with _writable(folder), (folder / "log.txt").open("w", encoding="utf-8") as log:
            words: list[str] = []
            with self._started(client, image, command, options) as container:
                hears: list[tuple[dict[str, bool], Callable[[str], None] | None]] = [
                    ({"stdout": True, "stderr": False}, None),
                    ({"stdout": False, "stderr": True}, forward(words, say)),
                ]
                readers = [
                    threading.Thread(target=_listen, args=(container, which, log, hear), daemon=True)
                    for which, hear in hears
                ]
                for reader in readers:
                    reader.start()
                exit_code = int(container.wait()["StatusCode"])
                for reader in readers:
                    reader.join(timeout=10)
        return Finished(-9 if exit_code == 137 else exit_code, tuple(words), folder / "log.txt")

    def stop(self, *, at_once: bool = False) -> None:
        """Ask every running step to save and leave; ``at_once`` does not ask."""
        self.stopping = True
        with self._lock:
            running = list(self._running)
        for container in running:
            with suppress(Exception):  # it ended by itself
                container.kill("SIGKILL" if at_once else "SIGTERM")

    @contextmanager
    def _started(self, client: Any, image: str, command: Sequence[str], options: dict[str, Any]) -> Iterator[Any]:
        not_found = importlib.import_module("docker.errors").ImageNotFound
        try:
            found = client.images.get(image)
        except not_found:
            raise MissingDependency(
                f"the image {image} is not on this machine",
                where="docker",
                why="it was not built here",
                fix="make images",
            ) from None
        named = {**options.get("environment", {}), IMAGE: f"{image}@{found.id}"}
        with self._lock:
            # Init passes signals to its one child, so that has to be the step and not a shell, which dies and takes it along.
            container = client.containers.run(
                image, without_shell(command), detach=True, init=True, **{**options, "environment": named}
            )
            self._running.add(container)
        try:
            if self.stopping:
                container.kill("SIGTERM")
            yield container
        finally:
            with self._lock:
                self._running.discard(container)
            with suppress(Exception):
                container.remove(force=True)


def without_shell(command: Sequence[str]) -> list[str]:
    """Put the executor of a kfp command in the place of the shell that starts it, so that SIGTERM reaches the step."""
    return [EXECUTOR.sub(r"exec env \g<0>", word) for word in command[:3]] + list(command[3:])


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """The task's folder and those above it inside the run, writable for the container's own user."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in (folder, folder.parent):
        with suppress(OSError):
            one.chmod(0o777)
    yield


def resolved(image: str, arguments: dict[str, Any]) -> str:
    """The image of a task, where a pipeline parameter names it."""
    found = PLACEHOLDER.fullmatch(image)
    return str(arguments.get(found[1], image)) if found else image


def _listen(container: Any, which: dict[str, bool], log: IO[str], hear: Callable[[str], None] | None) -> None:
    rest = b""
    with suppress(Exception):  # the container is gone
        for chunk in container.logs(stream=True, follow=True, **which):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                _note(line, log, hear)
    if rest:
        _note(rest, log, hear)


def _note(line: bytes, log: IO[str], hear: Callable[[str], None] | None) -> None:
    text = line.decode(errors="replace").rstrip("\r")
    with suppress(ValueError):  # the log is closed
        log.write(f"{text}\n")
        log.flush()
    if hear is not None:
        hear(text)
