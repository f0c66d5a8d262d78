"""What a process has imported before it knows what to do: asserted on sys.modules, not on the clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
HEAVY = {"torch", "kfp", "boto3", "botocore", "hydra", "omegaconf", "pyarrow", "h5py", "av", "numpy"}


def interpreted(script: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The script in an interpreter of its own that finds this very tendon."""
    paths = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
        cwd=folder,
    )


def imported_by(code: str, *arguments: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after the code."""
    script = f"import json, sys\nsys.argv[1:] = {list(arguments)!r}\n{code}\n"
    script += "print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = interpreted(script)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


RUN_TENDON = """
import runpy
try:
    runpy.run_module("tendon", run_name="__main__")
except SystemExit as left:
    assert not left.code, left.code
"""


@pytest.mark.parametrize("arguments", [("--help",), ("train", "--help"), ("--version",)], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert not imported_by(RUN_TENDON, *arguments) & HEAVY


@pytest.mark.parametrize("room", ["storage", "config", "data", "loader"])
def test_the_data_side_never_imports_torch(room: str) -> None:
    every_module = (
        "import importlib, pkgutil\n"
        f"room = importlib.import_module('tendon.{room}')\n"
        "for found in pkgutil.walk_packages(room.__path__, room.__name__ + '.'):\n"
        "    importlib.import_module(found.name)"
    )
    assert not imported_by(every_module) & {"torch", "kfp"}


def test_reading_the_configuration_needs_hydra_only_to_compose() -> None:
    modules = imported_by(
        "import tendon.config.compose, tendon.config.sweep, tendon.config.digest, tendon.logs, tendon.doctor"
    )
    assert not modules & {"torch", "kfp", "boto3", "hydra", "numpy"}


def test_the_check_sees_what_is_imported() -> None:
    assert "numpy" in imported_by("import numpy")


NEEDLESS = {  # what a training in one process has no use for, each a quarter of a second or more
    *("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.distributed.fsdp", "sympy"),
    *("torch.fx.experimental.symbolic_shapes", "torch.onnx", "torchvision", "matplotlib", "pandas", "scipy"),
    *("transformers", "diffusers", "kfp", "kubernetes", "boto3", "botocore", "h5py"),
}


def test_a_training_in_one_process_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    """From the command to the end of its first step, whatever the policy asks of torch."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom tendon import steps\nfrom tendon.cli import main\n"
        "steps.convert(source_uri='demo://reach?episodes=2&seed=1', store_uri='store', dataset_name='demos')\n"
        "uri = next(Path('store/datasets/demos').iterdir()).resolve()\n"
        "words = ['env=reach', 'policy=bc_rnn', 'policy.hidden_dim=8', 'ema.enable=true', 'training.batch_size=4']\n"
        "main(['train', *words, f'data.uri={uri}', 'training.offline_steps=1', 'training.valid_episodes=0', '--store-uri', 's'])\n"
        f"print('NEEDLESS', sorted({NEEDLESS!r} & set(sys.modules)), 'torch' in sys.modules)"
    )
    done = interpreted(script, tmp_path)
    assert "NEEDLESS [] True" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
