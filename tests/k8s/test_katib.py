"""The example for Katib: its command trains, and its collector finds the objective among what that prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from tendon import steps
from tests.k8s.rendering import K8S

EXPERIMENT = yaml.safe_load((K8S / "examples" / "katib.yaml").read_text(encoding="utf-8"))
LINE = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")  # Katib's default filter


def command(store: Path, dataset_uri: str, assigned: dict[str, str]) -> list[str]:
    """The command of a trial, with the parameters that Katib would give it."""
    spec = EXPERIMENT["spec"]
    (container,) = spec["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"]
    references = {one["name"]: one["reference"] for one in spec["trialTemplate"]["trialParameters"]}
    words = []
    for word in container["command"]:
        for name, reference in references.items():
            word = word.replace(f"${{trialParameters.{name}}}", assigned[reference])
        words.append(re.sub(r"^data\.uri=.*", f"data.uri={dataset_uri}", word))
    words[words.index("--store-uri") + 1] = str(store)
    assert not any("${" in word for word in words), "every parameter of the template is assigned"
    return words


def test_the_objective_is_among_the_lines_of_a_trial(tmp_path: Path) -> None:
    spec = EXPERIMENT["spec"]
    assert {one["name"] for one in spec["parameters"]} == {
        one["reference"] for one in spec["trialTemplate"]["trialParameters"]
    }
    source = {"source_uri": "demo://reach?episodes=6&seed=1", "store_uri": str(tmp_path), "dataset_name": "demos"}
    dataset_uri = steps.convert(**source).dataset_uri
    words = command(tmp_path, dataset_uri, {"lr": "0.001", "batch_size": "32"})
    short = [word for word in words if not word.startswith("training.eval_freq")]
    short += [f"training.{key}=20" for key in ("offline_steps", "eval_freq", "valid_freq", "save_freq")]
    ran = subprocess.run(
        [sys.executable, "-m", *short, "eval.n_episodes=2"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    metrics = {
        match[1]: float(match[2]) for line in ran.stdout.splitlines() for match in LINE.finditer(line) if match[2]
    }
    assert 0 <= metrics[spec["objective"]["objectiveMetricName"]] <= 100
    assert set(spec["objective"]["additionalMetricNames"]) <= set(metrics)
