"""Python that nobody installed runs only when its sha256 is named: by the command line, by plan, and in a guest."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from tendon import trust
from tendon.cli import main
from tendon.config.compose import compose
from tendon.errors import ConfigError
from tests.conftest import make_lift_like_hdf5

ROOT = Path(__file__).resolve().parents[2]
RAN = "import pathlib; pathlib.Path(__file__).with_suffix('.ran').write_text('yes')\n"
SIMULATOR = RAN + "from tendon_sim.adapters.reach import Adapter as Reach\n\n\nclass Adapter(Reach):\n    pass\n"
CALLBACK = RAN + "from tendon.train.watch import callbacks\n\n\nclass Callback(callbacks.Callback):\n    pass\n"
SWEEP = (
    RAN + "from tendon.config.generator import ConfigGenerator\n\n\ndef make_generator(config_file, script_file):\n"
    "    made = ConfigGenerator(config_file)\n"
    "    made.add_param(key='train.seed', name='seed', group=0, values=[1, 2])\n    return made\n"
)
DATA_CONFIG = (
    RAN + "from tendon.data.sources.modality_configs import DataConfig\n\n"
    "CONFIG = DataConfig((), ('arm',), ('arm',), 'min_max')\n"
)


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trust.VARIABLE, "")


def write(path: Path, text: str) -> tuple[str, str]:
    """The file and its sha256."""
    path.write_text(text)
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def tendon(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and output of the command in this process, which trusts nothing before."""
    os.environ[trust.VARIABLE] = ""
    try:
        code = main(list(words))
    except SystemExit as ended:
        code = int(ended.code or 0)
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def command(kind: str, folder: Path) -> tuple[Path, list[str]]:
    """The file of a kind, and a command that runs it."""
    file = folder / f"{kind}.py"
    source = str(make_lift_like_hdf5(folder / "lift.hdf5"))
    plan = ["run", "--plan", "--source-uri", source, "--store-uri", str(folder / "store"), "experiment=lift_bc"]
    if kind == "simulator":
        write(file, SIMULATOR)
        return file, [
            "demo-data",
            f"env.simulator={file}",
            "--episodes",
            "2",
            "-o",
            str(folder / "demos.hdf5"),
            "--force",
        ]
    if kind == "callback":
        write(file, CALLBACK)
        return file, [*plan, f"training.callbacks=[{file}]"]
    if kind == "sweep":
        write(file, SWEEP)
        base = folder / "base.json"
        base.write_text((ROOT / "tests/config/foreign/base.json").read_text())
        return file, ["sweep", str(file), "--config", str(base), "--script", str(folder / "out.sh")]
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["simulator", "callback", "sweep"])
def test_a_file_runs_only_with_its_sha256(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, words = command(kind, tmp_path)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    code, shown = tendon(capsys, *words)
    assert code == 2
    assert f"{file} is Python that nobody installed" in shown
    assert f"--trust {sha256}" in shown
    assert not file.with_suffix(".ran").exists()

    assert tendon(capsys, *words, "--trust", sha256)[0] == 0
    assert file.with_suffix(".ran").exists() == (kind != "callback")  # plan checks it, training runs it

    file.with_suffix(".ran").unlink(missing_ok=True)
    file.write_text(file.read_text() + "x = 1\n")
    code, shown = tendon(capsys, *words, "--trust", sha256)
    assert code == 2
    assert hashlib.sha256(file.read_bytes()).hexdigest() in shown
    assert not file.with_suffix(".ran").exists()


def test_a_data_configuration_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tendon.data.sources.modality_configs import find_data_config

    file, sha256 = write(tmp_path / "arm.py", DATA_CONFIG)
    with pytest.raises(ConfigError, match=f"--trust {sha256}"):
        find_data_config(file, "there")
    assert not (tmp_path / "arm.ran").exists()
    trust.allow(sha256)
    name, config = find_data_config(file, "there")
    assert (name, config.state) == (f"arm-{sha256[:16]}", ("arm",))
    _, other = write(tmp_path / "arm.py", "CONFIG = 3\n")
    with pytest.raises(ConfigError, match=f"--trust {other}"):
        find_data_config(file, "there")
    trust.allow(other)
    with pytest.raises(ConfigError, match="no data configuration"):
        find_data_config(file, "there")


def test_a_callback_is_refused_where_training_would_run_it(tmp_path: Path) -> None:
    from tendon.train.watch.monitors import make_callbacks

    file, sha256 = write(tmp_path / "watch.py", CALLBACK)
    with pytest.raises(ConfigError, match=f"--trust {sha256}"):
        make_callbacks([file])
    trust.allow(sha256)
    assert len(make_callbacks([file])) == 1


def test_train_is_refused_before_it_begins(tmp_path: Path) -> None:
    from tendon import steps

    file, sha256 = write(tmp_path / "mine.py", SIMULATOR)
    config = compose(["experiment=reach_bc", "data.uri=nowhere", f"env.simulator={file}"])
    with pytest.raises(ConfigError, match=f"--trust {sha256}"):
        steps.train(config=config, dataset_uri="nowhere", trial_uri=str(tmp_path / "trial"))
    assert not (tmp_path / "trial").exists()


def test_plan_names_every_file_of_every_trial_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watch, first = write(tmp_path / "watch.py", CALLBACK)
    mine, second = write(tmp_path / "mine.py", SIMULATOR)
    source = str(make_lift_like_hdf5(tmp_path / "lift.hdf5"))
    words = ["run", "--plan", "--source-uri", source, "experiment=lift_bc"]
    words += [f"training.callbacks=[{watch}]", f"env.simulator={mine}"]
    code, shown = tendon(capsys, *words)
    assert code == 2
    assert f"--trust {first}" in shown
    assert f"--trust {second}" in shown
    assert tendon(capsys, *words, "--trust", f"{first},{second}")[0] == 0


def test_a_file_as_the_option_says_its_sha256(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, sha256 = write(tmp_path / "mine.py", SIMULATOR)
    code, shown = tendon(capsys, "sims", "list", "--trust", file)
    assert code == 2
    assert f"fix:   --trust {sha256}" in shown
    code, shown = tendon(capsys, "sims", "list", "--trust", "me")
    assert code == 2
    assert "64 hexadecimal digits" in shown


def test_a_guest_runs_the_bytes_that_the_host_compared(tmp_path: Path) -> None:
    """Between the host's look and the guest's the file may change: the guest compares again what it runs."""
    import subprocess

    file, sha256 = write(tmp_path / "mine.py", SIMULATOR)
    write(tmp_path / "mine.py", SIMULATOR + "x = 1\n")
    code = "import sys\nfrom tendon.sim.guest import load_adapter\nload_adapter(sys.argv[1])\n"
    command = [sys.executable, "-c", code, f"file:{sha256}:{file}"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}
    )
    assert "changed since it was trusted" in done.stderr
    assert not (tmp_path / "mine.ran").exists()


def test_a_trusted_simulator_does_not_run_what_lies_beside_it(tmp_path: Path) -> None:
    from dataclasses import replace

    from tendon.errors import MissingDependency
    from tendon.evaluate.guest import Guest

    write(tmp_path / "beside.py", RAN)
    file, sha256 = write(tmp_path / "mine.py", "import beside\n" + SIMULATOR)
    trust.allow(sha256)
    guest = Guest(replace(compose(["data.uri=x"]).env, simulator=file))
    with pytest.raises(MissingDependency, match="beside"):
        guest.start()
    guest.close()
    assert not (tmp_path / "beside.ran").exists()


def test_what_is_trusted_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the command that repeats a step by hand, and to a TrainJob's."""
    from tendon import steps
    from tendon.report.reproduce import commands
    from tendon.runs.plan import load_plan

    file, sha256 = write(tmp_path / "watch.py", CALLBACK)
    trust.allow(sha256)
    planned = steps.plan(
        source_uri=str(make_lift_like_hdf5(tmp_path / "lift.hdf5")), store_uri=str(tmp_path / "store"),
        dataset_name="d", config=f"experiment=lift_bc training.callbacks=[{file}]", sweep=[], episodes=1,
        confirm_episodes=1, champion="c", promote=False,
    )  # fmt: skip
    lines = commands(load_plan(planned.run_uri))
    assert f"--trust {sha256}" in lines["train/base"]
    assert "--trust" not in lines["stats"]
    jobs = []
    monkeypatch.setattr(
        "tendon.train.distributed.trainjob.run_job", lambda spec, **_: jobs.append(spec)
    )  # sent to Kubernetes
    steps.train_trials_on_nodes(run_uri=planned.run_uri, trials=["base"], dataset_uri="d", image="i", nodes=2, gpus="0")
    assert jobs[0].arguments[-2:] == ("--trust", sha256)
