"""The trials of one pod side by side, as many as fit into its processors, its memory and its GPU. Called by steps.train_trials.

Training is a child process of its own anyway; a thread waits for each. On a GPU the first trial of a kind trains alone: what
it took, measured, says how many of the others fit.
"""

from __future__ import annotations

import contextvars
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from tendon.data.cpus import usable_cpus
from tendon.runs.budget import STOPPED
from tendon.runs.measured import find, gpus_here, training_kind
from tendon.runs.plan import RunPlan
from tendon.runs.sizing import GIB, memory_of_training
from tendon.train.watch.memory_watch import free_memory

log = logging.getLogger(__name__)

GPU_SHARE = 0.9  # of the GPU's memory may be planned for
GPU_CONTEXT_BYTES = 700 * 2**20  # of the driver and the libraries in each process, which torch does not count

NO_MEMORY = ("out of memory", "took more memory than")  # of torch, and of attempts.py


def in_parallel(trials: Sequence[str], train: Callable[[str], str], num_fitting: Callable[[], int]) -> list[str]:
    """The outcomes of trials in their order; what failed for want of memory beside others is trained again alone.

    Args:
        trials: Names.
        train: Trains one to its outcome; may raise, then the others are waited for and the first error goes on.
        num_fitting: How many fit now; asked again after each that trained alone.
    """
    outcomes: dict[str, str] = {}
    left = list(trials)
    while left:
        room = min(num_fitting(), len(left)) if len(left) > 1 else 1
        if room <= 1:
            name = left.pop(0)
            outcomes[name] = train(name)
            continue
        log.info("train: %d trials, %d side by side", len(left), room)
        with ThreadPoolExecutor(room) as pool:
            futures = {name: pool.submit(contextvars.copy_context().run, train, name) for name in left}
            wait(futures.values())
        outcomes |= {name: future.result() for name, future in futures.items()}
        for name in [name for name in left if _lacked_memory(outcomes[name])]:
            log.warning("train: trial %s ran out of memory beside others; it is trained again alone", name)
            outcomes[name] = train(name)
        left = []
    return [outcomes[name] for name in trials]


def num_fitting(run: RunPlan, trials: Sequence[str]) -> int:
    """How many of these trials can train at once here; at least one."""
    configs = [run.config_of(name) for name in trials]
    if any(config.training.num_gpus > 1 for config in configs):
        return 1
    threads = [config.training.num_threads for config in configs]
    if any(config.device != "cpu" for config in configs) and gpus_here():
        fits = min(_fitting_into_gpu(run, name) for name in trials)
        by_cpu = int(usable_cpus())
    else:
        fits = len(trials)
        by_cpu = int(usable_cpus()) // max(threads) if all(threads) else 1  # a training that takes all processors
    need = max(memory_of_training(run.trial(name).config) for name in trials)
    return max(1, min(fits, by_cpu, int(free_memory() // (need * GIB))))


def _fitting_into_gpu(run: RunPlan, trial: str) -> int:
    measured = find(run.store_uri, training_kind(run.trial(trial).config))
    if measured is None or not measured[1] or not measured[0].gpu_bytes:
        return 1
    one = measured[0]
    return int(GPU_SHARE * one.gpu_bytes_total // (one.gpu_bytes + GPU_CONTEXT_BYTES))


def _lacked_memory(outcome: str) -> bool:
    fields = json.loads(outcome)
    return fields["status"] not in ("ok", STOPPED) and any(words in fields["error"].lower() for words in NO_MEMORY)
