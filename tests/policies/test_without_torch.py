"""A plan needs no torch: what a policy reads, writes and looks at is told by its configuration alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.plugins.everything import install_everything

ROOT = Path(__file__).resolve().parents[2]
BLOCK = '''
import importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    """Nobody may import torch, or what brings it."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "transformers", "safetensors", "peft"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Block())
'''
DECLARED = """
from tendon.config.compose import compose
from tendon.config.policies import policy_configs
from tendon.config.tree import search_path
from tendon.data.features import Feature

numbers = {"observation.state": Feature("observation.state", "state", (3,), "float32")}
one = numbers | {"action": Feature("action", "action", (2,), "float32")}
several = {key: Feature(key, "action", (2,), "float32") for key in ("action.buttons", "action.camera")}
features = numbers | several | {"task": Feature("task", "text", (), "int64")}
from tendon.policies.rocket1.features import features_of_world

names = search_path(None).groups()["policy"]
assert set(policy_configs()) <= set(names), names
for name in names:
    config = compose([f"policy={name}", "data.uri=x", "training.offline_steps=2000"]).policy
    given = features if name == "everything" else features_of_world() if name.startswith("rocket1") else one
    reads, writes, windows = config.reads(given), config.writes(given), config.windows(given)
    assert set(reads) | set(writes) == set(given), name
    assert set(windows.acting) <= set(reads), name
    assert set(writes) <= set(windows.training), name
    assert all(max(span.deltas) <= 0 for span in windows.acting.values()), name
    print(name, *writes)
print(*(step.kind for step in compose(["policy=everything", "data.uri=x", "training.offline_steps=1"]).policy.processing(features)))
assert "torch" not in sys.modules
"""


def run(site: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT / "src")])}
    command = [sys.executable, "-c", BLOCK + code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=site)


def test_every_policy_declares_itself_where_there_is_no_torch(tmp_path: Path) -> None:
    install_everything(tmp_path)
    done = run(tmp_path, DECLARED)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "bc_rnn_gmm action" in lines
    assert "everything action.buttons action.camera" in lines
    assert lines[-1] == "to_float crop letterbox colour normalize tokenize"


def test_the_block_would_be_felt(tmp_path: Path) -> None:
    done = run(tmp_path, "import tendon.policies.base\n")
    assert "torch is not installed here" in done.stderr


def test_a_description_of_a_policy_is_read_without_torch(tmp_path: Path) -> None:
    code = (
        "from tendon.policies.spec import PolicySpec\n"
        "from tendon.config.compose import compose, to_dict\n"
        "policy = to_dict(compose(['policy=bc', 'data.uri=x', 'training.offline_steps=1']).policy)\n"
        "old = {'format': 1, 'policy': policy, 'window': {}, 'features': {\n"
        "    'observation.a': 3, 'observation.images.b': [3, 40, 48], 'goal.observation.a': 3, 'action': 2}}\n"
        "spec = PolicySpec.from_json(old, 'here')\n"
        "assert PolicySpec.from_json(spec.to_json(), 'here') == spec\n"
        "print(*(f'{one.kind}{list(one.shape)}' for one in spec.features.values()), sep=';')\n"
    )
    done = run(tmp_path, code)
    assert done.stdout.strip() == "state[3];image[40, 48, 3];state[3];action[2]", done.stderr
