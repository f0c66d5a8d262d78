import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

import tendon.sim
from tendon.errors import ConfigError, MissingDependency
from tendon.evaluate import adapters, sims


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A simulator `toy` whose one package is a wheel of ours (it shows it our numpy): installing needs no network."""
    folder = tmp_path / "sim"
    shutil.copytree(Path(tendon.sim.__file__).parent, folder)
    shutil.copy(folder / "adapters" / "reach.py", folder / "adapters" / "toy.py")
    wheel = tmp_path / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("toy.pth", f"{Path(np.__file__).parent.parent}\n")
        file.writestr("toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        file.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("toy-1.0.dist-info/RECORD", "")
    versions = f"{sys.version_info[0]}.{sys.version_info[1]}"
    (folder / "requirements" / "toy.txt").write_text(f"# python: {versions}\n# check: Reach\ntoy @ {wheel.as_uri()}\n")
    monkeypatch.setattr(adapters, "GUEST_FOLDER", folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


def test_the_list_tells_what_has_to_be_installed():
    listed = {sim.name: sim for sim in sims.list_sims()}
    assert set(listed) == {file.stem for file in (adapters.GUEST_FOLDER / "adapters").glob("[a-z]*.py")}
    assert {"aloha", "pusht", "reach", "robosuite"} <= set(listed)
    assert listed["reach"].installed
    assert listed["reach"].interpreter == sys.executable
    assert not listed["robosuite"].installed
    assert listed["robosuite"].needs.startswith("robosuite==1.5")


def test_every_pin_is_exact_and_every_list_says_its_python():
    for path in (adapters.GUEST_FOLDER / "requirements").glob("*.txt"):
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        assert all("==" in line for line in lines)
        assert "# python: 3." in path.read_text()
        assert "# check: " in path.read_text()


def test_a_missing_simulator_names_the_command():
    with pytest.raises(MissingDependency, match="tendon sims install robosuite") as caught:
        sims.interpreter("robosuite")
    assert caught.value.exit_code == 5


def test_a_half_made_environment_is_not_taken_for_installed():
    python = sims.environment("robosuite") / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert not sims.installed("robosuite")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ConfigError, match=r"env\.simulator=robosuite"):
        sims.install("robosuit")


def test_an_interrupted_installation_counts_for_nothing_and_two_at_once_agree(toy, cache):
    code = (
        "import sys; from pathlib import Path; from tendon.evaluate import adapters, sims; "
        f"adapters.GUEST_FOLDER = Path({str(toy)!r}); sims.install('toy', lambda line: print(line, flush=True))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert "creating" in process.stdout.readline()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not sims.installed("toy")

    said, pythons = [], []
    threads = [threading.Thread(target=lambda: pythons.append(sims.install("toy", said.append))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("creating" in line for line in said) == 1
    assert pythons[0] == pythons[1] == sims.interpreter("toy")
    assert pythons[0].is_relative_to(cache)
    assert sims.installed("toy")
    made = [path.name for path in (cache / "tendon" / "sims").iterdir() if path.is_dir()]
    assert made == [sims.environment("toy").name]


def test_a_simulator_whose_action_has_parts_is_checked_too(toy):
    path = toy / "adapters" / "toy.py"
    whole = path.read_text().replace('{"action_dim": 2, ', '{"action": {"push": 2}, ')
    path.write_text(whole.replace("np.asarray(action, np.float64)", 'np.asarray(action["push"], np.float64)'))
    assert sims.install("toy").is_file()


def test_an_installation_that_fails_says_why_and_leaves_nothing(toy, cache):
    path = toy / "requirements" / "toy.txt"
    path.write_text(path.read_text() + "there-is-no-such-package==1.0\n")
    with pytest.raises(MissingDependency, match="there-is-no-such-package"):
        sims.install("toy")
    assert not [path for path in (cache / "tendon" / "sims").iterdir() if path.is_dir()]


def test_a_python_that_no_wheel_is_for_is_said(toy):
    path = toy / "requirements" / "toy.txt"
    path.write_text("# python: 3.2\n# check: Reach\ntoy==1.0\n")
    with pytest.raises(MissingDependency, match=r"needs Python 3\.2"):
        sims.install("toy")


def test_what_drew_once_is_tried_again_only_where_the_machine_changed(tmp_path, monkeypatch):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    (tmp_path / sims.MARKER).write_text("{}")
    tried, machine = [], ["one"]
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(sims, "_draws", lambda python, backend: tried.append(backend) or backend == "osmesa")
    monkeypatch.setattr(sims, "_machine", lambda: machine[-1])
    for asked, so_far in (("one", 2), ("one", 2), ("two", 4)):
        machine.append(asked)
        sims._working_backend.cache_clear()
        assert sims.graphics(python) == "osmesa"
        assert len(tried) == so_far
    sims._working_backend.cache_clear()


def test_the_machine_is_known_again():
    assert sims._machine() == sims._machine()
