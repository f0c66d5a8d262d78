"""Every Python that pyproject.toml promises and that this machine has: what needs neither torch nor a simulator, tested on it.

An environment for each in build/pythons, with the versions of constraints.txt. An interpreter that is not here is skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

from tests.benchmarks.rows import BUILD, Skip, row

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
ROOT = Path(__file__).resolve().parents[2]
LIGHT = ("config", "data", "registry", "report", "runs", "storage", "test_doctor.py", "test_errors.py", "test_logs.py")


def interpreter(version: str) -> str:
    """The path of a Python of this version that starts: on the path, or one that pyenv or uv keeps."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local/share/uv/python"))
    places = [shutil.which(name), *pyenv.glob(f"{version}.*/bin/{name}"), *uv.glob(f"cpython-{version}.*/bin/{name}")]
    for place in map(str, filter(None, places)):  # a shim is there for every version, and starts what is chosen only
        if not subprocess.run([place, "-c", ""], capture_output=True, check=False).returncode:
            return place
    raise Skip(f"there is no {name} here")


def failing_tests(version: str) -> float:
    """How many tests of the light part fail on this Python."""
    folder = (BUILD / "pythons" / version).absolute()
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([interpreter(version), "-m", "venv", str(folder)], check=True)
    if subprocess.run([python, "-c", "import tendon, kfp, pytest, moto"], capture_output=True, check=False).returncode:
        pip = [python, "-m", "pip", "install", "--quiet", "--editable", ".[kubeflow,tracking,dev]"]
        subprocess.run([*pip, "--constraint", "constraints.txt"], check=True, cwd=ROOT)
    report = folder / "tests.xml"
    report.unlink(missing_ok=True)
    chosen = [f"tests/{name}" for name in LIGHT]
    subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *chosen],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        check=False,
    )
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    assert int(suite.get("tests", 0)) > 100, "the tests did not run"
    return float(suite.get("failures", 0)) + float(suite.get("errors", 0))


for _version in VERSIONS:
    row(
        "parity",
        f"python-{_version}",
        f"tests that fail on Python {_version}, of those that need neither torch nor a simulator",
        "== 0",
    )(partial(failing_tests, _version))
