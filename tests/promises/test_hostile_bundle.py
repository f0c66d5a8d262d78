"""A bundle and a simulator that somebody else made: no secret is read, no code runs unasked, and no number is taken that is none."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tendon.storage import open_store
from tendon.storage.trees import put_tree
from tests.promises.conftest import Answer, Trained

SECRET = "the-secret-of-this-pod"
RAN = "import pathlib; pathlib.Path(__file__).with_suffix('.ran').write_text('yes')\n"
SIMULATOR = """
from tendon_sim.adapters.reach import Adapter as Reach

class Adapter(Reach):
    num = 0

    def reset(self, seed):
        Adapter.num += 1
        self.seed = seed
        return super().reset(Adapter.num if {what!r} == "ignores" else seed)

    def step(self, action):
        observation, reward, success, done = super().step(action)
        if {what!r} == "says false" and self.seed % 2:
            success, done = "False", True
        if {what!r} == "says nan" and self.seed % 2:
            reward = float("nan")
        if {what!r} == "overflows":
            reward = 1e308
        return observation, reward, success, done
"""


def edited(trained: Trained, folder: Path, **env: object) -> Path:
    """The bundle with other values in its configuration."""
    made = folder / "made"
    shutil.copytree(trained.bundle, made)
    config = yaml.safe_load((made / "config.yaml").read_text())
    config["env"] |= env
    (made / "config.yaml").chmod(0o644)
    (made / "config.yaml").write_text(yaml.safe_dump(config))
    put_tree(open_store(str(folder / "bundle")), "", made)
    return folder / "bundle"


def test_the_configuration_of_a_bundle_calls_no_resolver(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POD_SECRET", SECRET)
    bundle = edited(trained, tmp_path, options={"note": "${oc.env:POD_SECRET}"})
    answer = tendon("evaluate", "--bundle-uri", bundle, "--output-uri", tmp_path / "out", "eval.n_episodes=2")
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert SECRET not in answer.out + answer.err
    assert not [content for content in written if SECRET.encode() in content]
    assert answer.code == 2
    assert "calls a resolver" in answer.err


def test_a_bundle_runs_no_code_unasked(tendon: Callable[..., Answer], trained: Trained, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(RAN + SIMULATOR.format(what="plays"))
    bundle = edited(trained, tmp_path, simulator=str(file))
    words = ["evaluate", "--bundle-uri", bundle, "--output-uri", tmp_path / "out", "eval.n_episodes=2"]
    answer = tendon(*words)
    assert not file.with_suffix(".ran").exists()
    assert answer.code == 2
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert f"--trust {sha256}" in answer.err


def played(what: str, tendon: Callable[..., Answer], trained: Trained, folder: Path) -> tuple[Answer, str]:
    """The bundle in such a simulator, and the text of its results."""
    folder.mkdir(exist_ok=True)
    file = folder / "mine.py"
    file.write_text(SIMULATOR.format(what=what))
    words: list[object] = ["evaluate", "--bundle-uri", trained.bundle, "--output-uri", folder / "out"]
    words += [f"env.simulator={file}", "eval.n_episodes=6", "eval.max_crashed=0.9", "eval.batch_size=1"]
    answer = tendon(*words, "--trust", hashlib.sha256(file.read_bytes()).hexdigest())
    results = [path.read_text() for path in (folder / "out").rglob("*.json")]
    return answer, "\n".join(results)


def test_a_simulator_that_ignores_its_seed_is_found(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path
) -> None:
    answer, results = played("ignores", tendon, trained, tmp_path)
    assert "ignores its seed" in answer.out + answer.err + results
    other, results = played("plays", tendon, trained, tmp_path / "plays")
    assert "ignores its seed" not in other.out + other.err + results


@pytest.mark.parametrize("what", ["says false", "says nan"])
def test_what_no_simulator_can_say_is_a_crash_and_not_the_end(
    what: str, tendon: Callable[..., Answer], trained: Trained, tmp_path: Path
) -> None:
    answer, _ = played(what, tendon, trained, tmp_path)
    assert answer.code == 0, answer.err
    (rows,) = (tmp_path / "out").rglob("episodes.jsonl")
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    assert len(lines) == 6
    assert {line["status"] for line in lines if line["seed"] % 2} == {"crashed"}
    assert "crashed" not in {line["status"] for line in lines if not line["seed"] % 2}


def test_what_is_no_number_is_null_in_the_results(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path
) -> None:
    answer, _ = played("overflows", tendon, trained, tmp_path)
    assert answer.code == 0, answer.err
    for path in [*(tmp_path / "out").rglob("*.json"), *(tmp_path / "out").rglob("*.jsonl")]:
        for text in [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines():
            json.loads(text, parse_constant=pytest.fail)
