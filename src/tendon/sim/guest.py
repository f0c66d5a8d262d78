"""The guest process: reads requests, asks its adapter, answers; lives no longer than its host.

Comes in: four file descriptors and the name or path of an adapter on the command line (evaluate/guest.py builds it).
The descriptors are apart from stdin, stdout and stderr, so a simulator that prints cannot hurt the stream.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import importlib.util
import inspect
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .film import Film
from .perturbations import Perturbed, Unsupported
from .protocol import PART, VERSION, Array, Message, ProtocolError, Refused, SharedPixels, receive, send

IMAGE_DIMS = 3  # [H, W, C]


def main(arguments: list[str]) -> None:
    """Serve requests until the host closes the pipe."""
    adapter_name, *numbers = arguments
    request_fd, reply_fd, pixels_fd, lifeline_fd = (int(number) for number in numbers)
    for fd in (request_fd, reply_fd, pixels_fd, lifeline_fd):
        os.set_inheritable(fd, False)
    die_with_host(lifeline_fd)
    pixels = SharedPixels(pixels_fd)
    try:
        server = Server(adapter_name, lambda done: send(reply_fd, Message({"progress": done})))
        while True:
            request = receive(request_fd)
            send(reply_fd, server.answer(request), pixels)
            if request.fields["op"] == "close":
                return
    except ProtocolError:
        return


def die_with_host(lifeline_fd: int) -> None:
    """End this process group when the host, which alone holds the other end, is gone: also in a hung step.

    The kernel signals the group where it can (a simulator may hold the interpreter lock); a thread does it elsewhere.
    """
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)  # type: ignore[attr-defined]
        fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, fcntl.fcntl(lifeline_fd, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        os.read(lifeline_fd, 1)  # returns at end of file: nobody writes
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def preload(name: str) -> None:
    """Import what an adapter of tendon's own says that it imports (``IMPORTS``), for a server that guests are forks of."""
    if ":" in name:  # somebody else's file runs in guests alone
        return
    module = importlib.import_module(f".adapters.{name}", __package__)
    for imported in getattr(module, "IMPORTS", ()):
        importlib.import_module(imported)


def load_adapter(name: str) -> Any:
    """An instance of class ``Adapter``.

    Args:
        name: ``reach`` is adapters/reach.py; ``file:SHA256:PATH`` a user's file, which is run only with these bytes;
            ``package:MODULE:PATH`` a module of the package (or single file) at PATH, the only thing seen of its place.
    """
    kind, _, rest = name.partition(":")
    what, _, path = rest.partition(":")
    if kind == "file":
        module = _module_of(Path(path), what)
    elif kind == "package":
        _open_package(what.partition(".")[0], Path(path))
        module = importlib.import_module(what)
    else:
        module = importlib.import_module(f".adapters.{name}", __package__)
    if not hasattr(module, "Adapter"):
        raise Refused(f"{name} has no class Adapter", "write one: make, reset and step are enough")
    return module.Adapter()


def _module_of(path: Path, sha256: str) -> Any:
    """A module of one file, made of the bytes that were trusted."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Refused(f"{path} changed since it was trusted", "read it again, and trust what it is now")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    exec(compile(content, str(path), "exec"), module.__dict__)  # noqa: S102
    return module


def _open_package(name: str, file: Path) -> None:
    """Make one package importable by its place; what is installed beside it is another interpreter's."""
    folders = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def number(name: str, value: Any) -> float:
    """A finite number, or an error: what a broken simulator says must not become a result."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise ValueError(f"the {name} is {value!r}, not one finite number")
    return float(array.reshape(-1)[0])


def truth(name: str, value: Any) -> bool:
    """True or false, or an error; the text "False" is neither."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf" or array.reshape(-1)[0] not in (0, 1):
        raise ValueError(f"{name} is {value!r}, neither true nor false")
    return bool(array.reshape(-1)[0])


class Server:
    """Turns requests into calls of the adapter; one method per op."""

    def __init__(self, adapter_name: str, progress: Callable[[int], None] = lambda done: None) -> None:
        self.adapter_name = adapter_name
        self.progress = progress
        self.adapter: Any = None
        self.played: Any = None  # what resets and steps: the adapter, or the adapter under a perturbation
        self.film: Film | None = None  # of the episode that is played, if the host may want to see it
        self.instruction = ""  # what the robot was told last in this episode
        self._kinds: dict[str, tuple[int, ...]] = {}  # shapes of what was observed first
        self.read: frozenset[str] | None = None  # names of the images that the host reads; None: all
        self._may_skip = False  # the adapter leaves out pictures that nobody looks at

    def answer(self, request: Message) -> Message:
        """The reply to one request; what the adapter raises becomes a reply too."""
        op = str(request.fields["op"])
        try:
            method = getattr(self, f"op_{op}", None)
            if method is None:
                raise Refused(f"no operation {op}", "use a host and a guest of the same version")
            reply: Message = method(request)
            return reply
        except Exception as error:  # the host decides what it means
            if isinstance(error, Unsupported):
                return Message({"error": "unsupported", "why": error.why, "fix": error.fix})
            if isinstance(error, Refused) or type(error).__name__ == "Refused":  # a user's file may bring its own class
                return Message({"error": "refused", "why": str(error), "fix": getattr(error, "fix", "")})
            kind = "missing" if isinstance(error, ImportError) else "failed"
            traceback.print_exc()
            return Message({"error": kind, "why": f"{type(error).__name__}: {error}"})

    def op_hello(self, request: Message) -> Message:
        """Import the simulator."""
        self.adapter = load_adapter(self.adapter_name)
        return Message({"protocol": VERSION, "pid": os.getpid(), "python": sys.version.split()[0]})

    def op_make(self, request: Message) -> Message:
        """Build the task; the reply says what its actions are, and what the robot is told if the task says so."""
        fields = request.fields
        cameras = tuple(fields["cameras"])
        sizes = {name: (int(height), int(width)) for name, (height, width) in fields["sizes"].items()}
        self.read = frozenset(fields["images"])
        first = sizes[cameras[0]] if cameras else (84, 84)
        more: dict[str, Any] = {}
        if "sizes" in inspect.signature(self.adapter.make).parameters:
            more["sizes"] = sizes
        elif len(set(sizes.values())) > 1:
            shown = ", ".join(f"{name} {height} x {width}" for name, (height, width) in sizes.items())
            raise Refused(
                f"{self.adapter_name} draws all cameras in one size, asked for: {shown}",
                "give the cameras of env.cameras one size, or the Adapter's make an argument sizes",
            )
        perturb = str(fields.get("perturb", ""))
        self.played = (
            Perturbed(self.adapter, f"{self.adapter_name}/{fields['task']}", perturb) if perturb else self.adapter
        )
        described = self.adapter.make(fields["task"], fields["options"], fields["fps"], cameras, first, **more)
        self._may_skip = bool(cameras) and not perturb and getattr(self.adapter, "skips_pictures", None) is False
        if perturb:
            self.played.made(float(fields["fps"]), self.read)
        return Message(dict(described))

    def op_reset(self, request: Message) -> Message:
        """Start the episode of a seed; an adapter may return what the robot is told beside the observation."""
        started = self.played.reset(int(request.fields["seed"]))
        observation, instruction = started if isinstance(started, tuple) else (started, None)
        self.film = Film(self.adapter) if request.fields.get("film") else None
        if self.film is not None and not self.film.is_possible:
            self.film = None
        elif self.film is not None:
            self.film.keep()
        self.instruction = "" if instruction is None else str(instruction)
        return self._observed({} if instruction is None else {"instruction": str(instruction)}, observation)

    def op_goal(self, request: Message) -> Message:
        """What is observed at the goal of the episode that was just reset."""
        return self._observed({}, self._optional("goal", "it shows no goal")(), told=False)

    def op_step(self, request: Message) -> Message:
        """Execute one action: an array, or a dict where it has several parts."""
        parts = {name.removeprefix(PART): values for name, values in request.arrays.items() if name != "action"}
        observation, reward, success, done, *said = self.played.step(parts or request.arrays["action"])
        if self.film is not None:
            self.film.keep()
        fields: dict[str, Any] = {
            "reward": number("reward", reward),
            "success": truth("success", success),
            "done": truth("done", done),
        }
        return self._observed(fields | ({"instruction": str(said[0])} if said else {}), observation)

    def op_steps(self, request: Message) -> Message:
        """Execute actions ``[T, D]`` in turn, until one ends the episode, changes what the robot is told, or breaks something.

        The reply has rewards and ends of what was executed, and the observations of the last ``keep`` of these, without
        pictures where an end came before the last ones. A step that breaks something is its error. The host hears how many
        are done every ``progress_s``.
        """
        arrays = request.arrays
        rewards: list[float] = []
        keep = int(request.fields["keep"])
        kept: deque[Message] = deque(maxlen=keep)
        fields: dict[str, Any] = {"success": False, "done": False}
        progress_s, last_s = float(request.fields["progress_s"]), time.monotonic()
        num_steps = len(next(iter(arrays.values())))
        try:
            for number_of_step in range(num_steps):
                action = {name: values[number_of_step] for name, values in arrays.items()}
                self._skip_pictures(number_of_step < num_steps - keep)
                reply = self.answer(Message({"op": "step"}, action))
                fields = reply.fields
                if "error" in fields:
                    break
                rewards.append(fields["reward"])
                copies = [
                    {name: np.array(value) for name, value in one.items()} for one in (reply.arrays, reply.images)
                ]
                kept.append(Message({}, *copies))  # a simulator may write the next observation where this one is
                before, self.instruction = self.instruction, fields.get("instruction", self.instruction)
                if before != self.instruction and self._may_skip and number_of_step < num_steps - 1:
                    why = "it changes what the robot is told at a step whose pictures were left out"
                    raise Refused(f"{self.adapter_name}: {why}", "give its Adapter no attribute skips_pictures")
                if fields["success"] or fields["done"] or before != self.instruction:
                    break
                if time.monotonic() - last_s > progress_s:
                    self.progress(len(rewards))
                    last_s = time.monotonic()
        finally:
            self._skip_pictures(False)
        stacked = [
            {
                name: np.stack([getattr(one, kind)[name] for one in kept])
                for name in (getattr(kept[0], kind) if kept else ())  # drawn from some step on, if an end came first
            }
            for kind in ("arrays", "images")
        ]
        return Message({**fields, "rewards": rewards, "kept": len(kept)}, *stacked)

    def op_render(self, request: Message) -> Message:
        """One frame for people."""
        fields = request.fields
        frame = self._optional("render", "it cannot draw")(
            int(fields["width"]), int(fields["height"]), fields["camera"]
        )
        return Message({}, {}, {"frame": np.asarray(frame, np.uint8)})

    def op_film(self, request: Message) -> Message:
        """Which steps of the episode that is over are drawn, and for how many frames each stays; () where none can be."""
        stride, most = int(request.fields["stride"]), int(request.fields["most"])
        stride, frames = self.film.plan(stride, most) if self.film is not None else (stride, [])
        return Message({"stride": stride, "frames": frames})

    def op_film_frame(self, request: Message) -> Message:
        """One of them."""
        if self.film is None:
            raise Refused("no episode was filmed", "reset it with film")
        self.film.show(int(request.fields["index"]))
        return self.op_render(request)

    def op_reset_expert(self, request: Message) -> Message:
        """Prepare the scripted expert for the episode that was just reset."""
        self._optional("reset_expert", "it has no scripted expert")(
            int(request.fields["seed"]), float(request.fields["noise"])
        )
        return Message({})

    def op_expert(self, request: Message) -> Message:
        """The expert's next action."""
        action = self._optional("expert", "it has no scripted expert")()
        if isinstance(action, dict):
            return Message({}, {f"{PART}{name}": np.asarray(values, np.float64) for name, values in action.items()})
        return Message({}, {"action": np.asarray(action, np.float64)})

    def op_state(self, request: Message) -> Message:
        """What a demonstration file needs beside observations; the long texts only when asked for."""
        states, model_file, env_args = self._optional("state", "it cannot show its state")(
            bool(request.fields["texts"])
        )
        return Message({"model_file": model_file, "env_args": env_args}, {"states": np.asarray(states, np.float64)})

    def op_close(self, request: Message) -> Message:
        """Let the simulator clean up."""
        if hasattr(self.adapter, "close"):
            self.adapter.close()
        return Message({})

    def _skip_pictures(self, skip: bool) -> None:
        if self._may_skip:
            self.adapter.skips_pictures = skip

    def _observed(self, fields: dict[str, Any], observation: dict[str, Array], told: bool = True) -> Message:
        """A reply with an observation. What is uint8 ``[H, W, C]`` travels as an image, if the host reads it."""
        arrays = {name: np.asarray(value) for name, value in observation.items()}
        if told:
            self._check(arrays)
        images = {name: value for name, value in arrays.items() if value.dtype == np.uint8 and value.ndim == IMAGE_DIMS}
        others = {name: value for name, value in arrays.items() if name not in images}
        return Message(fields, others, {n: v for n, v in images.items() if self.read is None or n in self.read})

    def _check(self, arrays: dict[str, Array]) -> None:
        """A simulator that observes text, NaN or other shapes than before is broken: never a failure of the policy."""
        for name, value in arrays.items():
            if self.read is not None and name not in self.read:
                continue
            if value.dtype.kind not in "fiub":
                raise ValueError(f"the observation {name} is no number but {value.dtype}")
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise ValueError(f"the observation {name} has a value that is not finite")
            if self._kinds.setdefault(name, value.shape) != value.shape:
                raise ValueError(f"the observation {name} has the shape {value.shape}, it had {self._kinds[name]}")
        drawn = not (self._may_skip and self.adapter.skips_pictures)
        missing = sorted(
            name for name, shape in self._kinds.items() if name not in arrays and (drawn or len(shape) != IMAGE_DIMS)
        )
        if missing:
            raise ValueError(f"the observation {missing[0]} is missing, it was there before")

    def _optional(self, method: str, otherwise: str) -> Any:
        if not hasattr(self.adapter, method):
            raise Refused(
                f"{self.adapter_name}: {otherwise}", f"give its Adapter a method {method}, or use another simulator"
            )
        return getattr(self.adapter, method)
