"""Keys follow what is used: run keys, run ids, digests of recorded demonstrations, addresses of evaluations.

Each case runs on a copy of the sources outside of the repository, changed in one place, in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugins.outside import install

ROOT = Path(__file__).resolve().parents[2]
POLICIES = ("bc", "bc_gmm", "bc_rnn", "bc_transformer", "bc_vae")
KEYS = """
import json, sys
from tendon.config.compose import compose
from tendon.evaluate.demo_uri import parse_demo
from tendon.evaluate.table import question_digest
from tendon.runs.planner import make_plan, run_key

def config(*overrides):
    return compose(["data.uri=s3://b/datasets/d/0123456789abcdef", *overrides])

keys = {}
for policy in sys.argv[1].split(","):
    made = config(f"policy={policy}", "training.offline_steps=10")
    keys[f"trial {policy}"] = run_key(made)
    for env in ("reach", "lift"):
        seen = config(f"policy={policy}", f"env={env}", "training.offline_steps=10")
        keys[f"table {policy} {env}"] = question_digest("0123", seen.policy, seen.env, seen.eval, [1, 2])
    plan = make_plan(source_uri="demo://reach?episodes=2", store_uri="s", dataset_name="d", sweep=[], episodes=1,
                     config=f"policy={policy} training.offline_steps=10", confirm_episodes=1, champion="c", promote=False)
    keys[f"run {policy}"] = plan.run_id
for env in ("reach", "lift", "can"):
    keys[f"demos {env}"] = parse_demo(f"demo://{env}?episodes=2").digest
print(json.dumps(keys))
"""


class Outside:
    """A folder with a copy of the sources, and room for a package beside it."""

    def __init__(self, folder: Path) -> None:
        self.site = folder / "site"
        self.site.mkdir(parents=True)
        self.source = folder / "src"
        shutil.copytree(ROOT / "src/tendon", self.source / "tendon", ignore=shutil.ignore_patterns("__pycache__"))

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.source / "tendon" / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def raise_version(self, file: str) -> None:
        self.edit(file, "NUMERICS = 1", "NUMERICS = 2")

    def keys(self, *more: str) -> dict[str, str]:
        path = os.pathsep.join(map(str, (self.site, self.source)))
        command = [sys.executable, "-c", KEYS, ",".join((*POLICIES, *more))]
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=self.site)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return Outside(tmp_path_factory.mktemp("before")).keys()


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Names of the keys that are other ones now; none may be missing."""
    assert before.keys() <= after.keys()
    return {name for name in before if before[name] != after[name]}


def of_policies(*policies: str) -> set[str]:
    return {name for p in policies for name in (f"trial {p}", f"table {p} reach", f"table {p} lift", f"run {p}")}


def add_files(tendon: Outside) -> None:
    """A policy, a part, a simulator with its list of packages, a task, a source and a page of the report."""
    for name, text in {
        "policies/next/__init__.py": "",
        "policies/next/config.py": "from tendon.policies.bc.config import BcConfig\n\n\n"
        "class NextConfig(BcConfig):\n    model = 'tendon.policies.next.model:Next'\n",
        "policies/next/model.py": "from tendon.policies.bc.model import Bc\n\nNUMERICS = 3\n\n\nclass Next(Bc):\n    pass\n",
        "policies/parts/next.py": "NUMERICS = 4\n",
        "sim/adapters/next.py": "NUMERICS = 5\n\n\nclass Adapter:\n    pass\n",
        "sim/requirements/next.txt": "numpy==1.0\n",
        "sim/experts/next.py": "NUMERICS = 2\n",
        "conf/env/next.yaml": (ROOT / "src/tendon/conf/env/reach.yaml").read_text().replace("reach", "next"),
        "data/sources/next.py": "NUMERICS = 2\n",
        "report/next.py": "x = 1\n",
        "train/next.py": "x = 1\n",
    }.items():
        (tendon.source / "tendon" / name).parent.mkdir(exist_ok=True)
        (tendon.source / "tendon" / name).write_text(text)


def rephrase(tendon: Outside) -> None:
    """A comment, a docstring and another name of something private change no number."""
    tendon.edit("policies/bc/model.py", '"""One observation in, one action out."""', '"""An MLP."""  # as it was')
    tendon.edit("evaluate/rollout.py", "from __future__", "# as it was\nfrom __future__")
    tendon.edit("sim/experts/lift.py", "GAIN", "GAIN_PER_M")


@pytest.mark.parametrize("change", [pytest.param(add_files, marks=pytest.mark.long), rephrase])
def test_what_changes_no_number_changes_no_key(
    before: dict[str, str], tmp_path: Path, change: Callable[[Outside], None]
) -> None:
    tendon = Outside(tmp_path)
    change(tendon)
    assert changed(before, tendon.keys()) == set()


EVERY_TABLE = {f"table {policy} {env}" for policy in POLICIES for env in ("reach", "lift")}
EVERY_RUN = {f"run {policy}" for policy in POLICIES}
EVERY_TRIAL = {f"trial {policy}" for policy in POLICIES}


@pytest.mark.parametrize(
    ("file", "names"),
    [
        pytest.param("policies/bc_rnn/model.py", of_policies("bc_rnn"), marks=pytest.mark.long),
        ("policies/bc/model.py", of_policies("bc", "bc_gmm")),
        pytest.param("policies/parts/transformer.py", of_policies("bc_transformer"), marks=pytest.mark.long),
        pytest.param("policies/behaviour_cloning/model.py", of_policies(*POLICIES), marks=pytest.mark.long),
        pytest.param("train/__init__.py", EVERY_TRIAL | EVERY_RUN, marks=pytest.mark.long),
        pytest.param("loader/__init__.py", EVERY_TRIAL | EVERY_RUN, marks=pytest.mark.long),
        ("evaluate/__init__.py", EVERY_TABLE | EVERY_RUN | {"demos reach", "demos lift", "demos can"}),
        pytest.param(
            "sim/adapters/robosuite.py",
            {name for name in EVERY_TABLE if "lift" in name} | {"demos lift", "demos can"},
            marks=pytest.mark.long,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_raised_version_changes_the_keys_of_what_uses_it(
    before: dict[str, str], tmp_path: Path, file: str, names: set[str]
) -> None:
    tendon = Outside(tmp_path)
    tendon.raise_version(file)
    assert changed(before, tendon.keys()) == names


def test_an_expert_counts_for_the_demonstrations_of_its_task(before: dict[str, str], tmp_path: Path) -> None:
    tendon = Outside(tmp_path)
    tendon.edit("sim/adapters/robosuite.py", '"Lift": 1', '"Lift": 2')
    assert changed(before, tendon.keys()) == {"demos lift"}


@pytest.mark.long
def test_other_packages_of_a_simulator_count_as_its_numbers(before: dict[str, str], tmp_path: Path) -> None:
    tendon = Outside(tmp_path)
    tendon.edit("sim/requirements/robosuite.txt", "robosuite==1.5", "robosuite==1.6")
    after = tendon.keys()
    assert {"demos lift", "demos can", "table bc lift"} <= changed(before, after)
    assert not changed(before, after) & (EVERY_TRIAL | EVERY_RUN | {"demos reach", "table bc reach"})


def test_a_policy_of_another_package_changes_its_own_keys_only(before: dict[str, str], tmp_path: Path) -> None:
    tendon = Outside(tmp_path)
    install(tendon.site)
    first = tendon.keys("nearest")
    assert changed(before, first) == set()
    model = tendon.site / "outside_nearest/model.py"
    text = model.read_text()
    model.write_text(text.replace("Two linear layers", "Linear layers, two of them,"))
    assert changed(first, tendon.keys("nearest")) == set()
    model.write_text(text.replace("NUMERICS = 1", "NUMERICS = 2"))
    assert changed(first, tendon.keys("nearest")) == of_policies("nearest")


@pytest.mark.long
def test_a_package_that_states_no_version_is_known_by_its_bytes(tmp_path: Path) -> None:
    tendon = Outside(tmp_path)
    install(tendon.site)
    model = tendon.site / "outside_nearest/model.py"
    model.write_text(model.read_text().replace("NUMERICS = 1\n", ""))
    first = tendon.keys("nearest")
    model.write_text(model.read_text() + "# another line\n")
    (tendon.site / "outside_nearest/unused.py").write_text("x = 1\n")
    assert changed(first, tendon.keys("nearest")) == of_policies("nearest")


def test_a_users_simulator_is_known_by_its_bytes(tmp_path: Path) -> None:
    from dataclasses import replace

    from tendon.config.compose import compose
    from tendon.evaluate.adapters import sim_numerics

    env = replace(compose(["data.uri=x"]).env, simulator=str(tmp_path / "mine.py"))
    (tmp_path / "mine.py").write_text("x = 1\n")
    first = sim_numerics(env)
    (tmp_path / "mine.py").write_text("x = 2\n")
    assert sim_numerics(env) != first
