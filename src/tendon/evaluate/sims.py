"""Which simulators there are, where their interpreters are, and how one is installed.

adapters.py finds them; one with a list of requirements has a virtual environment of its own under the user's cache, the
others and a user's own file run in this interpreter. Called by cli.py, steps.py and guest.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tendon.config.digest import digest
from tendon.errors import MissingDependency, StorageError
from tendon.evaluate.adapters import find_adapter, is_file, is_known, simulator_claims

logger = logging.getLogger(__name__)

MARKER = ".installed.json"
GRAPHICS = ".graphics.json"  # beside it: which backend drew last, with which libraries and devices
GL_PACKAGES = "libegl1 libosmesa6 libgl1"
VARIABLES = ("LD_", "EGL_", "__EGL", "GALLIUM_", "LIBGL_", "MESA_", "PYOPENGL_", "MUJOCO_")
DRAW = """
import mujoco
context = mujoco.GLContext(64, 64)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), 100)
"""


@dataclass(frozen=True)
class SimInfo:
    """One line of ``tendon sims list``."""

    name: str
    installed: bool
    interpreter: str
    needs: str  # what is installed, "" where nothing has to be


def list_sims() -> tuple[SimInfo, ...]:
    """Every simulator that is known: tendon's and those of installed packages."""
    return tuple(
        SimInfo(
            name,
            installed(name),
            str(_python(environment(name))) if _pins(name) else sys.executable,
            " ".join(_pins(name)[:2]),
        )
        for name in simulator_claims()
    )


def installed(name: str) -> bool:
    """Whether the simulator can be started; a half-made installation cannot."""
    if is_file(name):
        return is_known(name)
    return not _pins(name) or (environment(name) / MARKER).is_file()


def interpreter(name: str) -> Path:
    """The Python that runs this simulator; MissingDependency when it is not installed."""
    if not _pins(name):
        return Path(sys.executable)
    if not installed(name):
        raise MissingDependency(
            f"the simulator {name} is not installed",
            where=f"env.simulator={name}",
            why=f"no finished installation in {environment(name)}",
            fix=f"tendon sims install {name}   (or use the sim image, which contains it)",
        )
    return _python(environment(name))


def environment(name: str) -> Path:
    """Where the virtual environment of this list of requirements belongs."""
    content = _requirements(name).read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tendon" / "sims" / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}"


def install(name: str, progress: Callable[[str], None] | None = None) -> Path:
    """Make the simulator's virtual environment unless it is there, and return its interpreter.

    It is made beside its place and renamed when it has run one step, so a half-made one is never taken for finished; a
    second installation at the same time waits for the first and finds its work.
    """
    say = progress or (lambda line: logger.info("sims: %s", line))
    if not _pins(name):
        say(f"{name}: nothing to install")
        return Path(sys.executable)
    target = environment(name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.parent / f".{target.name}.lock"):
            if not installed(name):
                _make(name, target, say)
    except OSError as error:
        raise StorageError(
            f"cannot install {name}",
            where=str(target),
            why=f"{type(error).__name__}: {error}",
            fix="free the disk or set XDG_CACHE_HOME",
        ) from error
    say(f"{name}: installed in {target}")
    return _python(target)


def _make(name: str, target: Path, say: Callable[[str], None]) -> None:
    from tendon.evaluate.guest import check  # it needs interpreter() of this file

    shutil.rmtree(target, ignore_errors=True)  # ours alone: we hold the lock, and without a marker it is debris
    for debris in target.parent.glob(f".{target.name}.making-*"):
        shutil.rmtree(debris, ignore_errors=True)
    making = Path(tempfile.mkdtemp(prefix=f".{target.name}.making-", dir=target.parent))
    try:
        say(f"{name}: creating a virtual environment")
        _run(
            name,
            [str(_base_python(name)), "-m", "venv", str(making)],
            "install the venv module (apt-get install python3-venv)",
        )
        size = _header(name, "size")
        say(f"{name}: downloading {', '.join(_pins(name)[:3])} and {len(_pins(name)) - 3} more{size and f' ({size})'}")
        pip = [
            str(_python(making)),
            "-m",
            "pip",
            "install",
            "--no-deps",
            "--no-input",
            "--quiet",
            "-r",
            str(_requirements(name)),
        ]
        _run(name, pip, "check the network and pip's index settings, then run the same command again")
        say(f"{name}: running one step")
        check(name, _header(name, "check"), _python(making), float(_header(name, "fps") or 20))
        (making / MARKER).write_text(json.dumps({"name": name, "requirements": _pins(name)}, indent=1))
        making.rename(target)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _run(name: str, command: list[str], fix: str) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    if done.returncode:
        errors = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        worst = [line for line in errors if line.startswith("ERROR")] or errors or [f"exit status {done.returncode}"]
        raise MissingDependency(f"cannot install {name}", where=" ".join(command[:4]), why=worst[-1][:300], fix=fix)


def _base_python(name: str) -> Path:
    """An interpreter of a version that the pinned packages exist for: this one if possible."""
    versions = _header(name, "python").split()
    if f"{sys.version_info[0]}.{sys.version_info[1]}" in versions:
        return Path(sys.executable)
    for version in reversed(versions):
        found = shutil.which(f"python{version}")
        if found and not subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
            return Path(found)
    raise MissingDependency(
        f"cannot install {name}: it needs Python {' or '.join(versions)}",
        where=f"this is Python {sys.version.split()[0]}, and PATH has none of them",
        why=f"the packages that {name} is pinned to have no wheels for other versions",
        fix=f"install python{versions[-1]} so that PATH finds it, then run the same command again",
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _requirements(name: str) -> Path:
    return find_adapter(name).requirements


def _pins(name: str) -> tuple[str, ...]:
    """The pinned packages of a known simulator, () when it runs in this interpreter."""
    return find_adapter(name).pins


def _header(name: str, key: str) -> str:
    """The value of a ``# key: value`` line of the requirements."""
    for line in _requirements(name).read_text().splitlines():
        if line.startswith(f"# {key}:"):
            return line.split(":", 1)[1].strip()
    return ""


def needs_graphics(name: str) -> bool:
    """Whether the simulator draws through MuJoCo, which must be told how before it starts."""
    return not is_file(name) and bool(_pins(name)) and _header(name, "draws") == "mujoco"


def can_draw(name: str) -> bool:
    """Whether a guest of this simulator can show what it does on this machine, as far as OpenGL is asked."""
    return not needs_graphics(name) or bool(graphics(interpreter(name)))


def graphics(python: Path) -> str:
    """The MUJOCO_GL with which this interpreter's MuJoCo draws without a screen: yours, egl, osmesa, or "" for none."""
    return os.environ.get("MUJOCO_GL") or _working_backend(python)


@lru_cache(maxsize=8)
def _working_backend(python: Path) -> str:
    """The first backend that draws; it is tried again only where libraries or devices have changed since."""
    kept, machine = python.parents[1] / GRAPHICS, _machine()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        seen = json.loads(kept.read_text())
        if seen["machine"] == machine:
            return str(seen["backend"])
    backend = next((backend for backend in ("egl", "osmesa") if _draws(python, backend)), "")
    if backend and (python.parents[1] / MARKER).is_file():  # an environment of ours
        with contextlib.suppress(OSError), tempfile.NamedTemporaryFile("w", dir=kept.parent, delete=False) as file:
            file.write(json.dumps({"machine": machine, "backend": backend}))
            file.flush()
            os.replace(file.name, kept)
    return backend


def _draws(python: Path, backend: str) -> bool:
    env = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    command = [str(python), "-I", "-c", DRAW]
    with contextlib.suppress(subprocess.TimeoutExpired):
        return not subprocess.run(command, env=env, capture_output=True, timeout=60, check=False).returncode
    return False


def _machine() -> str:
    """What decides whether a backend draws: the host, its libraries and graphics cards, and variables of OpenGL."""
    with contextlib.suppress(OSError):
        libraries = os.stat("/etc/ld.so.cache")
        cards = sorted(str(card) for card in (*Path("/dev").glob("nvidia*"), *Path("/dev").glob("dri/*")))
        variables = sorted(item for item in os.environ.items() if item[0].startswith(VARIABLES))
        return digest(os.uname().nodename, libraries.st_mtime_ns, libraries.st_size, cards, variables)
    return str(time.time())  # nothing that is known again
