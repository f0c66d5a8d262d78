"""A planted third of bad demonstrations, from ``tendon curate`` to the decision of the ordinary run."""

from __future__ import annotations

import json

from tendon import steps
from tendon.commands import load_sweep
from tendon.registry.subset import load_subset
from tendon.runs.plan import load_plan
from tests.planted_reach import write_planted

CONFIG = [
    *("experiment=reach_bc", "policy.hidden_dims=[32,32]", "training.offline_steps=300", "training.save_freq=150"),
    "eval.videos=0",
]


def test_the_planted_third_is_found_and_the_run_decides(tmp_path):
    from tendon.cli import main

    longer = [*CONFIG, "training.offline_steps=900"]  # the run trains until what was planted decides, on any processor
    planted = write_planted(tmp_path / "demos.hdf5", good=24, bad=12)
    source, store, folder = (str(tmp_path / name) for name in ("demos.hdf5", "store", "curated"))
    words = [*CONFIG, "--source-uri", source, "--store-uri", store, "--dataset-name", "reach"]
    assert main(["curate", *words, "-o", folder]) == 0
    curation = json.loads((tmp_path / "curated/curation.json").read_text())
    out = set(curation["left_out"])
    recall, precision = len(out & set(planted)) / len(planted), len(out & set(planted)) / len(out)
    print(f"recall {recall:.2f}, precision {precision:.2f}: {curation['rule']}")
    assert min(recall, precision) >= 0.8
    assert (curation["checkpoints"], curation["rounds"]) == (2, 2)

    planned = steps.plan(
        source_uri=source, store_uri=store, dataset_name="reach", config=" ".join(longer), sweep=load_sweep(f"{folder}/sweep.json"),
        episodes=10, confirm_episodes=30, champion="champion", promote=False, perturb="mass,lighting",
    )  # fmt: skip
    names = [trial["name"] for trial in planned.trials]
    trained = steps.train_trials(run_uri=planned.run_uri, trials=names, dataset_uri=planned.dataset_uri)
    exported = steps.export_trials(run_uri=planned.run_uri, outcomes=trained)
    steps.evaluate_trials(run_uri=planned.run_uri, outcomes=exported)
    concluded = steps.conclude(run_uri=planned.run_uri)
    decision = load_subset(load_plan(planned.run_uri))
    assert decision is not None
    print(decision.sentence)
    assert set(decision.left_out) == out
    assert decision.verdict == "better"
    assert concluded.winner == "episodes_subset"
    assert "Which episodes stay out?" in concluded.html
    assert min(out) in concluded.html
    assert "How robust is it?" in concluded.html
    scores = json.loads((tmp_path / "store/runs" / planned.run_uri.rsplit("/", 1)[-1] / "record.json").read_text())[
        "scores"
    ]
    assert scores["subset.kept"] == 1
    assert -1 <= scores["card.mass.difference"] <= 1
    assert "card.lighting.difference" not in scores  # the policy reads no picture
    assert "of its loss, more than of most episodes" in concluded.html
