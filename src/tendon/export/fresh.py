"""A bundle acting in a process of its own: what was loaded is the files alone, nothing that the parent process holds.

``python -m tendon.export.fresh FOLDER EXCHANGE THREADS URI`` is the child: it reads EXCHANGE/inputs.safetensors, acts, and
writes EXCHANGE/actions.safetensors. ``act_in_fresh_process`` starts it; called by export.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tendon import fork_server
from tendon.errors import DataError, TendonError
from tendon.export.parity import actions_over
from tendon.policies.base import Batch

TIMEOUT_S = 600.0


def act_in_fresh_process(folder: Path, inputs: Sequence[Batch], where: str) -> list[Batch]:
    """The actions of the bundle in ``folder`` over the inputs as consecutive steps.

    Raises:
        DataError: the process failed; ``where`` names the bundle.
    """
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory(prefix="tendon-parity-") as exchange:
        save_file(_named(inputs), Path(exchange, "inputs.safetensors"))
        code, why = _run([str(folder), exchange, str(torch.get_num_threads()), where], Path(exchange, "stderr.txt"))
        if code:
            raise DataError(
                "the bundle does not act in a process of its own",
                where=where,
                why=why,
                fix="export again; if it stays, the checkpoint and this version of tendon do not belong together",
            )
        return _steps(load_file(Path(exchange, "actions.safetensors")))


def _run(arguments: list[str], said: Path) -> tuple[int, str]:
    """The process: a fork that has imported torch and holds no policy, or a new interpreter. Its exit code, its last line."""
    module = "tendon.export.fresh"
    with (
        said.open("w+", encoding="utf-8", errors="replace") as error,
        open(os.devnull, "r+", encoding="utf-8") as nothing,
    ):
        streams = (nothing.fileno(), nothing.fileno(), error.fileno())
        process = fork_server.start_module(module, arguments, os.environ, streams, imports=fork_server.WORK) or (
            subprocess.Popen([sys.executable, "-m", module, *arguments], stdin=nothing, stdout=nothing, stderr=error)
        )
        try:
            code = process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return 1, f"it had not acted after {TIMEOUT_S:g} s"
        error.seek(0)
        return code, (error.read().strip().splitlines() or [f"exit status {code}"])[-1]


def main(folder: str, exchange: str, num_threads: str, where: str) -> None:
    """The child: sums in as many threads as the parent's, so that no bit differs for that."""
    from safetensors.torch import load_file, save_file

    from tendon.export.bundle import read_policy

    torch.set_num_threads(int(num_threads))
    policy, _ = read_policy(Path(folder), where)
    actions = actions_over(policy, _steps(load_file(Path(exchange, "inputs.safetensors"))))
    save_file(_named(actions), Path(exchange, "actions.safetensors"))


def _named(steps: Sequence[Batch]) -> Batch:
    """The tensors of all steps in one file."""
    return {f"{step:04d}/{key}": value.contiguous() for step, batch in enumerate(steps) for key, value in batch.items()}


def _steps(named: Mapping[str, Tensor]) -> list[Batch]:
    """What ``_named`` put together."""
    steps: dict[str, Batch] = {}
    for name, value in named.items():
        step, _, key = name.partition("/")
        steps.setdefault(step, {})[key] = value
    return [steps[step] for step in sorted(steps)]


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except TendonError as error:
        sys.exit(
            "; ".join(f"{problem.what}: {problem.why}" for problem in error.problems)
        )  # one line: the parent's why
