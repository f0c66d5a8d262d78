"""What an addition costs, counted: each is made in a folder outside of the repository, and used.

CONTRIBUTING.md has the same table. What is more than a file or an entry here would be a wrong promise there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.conftest import make_lift_like_hdf5
from tests.plugins.outside import ENTRIES, install
from tests.plugins.outside_lab import ENTRIES as LAB_ENTRIES
from tests.plugins.outside_lab import ENV, SIMULATOR, SOURCE, write_demonstrations
from tests.plugins.test_policies import tendon

ROOT = Path(__file__).resolve().parents[2]


def files_of(package: Path) -> set[str]:
    """What a package holds beside its empty __init__."""
    files = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(package).as_posix() for path in files} - {"__init__.py"}


def test_contributing_says_what_these_tests_do() -> None:
    """Its entry points are the package's of test_outside_dag, and every file that it names exists."""
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11 and newer
    page = (ROOT / "CONTRIBUTING.md").read_text()
    shown = tomllib.loads(page.partition("```toml\n")[2].partition("```")[0])["project"]["entry-points"]
    assert {group: {name: value.replace("lab.", "PACKAGE.") for name, value in entries.items()}
            for group, entries in shown.items()} == LAB_ENTRIES  # fmt: skip
    named = re.findall(r"`(tests/[\w/.]+|test_\w+\.py|pipelines/\w+\.py)`", page)
    places = [ROOT / name if "/" in name else ROOT / "tests/plugins" / name for name in named]
    assert len(places) > 8
    assert [str(place) for place in places if not place.exists()] == []


def test_a_policy_is_a_package_and_a_yaml(tmp_path: Path) -> None:
    install(tmp_path)
    assert files_of(tmp_path / "outside_nearest") == {"config.py", "model.py", "conf/policy/nearest.yaml"}
    assert ENTRIES == {"tendon.policies": {"nearest": "PACKAGE.config:NearestConfig"}}
    make_lift_like_hdf5(tmp_path / "lift.hdf5")
    done = tendon(tmp_path, "convert", "--source-uri", "lift.hdf5", "--store-uri", "store")
    assert done.returncode == 0, done.stderr
    (dataset,) = (tmp_path / "store/datasets/demos").iterdir()
    overrides = ["policy=nearest", "env=lift", "env.observation=[object]", f"data.uri={dataset}", "device=cpu"]
    done = tendon(tmp_path, "train", *overrides, "training.offline_steps=3", "training.batch_size=4")
    assert done.returncode == 0, done.stderr


ROLL = """
import sys, numpy as np
from tendon.config.compose import compose
from tendon.evaluate.guest import Guest
with Guest(compose(["env=line", "data.uri=x"]).env) as guest:
    start = float(guest.reset(3)["position"][0])
    moved = float(guest.step(np.array([1.0])).observation["position"][0])
    print(round(moved - start, 6), guest.python or "")
"""


def test_a_simulator_is_an_adapter_a_yaml_and_a_list_of_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has an interpreter of its own, which sees nothing of ours; its one package is a wheel made here."""
    wheel = tmp_path / "line_physics-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("line_physics.pth", f"{Path(np.__file__).parent.parent}\n")  # its numpy is ours
        file.writestr("line_physics.py", "STEP_M = 0.25\n")
        file.writestr(
            "line_physics-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: line-physics\nVersion: 1.0\n"
        )
        file.writestr(
            "line_physics-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("line_physics-1.0.dist-info/RECORD", "")
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    files = {
        "line.py": SIMULATOR.replace("self.step_m = 1.0 / fps", "from line_physics import STEP_M\n        self.step_m = STEP_M"),
        "line.txt": f"# python: {python}\n# check: Line\nline-physics @ {wheel.as_uri()}\n",
        "conf/env/line.yaml": ENV,
    }  # fmt: skip
    install(tmp_path, "outside_line", {"tendon.simulators": {"line": "PACKAGE.line"}}, files)
    assert files_of(tmp_path / "outside_line") == set(files)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    done = run_python(tmp_path, ROLL)
    assert "fix:   tendon sims install line" in done.stderr
    done = tendon(tmp_path, "sims", "install", "line")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_python(tmp_path, ROLL)
    assert done.stdout.split()[0] == "0.25", done.stderr
    assert importing_line_physics_here_fails(tmp_path)


def importing_line_physics_here_fails(site: Path) -> bool:
    """The package is in the simulator's interpreter only."""
    return run_python(site, "import line_physics").returncode != 0


def test_a_dataset_format_is_a_file(tmp_path: Path) -> None:
    install(tmp_path, "outside_format", {"tendon.sources": {"line": "PACKAGE.line"}}, {"line.py": SOURCE})
    assert files_of(tmp_path / "outside_format") == {"line.py"}
    write_demonstrations(tmp_path / "demos.line.json")
    done = tendon(tmp_path, "convert", "--source-uri", "demos.line.json", "--store-uri", "store")
    assert done.returncode == 0, done.stderr
    (dataset,) = (tmp_path / "store/datasets/demos").iterdir()
    assert json.loads((dataset / "manifest.json").read_text())["episodes"] == 12
    done = tendon(tmp_path, "inspect", str(dataset), "--verify")
    assert done.returncode == 0, done.stderr


WEIGHTS = '''
"""A system that keeps tensors in .npz, and what they belong to as JSON."""

import json

import numpy as np
import torch

from tendon.policies.registry import make_policy
from tendon.policies.spec import PolicySpec
from tendon.weights.foreign import ForeignPolicy, WeightFormat


class Npz(WeightFormat):
    name = "npz"

    def sniff(self, path):
        return path.suffix == ".npz"

    def read(self, path):
        arrays = dict(np.load(path))
        info = PolicySpec.from_json(json.loads(str(arrays.pop("about"))), str(path))
        policy = make_policy(info.config, info.features)
        policy.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        return ForeignPolicy(policy.eval(), info)

    def write(self, policy, info, path, version, kept):
        arrays = {name: value.detach().cpu().numpy() for name, value in policy.state_dict().items()}
        with open(path, "wb") as file:
            np.savez(file, about=np.array(json.dumps(info.to_json())), **arrays)


FORMAT = Npz()
'''
MAKE = """
from pathlib import Path
from tendon.config.compose import compose
from tendon.policies.registry import make_policy
from tendon.policies.spec import PolicySpec
from tendon.weights.foreign import weight_format
config = compose(["experiment=reach_bc", "data.uri=x"]).policy
from tests.policies.features_of import features_of
from tests.train.small_trial import feature_stats
features = features_of({"observation.agent_pos": 2, "observation.target_pos": 2, "action": 2})
policy = make_policy(config, features, {key: feature_stats(0.0, 0.5, -1.0, 1.0) for key in features})
weight_format("npz")[0].write(policy, PolicySpec(config, features, policy.windows), Path("first.npz"), "", {})
"""


def test_a_weight_format_is_a_file(tmp_path: Path) -> None:
    install(tmp_path, "outside_weights", {"tendon.weights": {"npz": "PACKAGE.npz:FORMAT"}}, {"npz.py": WEIGHTS})
    assert files_of(tmp_path / "outside_weights") == {"npz.py"}
    done = run_python(tmp_path, MAKE)
    assert done.returncode == 0, done.stderr
    done = tendon(tmp_path, "weights", "import", "first.npz", "experiment=reach_bc", "--bundle-uri", "bundle")
    assert done.returncode == 0, done.stdout + done.stderr
    done = tendon(tmp_path, "weights", "export", "bundle", "--format", "npz", "-o", "again.npz")
    assert done.returncode == 0, done.stdout + done.stderr
    first, again = np.load(tmp_path / "first.npz"), np.load(tmp_path / "again.npz")
    assert set(first) == set(again)
    assert all(np.array_equal(first[name], again[name]) for name in first if name != "about")


def test_a_pipeline_parameter_is_an_entry(tmp_path: Path) -> None:
    """In a copy of the pipelines: one entry more, and every form, page and check of arguments has it."""
    for folder in ("pipelines", "components", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / "pipelines/parameters.py"
    entry = '    Parameter("policy_note", str, "none", "A word about the run.", pipelines=EVERY),\n)\nBY_NAME'
    text = table.read_text()
    assert text.count("\n)\nBY_NAME") == 1
    table.write_text(text.replace(")\nBY_NAME", entry, 1))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT / "src")))}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "pipelines/compile.py")],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("policy_pipeline", "retrain_pipeline", "evaluate_pipeline"):
        spec = next(yaml.safe_load_all((tmp_path / f"pipelines/compiled/{name}.yaml").read_text()))
        assert spec["root"]["inputDefinitions"]["parameters"]["policy_note"] == {
            "defaultValue": "none",
            "description": "[policy] A word about the run.",
            "isOptional": True,
            "parameterType": "STRING",
        }
    assert "policy_note" in (tmp_path / "pipelines/README.md").read_text()


def run_python(site: Path, code: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, with ``site`` on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (site, ROOT / "src", ROOT)))}
    return subprocess.run(
        [sys.executable, "-c", f"from tendon.errors import reported\nwith reported('x'):\n    exec({code!r})"],
        capture_output=True, text=True, env=environment, check=False, cwd=site,
    )  # fmt: skip
