"""The whole DAG with a package that nobody here knows: its source, policy, callback, simulator, writer, weights, data config.

The package lies in a folder outside of the repository with the metadata that pip would have written, and nothing else
is told of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.plugins.outside_lab import ENTRIES, FILES, install_lab, write_demonstrations
from tests.plugins.test_policies import ROOT, tendon

pytestmark = pytest.mark.chain

FILE_SIMULATOR = FILES["simulator.py"]


@dataclass(frozen=True)
class Ran:
    """A run of the DAG and where it is."""

    folder: Path
    shown: str

    @property
    def run(self) -> Path:
        (folder,) = (self.folder / "store/runs").iterdir()
        return folder

    @property
    def trial(self) -> Path:
        (folder,) = (self.folder / "store/trials").iterdir()
        return folder

    @property
    def dataset(self) -> Path:
        (folder,) = (self.folder / "store/datasets/demos").iterdir()
        return folder


OVERRIDES = [
    "env=line", "policy=nearest", "policy.width=8", "training.offline_steps=400", "training.batch_size=32",
    "training.lr=1e-2", "training.save_freq=400", "training.valid_freq=200", "training.num_threads=1",
    "training.callbacks=[Counter]",
]  # fmt: skip
RUN = ["run", "--source-uri", "demos.line.json", "--store-uri", "store", "--episodes", "4", "--confirm-episodes", "4"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("lab")
    install_lab(folder)
    write_demonstrations(folder / "demos.line.json")
    done = tendon(folder, *RUN, *OVERRIDES)
    assert done.returncode == 0, done.stdout + done.stderr
    return Ran(folder, done.stdout)


def test_one_of_each_group_is_brought() -> None:
    from tendon.plugins import GROUPS

    assert set(ENTRIES) == {f"tendon.{group}" for group in GROUPS}


def test_its_source_policy_callback_and_simulator_make_a_run(ran: Ran) -> None:
    assert json.loads((ran.dataset / "manifest.json").read_text())["sources"][0]["format"] == "line"
    assert (ran.trial / "updates.txt").read_text() == "400"
    selection = json.loads((ran.run / "selection.json").read_text())
    assert selection["winner"] == "base"
    confirmed = json.loads((ran.run / "confirmation.json").read_text())
    assert "verdict" in confirmed
    (table,) = (ran.trial / "evaluations").glob("selection-*/episodes.jsonl")
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert [row["status"] for row in rows] == ["success"] * 4, "it learned the line"
    assert (ran.run / "report.html").stat().st_size > 10_000


def test_its_writer_gives_the_demonstrations_back(ran: Ran) -> None:
    done = tendon(ran.folder, "export-data", str(ran.dataset), "back.line.json", "--to", "line")
    assert done.returncode == 0, done.stderr
    before, after = (json.loads((ran.folder / name).read_text()) for name in ("demos.line.json", "back.line.json"))
    assert len(before["episodes"]) == len(after["episodes"])
    flat = sorted(value for one in before["episodes"] for value in one["position"])
    assert sorted(value for one in after["episodes"] for value in one["position"]) == pytest.approx(flat, abs=1e-6)


def test_its_weights_leave_and_come_back(ran: Ran) -> None:
    done = tendon(ran.folder, "weights", "export", str(ran.trial / "bundle"), "--format", "lab", "-o", "policy.npz")
    assert done.returncode == 0, done.stdout + done.stderr
    done = tendon(ran.folder, "weights", "import", "policy.npz", "env=line", "--bundle-uri", "imported")
    assert done.returncode == 0, done.stdout + done.stderr
    done = tendon(ran.folder, "evaluate", "--bundle-uri", "imported", "eval.n_episodes=3", "eval.videos=0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3/3" in done.stdout


def test_its_data_configuration_is_found_by_name(ran: Ran) -> None:
    from tests.data.lerobot_sets import make
    from tests.data.test_modality import entry, write_modality

    arm = make(ran.folder / "arm", "v2.1")
    write_modality(arm, {"state": {"ee_pos": entry(0, 2)}, "action": {"delta_ee_pos": entry(0, 1)}})
    code = "from tendon.data.sources import open_source; import sys, json; " + (
        "print(json.dumps(open_source(sys.argv[1]).describe().metadata['modality']['order']))"
    )
    done = python(ran.folder, code, f"{arm}?data_config=lab-arm")
    assert json.loads(done.stdout) == {"state": ["ee_pos"], "action": ["delta_ee_pos"]}, done.stderr
    done = tendon(ran.folder, "inspect", f"{arm}?data_config=lab-arn")
    assert "write data_config=lab_arm" in done.stderr


def test_its_simulator_is_listed(ran: Ran) -> None:
    done = tendon(ran.folder, "sims", "list")
    assert [line.split()[:2] for line in done.stdout.splitlines() if line.startswith("line")] == [["line", "installed"]]


RUN_LOCAL = """
import json, sys
from tendon.errors import reported
from tendon.runner import default_yaml, run_local
with reported("run"):
    run_local(default_yaml(), json.loads(sys.argv[2]), store_uri=sys.argv[1])
"""


def test_a_run_with_a_file_simulator_needs_its_sha256_as_the_parameter_trust(ran: Ran) -> None:
    """The whole DAG again, whose steps learn what is trusted from the parameter alone: refused without, done with."""
    from tendon.trust import VARIABLE, sha256_of

    file, store = ran.folder / "mine.py", ran.folder / "other"
    file.write_text(FILE_SIMULATOR)
    config = [*OVERRIDES, f"env.simulator={file}", "training.offline_steps=20", "training.save_freq=20"]
    form = {
        "data_source_uri": str(ran.folder / "demos.line.json"), "policy_config": " ".join(config),
        "evaluate_episodes": 2, "evaluate_confirm_episodes": 2,
    }  # fmt: skip
    assert VARIABLE not in os.environ
    done = python(ran.folder, RUN_LOCAL, str(store), json.dumps(form))
    assert done.returncode != 0
    assert f"--trust {sha256_of(file)}" in done.stdout + done.stderr
    assert not (store / "trials").exists()
    done = python(ran.folder, RUN_LOCAL, str(store), json.dumps(form | {"trust": sha256_of(file)}))
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(next((store / "runs").glob("*/record.json")).read_text())
    assert f"--trust {sha256_of(file)}" in record["commands"]["evaluate/base"]


@pytest.mark.parametrize("group", ["simulators", "sources", "writers", "callbacks", "data_configs", "weights"])
def test_two_packages_with_one_name_are_an_error_that_names_both(group: str, tmp_path: Path) -> None:
    from tests.plugins.outside import install

    install_lab(tmp_path)
    install(tmp_path, "outside_twin", {f"tendon.{group}": ENTRIES[f"tendon.{group}"]}, {})
    code = {
        "simulators": "from tendon.evaluate.adapters import find_adapter; find_adapter('line')",
        "sources": "from tendon.data.sources import open_source; open_source('x.line.json')",
        "writers": "from tendon.data.writers import write_dataset; write_dataset(None, 'x', 'line')",
        "callbacks": "from tendon.train.watch.monitors import make_callbacks; make_callbacks(['Counter'])",
        "data_configs": "from tendon.data.sources.modality_configs import find_data_config as f; f('lab_arm', 'x')",
        "weights": "from tendon.weights.foreign import weight_format; weight_format('lab')",
    }[group]
    done = python(tmp_path, f"from tendon.errors import reported\nwith reported('x'):\n    {code}\n")
    assert done.returncode == 2, done.stderr
    assert "outside-lab and outside-twin both bring" in done.stderr
    assert f"entry points tendon.{group}" in done.stderr


def python(site: Path, code: str, *arguments: str):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (site, ROOT / "src", ROOT)))}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=site)
