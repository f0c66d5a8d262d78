"""`--json` on every verb: one document on standard output, whatever the verb does and however it ends; names as addresses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tendon.cli import DAG_TOOLS, parser
from tests.promises.conftest import Answer, Trained


def words_of(trained: Trained, tmp_path: Path) -> dict[str, tuple[list[object], int]]:
    """A command line of every verb, and its exit code."""
    run, sweep = tmp_path / "store" / "runs" / "absent", tmp_path / "sweep.json"
    sweep.write_text(json.dumps([{"key": "training.lr", "name": "lr", "group": 0, "values": [1e-3, 1e-4]}]))
    few = ["eval.n_episodes=1", "eval.videos=0"]
    learn = ["experiment=reach_bc", f"data.uri={trained.dataset}", "training.offline_steps=2", "training.batch_size=8"]
    return {
        "demo": (["--task", "reach", "--plan", "--store-uri", tmp_path], 0),
        "run": (["experiment=reach_bc", "--source-uri", trained.demos, "--store-uri", tmp_path, "--plan"], 0),
        "plan": (["experiment=reach_bc", "--source-uri", trained.demos, "--store-uri", tmp_path], 0),
        "curate": (["experiment=reach_bc", "--source-uri", tmp_path / "absent.hdf5", "-o", tmp_path / "c"], 3),
        "convert": (["--source-uri", trained.demos, "--store-uri", tmp_path / "c"], 0),
        "inspect": ([trained.dataset], 0),
        "diff": ([trained.dataset, trained.dataset], 0),
        "stats": (["--dataset-uri", trained.dataset], 0),
        "train": ([*learn, "--store-uri", tmp_path / "t", "--dry-run"], 0),
        "export": (["--checkpoint-uri", trained.checkpoint, "--bundle-uri", trained.bundle], 0),
        "evaluate": (["--bundle-uri", trained.bundle, *few, "--output-uri", tmp_path / "e"], 0),
        "compare": ([trained.bundle, tmp_path / "absent"], 3),
        **{step: (["--run-uri", run], 3) for step in ("select", "confirm", "robustness", "report", "promote")},
        "ls": (["trials", "--store-uri", trained.root / "store"], 0),
        "show": ([trained.trial], 0),
        "rm": ([trained.dataset], 0),
        "gc": (["--dataset-uri", trained.dataset], 0),
        "view": ([trained.dataset, "--out", tmp_path / "page.html"], 0),
        "completion": (["bash"], 0 if has_argcomplete() else 5),
        "init": ([tmp_path / "lab", "--source", trained.demos], 0),
        "demo-data": (["env=reach", "--episodes", 2, "-o", tmp_path / "a.hdf5"], 0),
        "export-data": ([trained.dataset, tmp_path / "b.hdf5", "--to", "robomimic"], 0),
        "weights": (["inspect", trained.bundle], 0),
        "sweep": ([sweep], 0),
        "sims": (["list"], 0),
        "doctor": (["--store-uri", tmp_path], -1),
        "lerobot": (["train", "--help"], 0),
        "import": (["file.pth"], 2),
        "compile": (["--nonsense"], 2),
        "submit": (["nonsense"], 2),
    }


def has_argcomplete() -> bool:
    try:
        import argcomplete  # noqa: F401
    except ImportError:
        return False
    return True


def verbs() -> list[str]:
    choices = next(action.choices for action in parser()._actions if isinstance(action.choices, dict))
    return sorted(choices)


@pytest.mark.parametrize("verb", verbs())
def test_one_document_on_standard_output(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path, verb: str
) -> None:
    words, code = words_of(trained, tmp_path)[verb]
    if verb in DAG_TOOLS:
        done = subprocess.run(
            [sys.executable, "-m", "tendon", verb, *map(str, words), "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        answer = Answer(done.returncode, done.stdout, done.stderr)
    else:
        answer = tendon(verb, *words, "--json")
    document = json.loads(answer.out)  # all of it is one document
    assert document["verb"] == verb
    assert document["exit_code"] == answer.code
    assert document["ok"] is (answer.code == 0)
    assert code in (-1, answer.code), answer.err
    if answer.code == 0:
        assert document["result"], "it says nothing"
    elif verb not in ("doctor", "compile", "submit"):
        assert set(document["problems"][0]) == {"what", "where", "why", "fix"}
        assert f"error: {document['problems'][0]['what']}" in answer.err


def test_a_wrong_word_is_a_document_too(tendon: Callable[..., Answer]) -> None:
    answer = tendon("ls", "rums", "--json")
    document = json.loads(answer.out)
    assert (answer.code, document["exit_code"], document["ok"]) == (2, 2, False)
    assert document["problems"][0]["what"] == "rums is no value of kind"


def test_names_are_addresses(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "outputs" / "train"
    shutil.copytree(trained.root / "store", store, symlinks=True)
    monkeypatch.chdir(tmp_path)
    listed = json.loads(tendon("ls", "trials", "--json").out)["result"]["rows"]
    (trial,) = listed
    key = trained.trial.name
    assert trial["name"].startswith("reach-bc-")
    assert trial["name"].endswith(key[:6])
    assert trial["state"] == "finished"
    evaluated = tendon("evaluate", "--bundle-uri", trial["name"], "eval.n_episodes=1", "eval.videos=0", "--json")
    assert evaluated.code == 0, evaluated.err
    assert f"trials/{key}/" in json.loads(evaluated.out)["result"]["table"]
    (dataset,) = json.loads(tendon("ls", "datasets", "--json").out)["result"]["rows"]
    assert tendon("stats", "--dataset-uri", dataset["name"][:5]).code == 0
    assert tendon("stats", "--dataset-uri", dataset["id"][:5]).code == 0
    assert tendon("inspect", f"{store}/datasets/demos").code == 0, "a store and a name"
    tried = tendon("train", "experiment=reach_bc", f"data.uri={dataset['name']}", "training.batch_size=8",
                   "training.offline_steps=2", "--dry-run")  # fmt: skip
    assert tried.code == 0, tried.err
    # a second training of the same policy: its beginning alone is not enough any more
    shutil.copytree(store / "trials" / key, store / "trials" / ("0" * 16), symlinks=True)
    unsure = tendon("evaluate", "--bundle-uri", "reach-bc", "eval.n_episodes=1")
    assert unsure.code == 2
    assert unsure.problems() == 1
    assert trial["name"] in unsure.err
    assert "-000000" in unsure.err


def test_rm_says_first_and_deletes_then(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    shutil.copytree(trained.root / "store", store, symlinks=True)
    before = sorted(path for path in store.rglob("*") if path.is_file())
    trial = store / "trials" / trained.trial.name
    planned = tendon("rm", trial)
    assert planned.code == 0
    assert "nothing was" in planned.out
    assert f"tendon rm --yes {trial}" in planned.out
    assert sorted(path for path in store.rglob("*") if path.is_file()) == before
    done = json.loads(tendon("rm", trial, "--yes", "--json").out)["result"]
    assert done["deleted"] is True
    assert not trial.exists()
    assert [path for path in before if path.exists()] == [path for path in before if trial not in path.parents]
    again = tendon("rm", trial, "--yes")
    assert again.code == 2
    assert "nothing is called" in again.err
    bundle = trained.trial / "bundle"
    champion = {"format": "tendon.champion/1", "name": "default", "policy_digest": "0" * 16, "bundle_uri": str(bundle),
                "run_uri": "", "successes": 1, "n": 2, "when": "2026-01-01T00:00:00+00:00", "history": []}  # fmt: skip
    shutil.copytree(trained.trial, trial, symlinks=True)
    champion["bundle_uri"] = str(trial / "bundle")
    (store / "champions").mkdir()
    (store / "champions" / "default.json").write_text(json.dumps(champion))
    refused = tendon("rm", trial, "--yes")
    assert refused.code == 2
    assert "a champion rests on it" in refused.err
    assert trial.exists()


@pytest.mark.skipif(not has_argcomplete(), reason="argcomplete is not installed")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_verbs_options_and_names(
    tendon: Callable[..., Answer], trained: Trained, tmp_path: Path, shell: str
) -> None:
    assert "tendon" in tendon("completion", shell).out
    # as the script of bash asks it: the line and the place of the cursor in the environment, the answer on descriptor 8
    store = trained.root / "store"
    for line, expected in (("tendon insp", "inspect"), ("tendon ls --st", "--store-uri"),
                           (f"tendon show --store-uri {store} reach-b", "reach-bc-")):  # fmt: skip
        env = os.environ | {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9",
                            "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer")}  # fmt: skip
        subprocess.run([sys.executable, "-m", "tendon"], env=env, check=False)
        assert expected in (tmp_path / "answer").read_text()
