"""A simulator's scripted expert in, a robomimic HDF5 of its successful episodes out.

The layout is the one that robomimic's own tools read: data/demo_<i> with actions, states, rewards, dones, obs,
next_obs, and mask/train, mask/valid. Same seed, same bytes, whatever the number of guests. Called by steps and
`tendon demo-data`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tendon.config.schema import EnvConfig
from tendon.errors import ConfigError, DataError, StorageError, TendonError
from tendon.evaluate import seeds
from tendon.evaluate.guest import Guest, GuestCrash, SimState

logger = logging.getLogger(__name__)

Array = NDArray[Any]
VALID_SHARE = 0.1
MAX_LOST = 20  # so many unsuccessful episodes more than successful ones and the expert is not one


@dataclass(frozen=True)
class DemosReport:
    """What was recorded."""

    path: Path
    episodes: int
    frames: int
    failed_seeds: tuple[int, ...]  # the expert did not succeed: left out
    crashed_seeds: tuple[int, ...]  # the simulator crashed: left out


@dataclass(frozen=True)
class _Episode:
    """One attempt of the expert; observations have one entry more than actions."""

    seed: int
    outcome: str  # success, failure, crashed
    why: str
    observations: dict[str, Array]
    actions: Array
    rewards: Array
    states: Array
    first: SimState


def record_demos(
    env: EnvConfig,
    episodes: int,
    seed: int,
    path: str | Path,
    *,
    noise: float = 0.05,
    images: bool = False,
    num_guests: int = 2,
    step_timeout_s: float = 20.0,
    progress: Callable[[int, int], None] | None = None,
) -> DemosReport:
    """Record ``episodes`` successful episodes of the scripted expert, seeds ``seed``, ``seed + 1``, ... in order.

    Args:
        env: the task; its ``observation`` names what is stored.
        episodes: how many are kept.
        seed: the first seed, in the block of demonstrations.
        path: the HDF5 file, which appears when it is finished.
        noise: standard deviation of what is added to the expert's actions (they are stored as executed); it shows a
            learner how to come back from where it should not be.
        images: store the simulator's cameras as well.
        num_guests: how many record at once; does not change the file.
        step_timeout_s: a guest that takes longer for a step is killed, its episode left out.
        progress: called with (episodes kept, episodes in all).
    """
    path = Path(path)
    todo = _seeds(seed, episodes)
    failed: list[int] = []
    crashed: list[int] = []
    with _new_file(path) as file:
        data = file.create_group("data")
        frames = kept = 0
        with _recording(env, todo, noise, images, max(1, min(num_guests, episodes)), step_timeout_s) as attempts:
            while kept < episodes:
                attempt = next(attempts)
                if attempt.outcome == "success":
                    _write_episode(data.create_group(f"demo_{kept}"), attempt)
                    if not kept:
                        data.attrs["env_args"] = attempt.first.env_args
                    kept, frames = kept + 1, frames + len(attempt.actions)
                    if progress is not None:
                        progress(kept, episodes)
                else:
                    logger.info("demos: left out seed %d, %s: %s", attempt.seed, attempt.outcome, attempt.why)
                    (failed if attempt.outcome == "failure" else crashed).append(attempt.seed)
                    if len(failed) + len(crashed) > kept + MAX_LOST:
                        raise _no_expert(env, kept, failed, crashed)
        data.attrs["total"] = frames
        _write_masks(file, kept, seed)
    if failed or crashed:
        logger.warning("demos: left out %d failed and %d crashed episodes of %s", len(failed), len(crashed), env.name)
    return DemosReport(path, kept, frames, tuple(failed), tuple(crashed))


def _seeds(seed: int, episodes: int) -> Iterator[int | None]:
    """Seeds from ``seed`` to the end of their block, then None for ever; an error now if they cannot be enough."""
    seeds.demonstrations(seed, episodes)
    return itertools.chain(range(seed, seeds.DEMONSTRATIONS.last + 1), itertools.repeat(None))


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Any]:
    """An HDF5 file that appears under its name only when everything was written."""
    import h5py

    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        with h5py.File(temporary, "w") as file:
            yield file
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        why = f"{type(error).__name__}: {error}"
        raise StorageError(
            "cannot write demonstrations", where=str(path), why=why, fix="free the disk, or give another path"
        ) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


@contextlib.contextmanager
def _recording(
    env: EnvConfig, todo: Iterator[int | None], noise: float, images: bool, num_guests: int, step_timeout_s: float
) -> Iterator[Iterator[_Episode]]:
    """Attempts in seed order, made ahead by guests in threads; nothing is left running at the end."""
    stop = threading.Event()
    lock = threading.Lock()
    ahead = threading.Semaphore(4 * num_guests)  # so many attempts may lie ready: bounds the memory
    done: queue.SimpleQueue[tuple[int, _Episode | BaseException]] = queue.SimpleQueue()
    numbered = enumerate(todo)
    guests = [Guest(env, step_timeout_s=step_timeout_s) for _ in range(num_guests)]

    def work(guest: Guest) -> None:
        try:
            guest.start()
            if images and not guest.cameras:
                guest.close()
                guest.cameras, guest.draws = guest.features.named_cameras(guest.offered_cameras), True
                guest.start()
            while True:
                ahead.acquire()
                with lock:
                    number, seed = next(numbered)
                if stop.is_set() or seed is None:
                    done.put((number, _exhausted(env)))
                    return
                if not guest.alive:
                    guest.replace()
                done.put((number, _attempt(guest, seed, noise)))
        except BaseException as error:  # the consumer raises it
            done.put((-1, error))
        finally:
            guest.close()

    def in_order() -> Iterator[_Episode]:
        ready: dict[int, _Episode | BaseException] = {}
        number = 0
        while True:
            while number not in ready:
                index, item = done.get()
                if index < 0 and isinstance(item, BaseException):
                    raise item
                ready[index] = item
            next_one = ready.pop(number)
            if isinstance(next_one, BaseException):
                raise next_one
            yield next_one
            ahead.release()
            number += 1

    workers = [threading.Thread(target=work, args=(guest,), daemon=True) for guest in guests]
    try:
        for worker in workers:
            worker.start()
        yield in_order()
    finally:
        stop.set()
        for guest in guests:
            ahead.release()
            guest.kill()
        for worker in workers:
            if worker.ident is not None:
                worker.join()


def _attempt(guest: Guest, seed: int, noise: float) -> _Episode:
    """One episode of the expert, until it succeeds or its time is over."""
    observations: list[dict[str, Array]] = []
    actions: list[Array] = []
    rewards: list[float] = []
    states: list[Array] = []
    outcome, why = "failure", f"no success within {guest.env.episode_length} steps"
    first = SimState(np.zeros(0), "", "")
    try:
        observations.append(guest.reset(seed))
        guest.reset_expert(seed, noise)
        first = guest.state(texts=True)
        for step in range(guest.env.episode_length):
            states.append(guest.state(texts=False).states if step else first.states)
            action = guest.expert()
            stepped = guest.step(action)
            actions.append(action)
            rewards.append(stepped.reward)
            observations.append(stepped.observation)
            if stepped.success or stepped.done:
                outcome = "success" if stepped.success else "failure"
                break
    except GuestCrash as crash:
        outcome, why = "crashed", crash.why
        guest.kill()
    if outcome != "success":
        return _Episode(seed, outcome, why, {}, np.zeros(0), np.zeros(0), np.zeros(0), first)
    keys = _stored_keys(guest, observations[0])
    stacked = {key: np.stack([observation[key] for observation in observations]) for key in keys}
    return _Episode(seed, outcome, "", stacked, np.stack(actions), np.array(rewards), np.stack(states), first)


def _stored_keys(guest: Guest, observation: dict[str, Array]) -> list[str]:
    wanted = {*guest.env.observation, *(camera.observation for camera in guest.cameras)}
    missing = sorted(wanted - set(observation))
    if missing:
        raise DataError(
            f"the simulator does not observe {missing[0]!r}",
            where=f"env.observation of {guest.env.name}",
            why=f"it observes {', '.join(sorted(observation))}",
            fix="name only these in env.observation",
        )
    return sorted(wanted)


def _write_episode(group: Any, episode: _Episode) -> None:
    """One demo_<i>; float64 for numbers, uint8 for images, as robomimic writes them."""
    num_samples = len(episode.actions)
    dones = (episode.rewards > 0).astype(np.int64)
    dones[-1] = 1
    group.attrs["num_samples"] = num_samples
    group.attrs["seed"] = episode.seed
    if episode.first.model_file:
        group.attrs["model_file"] = episode.first.model_file
    group["actions"] = episode.actions.astype(np.float64)
    group["states"] = episode.states
    group["rewards"] = episode.rewards.astype(np.float64)
    group["dones"] = dones
    for key, values in episode.observations.items():
        typed = values if values.dtype == np.uint8 else values.astype(np.float64)
        group[f"obs/{key}"] = typed[:-1]
        group[f"next_obs/{key}"] = typed[1:]


def _write_masks(file: Any, kept: int, seed: int) -> None:
    """One episode of ten is for validation; which ones is drawn from the seed."""
    num_valid = max(1, round(VALID_SHARE * kept)) if kept > 1 else 0
    valid = set(np.random.default_rng(seed).permutation(kept)[:num_valid].tolist())
    for name, chosen in (("train", set(range(kept)) - valid), ("valid", valid)):
        file[f"mask/{name}"] = np.array([f"demo_{index}" for index in sorted(chosen)], dtype="S")


def _no_expert(env: EnvConfig, kept: int, failed: list[int], crashed: list[int]) -> TendonError:
    return DataError(
        f"the scripted expert of {env.name} fails too often",
        where=f"seeds {json.dumps((failed + crashed)[:10])} ...",
        why=f"{kept} episodes succeeded, {len(failed)} failed, {len(crashed)} crashed",
        fix="lower the noise, raise env.episode_length, or look at one seed",
    )


def _exhausted(env: EnvConfig) -> TendonError:
    return ConfigError(
        f"the demonstrations block has no seeds left for {env.name}",
        where=f"seeds up to {seeds.DEMONSTRATIONS.last}",
        why="too many episodes of the expert did not succeed",
        fix="start from a smaller seed, or ask for fewer episodes",
    )
