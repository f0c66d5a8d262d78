"""The host's end of one simulator process: start it, ask it with a time limit, kill it, replace it.

Comes in: an EnvConfig; goes out: observations by bare simulator names, and what the robot is told. Whatever goes wrong
in the guest (an exception, a hang, a death) is a GuestCrash with the end of the guest's output. Called by rollout.py,
demos.py and sims.install.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tendon import fork_server
from tendon.config.digest import digest
from tendon.config.feature_map import FeatureMap
from tendon.config.numerics import file_of
from tendon.config.schema import EnvConfig
from tendon.errors import ConfigError, MissingDependency, TendonError
from tendon.evaluate import adapters, sims
from tendon.evaluate.adapters import AdapterFile, find_adapter
from tendon.plugins import OWN
from tendon.sim.protocol import PART, Array, Message, ProtocolError, ProtocolTimeout, SharedPixels, receive, send
from tendon.trust import trusted_bytes

PERTURB = "perturb"  # in env.options: the name of a perturbation, see sim/perturbations.py
OPTIONS = ("image_size", PERTURB)  # that no adapter is told
TAIL_LINES = 12
LOG_BYTES = 4 << 20  # a guest's output is cut back when it grows beyond
CLOSE_S = 3.0
KILL_S = 7.0  # a warden has 5 s for it
LOAD = """
import importlib.util, sys
sys.path = [entry for entry in sys.path if entry]
if "tendon_sim" not in sys.modules:
    folder = sys.argv[1]
    from_file = importlib.util.spec_from_file_location
    spec = from_file("tendon_sim", folder + "/__init__.py", submodule_search_locations=[folder])
    sys.modules["tendon_sim"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
"""
BOOTSTRAP = f"""{LOAD}
from tendon_sim.warden import guard
guard(int(sys.argv[-1]))
from tendon_sim.guest import main
main(sys.argv[2:])
"""
SERVER = """
import importlib.util, sys
sys.path = [entry for entry in sys.path if entry]
spec = importlib.util.spec_from_file_location("tendon_fork_server", sys.argv[1])
sys.modules["tendon_fork_server"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
del sys.argv[1]
module.main()
"""
PER_STEP = ("TENDON_", "_KFP")  # beginnings of variables that differ between the steps of a run and change no import
CARDS = ("/dev/nvidia0", "/dev/dri/renderD128")


class Unperturbed(ConfigError):  # noqa: N818 - reads better where it is raised
    """The guest does not support a perturbation; ``why`` says which, and the reason."""

    def __init__(self, why: str, where: str, fix: str) -> None:
        self.why = why
        super().__init__("the simulator cannot be perturbed so", where=where, why=why, fix=fix)


class GuestCrash(TendonError):  # noqa: N818 - reads better where it is raised
    """The simulator raised, hung or died; ``why`` is one line, ``tail`` the end of what it printed."""

    def __init__(self, simulator: str, op: str, why: str, tail: str, rewards: Sequence[float] = ()) -> None:
        self.why, self.tail = why, tail
        self.rewards = tuple(rewards)  # of steps that were asked for together, those that were executed before
        last = f"; it printed last: {tail.splitlines()[-1]}" if tail else ""
        super().__init__(
            f"the simulator {simulator} crashed",
            where=f"in its operation {op}",
            why=why + last,
            fix="run the same seed alone with eval.batch_size=1; raise eval.step_timeout_s if it only was slow",
        )


# names of variables that a simulator has no use for; what it may run is trusted, what it may know is not everything
SECRET = re.compile(
    r"^(AWS|S3|GOOGLE|GCP|AZURE|MINIO|WANDB|MLFLOW|HF|KF|KFP|KUBE)|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY",
    re.I,
)


@dataclass(frozen=True)
class Stepped:
    """What one executed action led to."""

    observation: dict[str, Array]
    reward: float
    success: bool
    done: bool


@dataclass(frozen=True)
class SimState:
    """What a demonstration file keeps of the simulator beside observations."""

    states: Array
    model_file: str
    env_args: str


class Guest:
    """One simulator process. Start it with ``start`` or ``with``; not shared between threads, except ``kill``."""

    def __init__(
        self,
        env: EnvConfig,
        *,
        cameras: tuple[str, ...] | None = None,
        start_timeout_s: float = 120.0,
        step_timeout_s: float = 20.0,
        draws: bool = False,
        python: Path | None = None,
        any_action: bool = False,
        films: bool = False,
    ) -> None:
        """A guest that was not started.

        Args:
            env: The task and its simulator.
            cameras: None: those that ``env`` reads.
            start_timeout_s: For the start, and each reset.
            step_timeout_s: For each step.
            draws: ``render`` will be called.
            python: Another interpreter than the simulator's own.
            any_action: ``env`` need not name the parts of an action.
            films: ``film`` will be called after episodes.
        """
        self.env = env
        self.features = FeatureMap.of(env)
        self.cameras = self.features.read_cameras if cameras is None else self.features.named_cameras(cameras)
        self.start_timeout_s, self.step_timeout_s = start_timeout_s, step_timeout_s
        self.films = films
        self.draws = draws or films or bool(self.cameras)
        self.python = python
        self.any_action = any_action
        self.action_dim = 0
        self.offered_cameras: tuple[str, ...] = ()
        self.instruction = ""  # what the robot is told in the episode that was reset last
        self._task_instruction = ""
        self._process: subprocess.Popen[bytes] | fork_server.Child | None = (
            None  # the guest's warden, see sim/warden.py
        )
        self._pid = 0

    def __enter__(self) -> Guest:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        self.close()

    def start(self) -> None:
        """Start the process and build the task; ConfigError for a task or an option that does not exist."""
        python = self.python or sims.interpreter(self.env.simulator)
        self._open(python)
        self._pid = int(self._ask("hello", timeout_s=self.start_timeout_s).fields["pid"])
        options = {name: value for name, value in self.env.options.items() if name not in OPTIONS}
        read = {*self.features.read, *(camera.observation for camera in self.cameras)}
        fields = {
            "task": self.env.task,
            "options": options,
            "fps": self.env.fps,
            "cameras": [camera.camera for camera in self.cameras],
            "sizes": {camera.camera: camera.size for camera in self.cameras},
            "images": sorted(read),
            "perturb": str(self.env.options.get(PERTURB, "")),
        }
        reply = self._ask("make", fields, timeout_s=self.start_timeout_s)
        self.action_dim = self._action_dim(reply.fields)
        self.offered_cameras = tuple(reply.fields.get("cameras", ()))
        self._task_instruction = str(reply.fields.get("instruction", ""))

    def replace(self) -> None:
        """Kill the process and start another one."""
        self.kill()
        self.start()

    def reset(self, seed: int) -> dict[str, Array]:
        """The first observation of the episode of this seed."""
        self._trim_log()
        film = {"film": True} if self.films else {}
        reply = self._ask("reset", {"seed": seed, **film}, timeout_s=max(self.start_timeout_s, self.step_timeout_s))
        said = str(reply.fields.get("instruction", self._task_instruction))
        self.instruction = said if self.features.instruction is None else self.features.instruction
        return {**reply.arrays, **reply.images}

    def step(self, action: NDArray[np.float64]) -> Stepped:
        """Execute one action; the parts of one with several stand one after another, as ``env.action`` names them."""
        reply = self._ask("step", arrays=self._parts(action))
        fields = reply.fields
        if fields.get("instruction") and self.features.instruction is None:
            self.instruction = str(fields["instruction"])
        return Stepped(
            {**reply.arrays, **reply.images}, float(fields["reward"]), bool(fields["success"]), bool(fields["done"])
        )

    def steps(self, actions: Sequence[NDArray[np.float64]], keep: int = 1) -> list[Stepped]:
        """Execute actions one after another, until one ends the episode or changes what the robot is told.

        One message for all of them: a guest that is left alone with its actions takes less of the processor.

        Args:
            actions: At least one.
            keep: How many observations are wanted, the last ones; those before are empty.

        Returns:
            One for each action that was executed.
        """
        if len(actions) == 1:
            return [self.step(actions[0])]
        parts = [self._parts(action) for action in actions]
        arrays = {name: np.stack([one[name] for one in parts]) for name in parts[0]}
        progress_s = min(1.0, self.step_timeout_s / 4)
        told = {"keep": keep, "progress_s": progress_s}
        reply = self._ask("steps", told, arrays=arrays, slack_s=progress_s)
        fields, rewards, kept = reply.fields, reply.fields["rewards"], reply.fields["kept"]
        if fields.get("instruction") and self.features.instruction is None:
            self.instruction = str(fields["instruction"])
        played = []
        for number, reward in enumerate(rewards, 1):
            index, is_last = number - 1 - len(rewards) + kept, number == len(rewards)
            stacked = (*reply.arrays.items(), *reply.images.items()) if index >= 0 else ()
            success, done = is_last and bool(fields["success"]), is_last and bool(fields["done"])
            played.append(Stepped({name: values[index] for name, values in stacked}, float(reward), success, done))
        return played

    def goal(self) -> dict[str, Array]:
        """What would be observed at the goal of the episode that was just reset; ConfigError where nobody knows."""
        reply = self._ask("goal")
        return {**reply.arrays, **reply.images}

    def render(self, width: int, height: int, camera: str = "") -> Array:
        """One frame, uint8 ``[H, W, 3]``."""
        return self._ask("render", {"width": width, "height": height, "camera": camera}).images["frame"]

    def film(self, size: int, stride: int, most: int) -> tuple[list[Array], int]:
        """What was to be seen of the episode that is over, without playing it again; no frames where the simulator cannot.

        Args:
            size: Pixels of the square frame.
            stride: Steps from frame to frame at least.
            most: Frames at most; of a longer episode they are further apart.

        Returns:
            Frames, one that looks like the one before being the same array; the steps between them.
        """
        fields = self._ask("film", {"stride": stride, "most": most}).fields
        frames: list[Array] = []
        for index, count in fields["frames"]:
            view = {"index": index, "width": size, "height": size, "camera": ""}
            frames += [self._ask("film_frame", view).images["frame"]] * count
        return frames, int(fields["stride"])

    def reset_expert(self, seed: int, noise: float) -> None:
        """Prepare the scripted expert for the episode that was just reset; ConfigError where there is none."""
        self._ask("reset_expert", {"seed": seed, "noise": noise})

    def expert(self) -> NDArray[np.float64]:
        """The scripted expert's next action."""
        arrays = self._ask("expert").arrays
        if not self.features.action:
            return arrays["action"]
        return np.concatenate([np.atleast_1d(arrays[f"{PART}{part}"]) for part in self.features.action])

    def state(self, *, texts: bool) -> SimState:
        """The simulator's state now; the model and the environment's description only with ``texts``."""
        reply = self._ask("state", {"texts": texts})
        return SimState(reply.arrays["states"], reply.fields["model_file"], reply.fields["env_args"])

    def close(self) -> None:
        """Ask the simulator to end, make sure of it, and let go of everything."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(TendonError):
                self._ask("close", timeout_s=CLOSE_S)
        self.kill()
        self._release()

    def kill(self) -> None:
        """End the process and everything it started, at once; safe from any thread and when nothing runs."""
        process = self._process
        if process is None:
            return
        process.terminate()  # the warden kills what it finds, also what left the guest's group
        try:
            process.wait(KILL_S)
        except subprocess.TimeoutExpired:
            process.kill()  # the guest dies with its warden
            process.wait()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the guest, which leads a process group of its own."""
        return self._pid

    def tail(self) -> str:
        """The last lines that the guest printed."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 8192))
        lines = self._log.read().decode(errors="replace").splitlines()
        return "\n".join([line for line in lines if line.strip()][-TAIL_LINES:])

    def _open(self, python: Path) -> None:
        adapter = _as_argument(find_adapter(self.env.simulator))
        self._release()
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - an unnamed file, seen by nobody else
        self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - lives as long as the guest
        self._pixel_file = tempfile.TemporaryFile("w+b", dir=memory)  # noqa: SIM115
        self._pixels = SharedPixels(self._pixel_file.fileno())
        requests, self._request_fd = os.pipe()
        self._reply_fd, replies = os.pipe()
        lifeline, self._lifeline_fd = os.pipe()  # we never write: its end of file tells the guest that we are gone
        fds = (requests, replies, self._pixel_file.fileno(), lifeline)
        isolated = [] if python == Path(sys.executable) else ["-I"]
        try:
            environ = self._environ(python)
            self._process = self._forked([str(python), *isolated], adapter, environ, fds) or subprocess.Popen(
                [str(python), *isolated, "-c", BOOTSTRAP, str(adapters.GUEST_FOLDER), adapter, *map(str, fds)],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=fds,
                env=environ,
                start_new_session=True,
            )
        finally:
            for fd in (requests, replies, lifeline):
                os.close(fd)

    def _forked(
        self, python: list[str], adapter: str, environ: dict[str, str], fds: tuple[int, ...]
    ) -> fork_server.Child | None:
        """The guest as a fork of a server that has imported this simulator; None where there is no such server."""
        if environ.get("MUJOCO_GL") == "egl" and any(os.path.exists(card) for card in CARDS):
            return None  # a display on a graphics card is opened by the import, and shared with no fork
        folder = str(adapters.GUEST_FOLDER)
        arguments = (folder, adapter, *range(len(fds)))
        prepare = f"{LOAD.replace('sys.argv[1]', repr(folder))}\nfrom tendon_sim import guest, warden\nguest.preload({adapter!r})"
        request = fork_server.Request(BOOTSTRAP, arguments, environ, os.getcwd(), prepare, alone=True)
        kept = {name: value for name, value in environ.items() if not name.startswith(PER_STEP)}
        name = f"sim-{digest(python, folder, adapter, sorted(kept.items()))}"
        command = [*python, "-c", SERVER, fork_server.__file__]
        with open(os.devnull, "rb") as nothing:
            streams = (nothing.fileno(), self._log.fileno(), self._log.fileno())
            return fork_server.start(
                request, streams, name=name, command=command, descriptors=fds, timeout_s=self.start_timeout_s
            )

    def _action_dim(self, fields: dict[str, Any]) -> int:
        """How many numbers an action has; the parts of ``env.action`` must be those of the simulator."""
        said = {str(part): int(width) for part, width in fields.get("action", {}).items()}
        if self.any_action:
            self.features = replace(self.features, action=said)
        elif said != dict(self.features.action):
            described = ", ".join(f"{part}: {width}" for part, width in said.items())
            raise ConfigError(
                f"env.action is {dict(self.features.action)}, and the simulator's action is {said or 'one vector'}",
                where=f"env.simulator={self.env.simulator} env.task={self.env.task}",
                why="policy, demonstrations and simulator must name the same parts of an action",
                fix=f"env.action={{{described}}}",
            )
        return sum(said.values()) if said else int(fields["action_dim"])

    def _parts(self, action: NDArray[np.float64]) -> dict[str, Array]:
        parts = self.features.parts_of(action)
        return {f"{PART}{part}": values for part, values in parts.items()} or {"action": action}

    def _environ(self, python: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not SECRET.search(name)}
        environ = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **kept, "PYTHONUNBUFFERED": "1"}
        if sims.needs_graphics(self.env.simulator):
            backend = sims.graphics(python) if self.draws else "disabled"
            if not backend:
                raise MissingDependency(
                    f"the simulator {self.env.simulator} cannot draw on this machine",
                    where="its OpenGL library",
                    why="neither EGL nor OSMesa gives a picture without a screen",
                    fix=f"apt-get install -y {sims.GL_PACKAGES}   (eval.videos=0 and no images need none of it)",
                )
            environ["MUJOCO_GL"] = backend
        return environ

    def _ask(
        self,
        op: str,
        fields: dict[str, Any] | None = None,
        *,
        arrays: dict[str, Array] | None = None,
        timeout_s: float | None = None,
        slack_s: float = 0.0,
    ) -> Message:
        limit_s = self.step_timeout_s if timeout_s is None else timeout_s
        try:
            send(self._request_fd, Message({"op": op, **(fields or {})}, arrays or {}))
            reply = receive(self._reply_fd, self._pixels, limit_s + slack_s)
            while "progress" in reply.fields:  # some of several steps are done
                reply = receive(self._reply_fd, self._pixels, limit_s + slack_s)
        except ProtocolTimeout:
            self.kill()
            raise GuestCrash(self.env.simulator, op, f"no answer within {limit_s:g} s", self.tail()) from None
        except (ProtocolError, ValueError) as error:
            why = self._death(error)
            self.kill()
            raise GuestCrash(self.env.simulator, op, why, self.tail()) from None
        if "error" in reply.fields:
            self._raise(op, reply.fields)
        return reply

    def _death(self, error: Exception) -> str:
        assert self._process is not None
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return str(error)
        return f"the process died: {signal.Signals(-code).name if code < 0 else f'exit status {code}'}"

    def _raise(self, op: str, fields: dict[str, Any]) -> NoReturn:
        where = f"env.simulator={self.env.simulator} env.task={self.env.task}"
        if fields["error"] == "unsupported":
            raise Unperturbed(fields["why"], where, fields["fix"])
        if fields["error"] == "refused":
            raise ConfigError(
                "the simulator cannot do what is asked", where=where, why=fields["why"], fix=fields["fix"]
            )
        if fields["error"] == "missing" and op in ("hello", "make"):
            raise MissingDependency(
                f"the simulator {self.env.simulator} cannot be imported",
                where=str(self.python or sims.interpreter(self.env.simulator)),
                why=fields["why"],
                fix="install what is missing into that interpreter, or use the sim image",
            )
        raise GuestCrash(self.env.simulator, op, fields["why"], self.tail(), fields.get("rewards", ()))

    def _trim_log(self) -> None:
        if os.fstat(self._log.fileno()).st_size > LOG_BYTES:
            os.ftruncate(self._log.fileno(), 0)

    def _release(self) -> None:
        """Let go of the descriptors of the process before."""
        if self._process is not None:
            for fd in (self._request_fd, self._reply_fd, self._lifeline_fd):
                os.close(fd)
            self._log.close()
            self._pixel_file.close()
            self._process = None


def _as_argument(adapter: AdapterFile) -> str:
    """How a guest is told of its adapter: see ``load_adapter`` in sim/guest.py.

    Raises:
        ConfigError: it is a user's file that is not trusted.
    """
    if not adapter.module:
        content = trusted_bytes(adapter.file, f"env.simulator={adapter.name}")
        return f"file:{hashlib.sha256(content).hexdigest()}:{adapter.file}"
    if adapter.package == OWN:
        return adapter.name
    top = file_of(adapter.module.partition(".")[0])
    return f"package:{adapter.module}:{top or adapter.file}"


def check(name: str, task: str, python: Path, fps: float = 20) -> None:
    """Build a task and run one step: the proof of an installation, which also fills the simulator's own caches."""
    env = EnvConfig(name=name, simulator=name, task=task, fps=fps, episode_length=1, observation=(), options={})
    with Guest(env, start_timeout_s=300, step_timeout_s=120, python=python, any_action=True) as guest:
        guest.reset(1)
        guest.step(np.zeros(guest.action_dim))
