"""A simulator's scripted expert at work: its successful episodes, in the order of their seeds, whatever the number of guests.

Called by demos.py (a robomimic file) and demo_episodes.py (Episodes for ``convert`` and every writer).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tendon.config.feature_map import TASK
from tendon.config.schema import EnvConfig
from tendon.errors import ConfigError, DataError, TendonError
from tendon.evaluate import seeds
from tendon.evaluate.attempt import Attempt
from tendon.evaluate.guest import Guest, GuestCrash, SimState
from tendon.evaluate.recording import Recording

logger = logging.getLogger(__name__)

Array = NDArray[Any]
VALID_SHARE = 0.1
MAX_LOST = 20  # so many unsuccessful episodes more than successful ones and the expert is not one
NO_STATE = SimState(np.zeros(0), "", "")


@dataclass(frozen=True)
class ExpertSettings:
    """What is recorded, and how."""

    env: EnvConfig
    episodes: int
    seed: int  # the first one, in the block of demonstrations
    noise: float = 0.05  # of the executed actions
    images: bool = False  # of all cameras that the simulator offers
    num_guests: int = 2  # how many record at once; does not change what is recorded
    step_timeout_s: float = 20.0
    recording: Recording | None = None  # attempts are kept there, and found by the next one


@dataclass
class Lost:
    """Seeds that are left out."""

    failed: list[int] = field(default_factory=list)
    crashed: list[int] = field(default_factory=list)


@contextlib.contextmanager
def successes(
    settings: ExpertSettings, lost: Lost, *, states: bool, progress: Callable[[int, int], None] | None = None
) -> Iterator[Iterator[Attempt]]:
    """The successful episodes of seeds ``settings.seed``, ``settings.seed + 1``, ... in order.

    Args:
        settings: what is recorded.
        lost: gets the seeds that are left out.
        states: the simulator's state at every step is recorded too; the simulator must be able to show it.
        progress: called with (episodes kept, episodes in all).
    """
    with _recording(settings, states) as attempts:
        yield _kept(settings, attempts, lost, progress)
    if lost.failed or lost.crashed:
        counts = len(lost.failed), len(lost.crashed), settings.env.name
        logger.warning("demos: left out %d failed and %d crashed episodes of %s", *counts)


def validation_episodes(kept: int, seed: int) -> set[int]:
    """One episode of ten is for validation; which ones is drawn from the seed."""
    num_valid = max(1, round(VALID_SHARE * kept)) if kept > 1 else 0
    return set(np.random.default_rng(seed).permutation(kept)[:num_valid].tolist())


def _kept(
    settings: ExpertSettings,
    attempts: Iterator[Attempt],
    lost: Lost,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Attempt]:
    kept = 0
    while kept < settings.episodes:
        attempt = next(attempts)
        if attempt.outcome == "success":
            yield attempt
            kept += 1
            if progress is not None:
                progress(kept, settings.episodes)
            continue
        logger.info("demos: left out seed %d, %s: %s", attempt.seed, attempt.outcome, attempt.why)
        (lost.failed if attempt.outcome == "failure" else lost.crashed).append(attempt.seed)
        if len(lost.failed) + len(lost.crashed) > kept + MAX_LOST:
            raise _no_expert(settings.env, kept, lost.failed, lost.crashed)


def _seeds(seed: int, episodes: int) -> Iterator[int | None]:
    """Seeds from ``seed`` to the end of their block, then None for ever; an error now if they cannot be enough."""
    seeds.demonstrations(seed, episodes)
    return itertools.chain(range(seed, seeds.DEMONSTRATIONS.last + 1), itertools.repeat(None))


@contextlib.contextmanager
def _recording(settings: ExpertSettings, states: bool) -> Iterator[Iterator[Attempt]]:
    """Attempts in seed order, made ahead by guests in threads; nothing is left running at the end."""
    env, num_guests = settings.env, max(1, min(settings.num_guests, settings.episodes))
    stop = threading.Event()
    lock = threading.Lock()
    ahead = threading.Semaphore(4 * num_guests)  # so many attempts may lie ready: bounds the memory
    done: queue.SimpleQueue[tuple[int, Attempt | BaseException]] = queue.SimpleQueue()
    numbered = enumerate(_seeds(settings.seed, settings.episodes))
    guests = [Guest(env, step_timeout_s=settings.step_timeout_s) for _ in range(num_guests)]

    def work(guest: Guest) -> None:
        try:
            guest.start()
            if settings.images and not guest.cameras:
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
                done.put((number, _found_or_made(guest, seed, settings, states)))
        except BaseException as error:  # the consumer raises it
            done.put((-1, error))
        finally:
            guest.close()

    def in_order() -> Iterator[Attempt]:
        ready: dict[int, Attempt | BaseException] = {}
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


def _found_or_made(guest: Guest, seed: int, settings: ExpertSettings, states: bool) -> Attempt:
    """The attempt of an earlier recording that was stopped, or a new one, which is kept."""
    recording = settings.recording
    found = recording.find(seed) if recording is not None else None
    if found is not None:
        return found
    if not guest.alive:
        guest.replace()
    made = _attempt(guest, seed, settings.noise, states)
    if recording is not None:
        recording.keep(made)
    return made


def _attempt(guest: Guest, seed: int, noise: float, with_states: bool) -> Attempt:
    """One episode of the expert, until it succeeds or its time is over."""
    observations: list[dict[str, Array]] = []
    actions: list[Array] = []
    rewards: list[float] = []
    states: list[Array] = []
    outcome, why = "failure", f"no success within {guest.env.episode_length} steps"
    first = NO_STATE
    try:
        observations.append(guest.reset(seed))
        guest.reset_expert(seed, noise)
        first = _first_state(guest, with_states)
        for step in range(guest.env.episode_length):
            if with_states:
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
        return Attempt(seed, outcome, why, {}, np.zeros(0), np.zeros(0), np.zeros(0), first)
    keys = _stored_keys(guest, observations[0])
    stacked = {key: np.stack([observation[key] for observation in observations]) for key in keys}
    all_states = np.stack(states) if states else np.zeros(0)
    return Attempt(
        seed, outcome, "", stacked, np.stack(actions), np.array(rewards), all_states, first, guest.instruction
    )


def _first_state(guest: Guest, needed: bool) -> SimState:
    """The state and what the simulator says of itself; nothing where it cannot show them and nobody needs them."""
    try:
        return guest.state(texts=True)
    except ConfigError:
        if needed:
            raise
        return NO_STATE


def _stored_keys(guest: Guest, observation: dict[str, Array]) -> list[str]:
    wanted = {*guest.env.observation, *(camera.observation for camera in guest.cameras)}
    wanted |= {name for name in (*guest.features.keys, *guest.features.kinds) if name in observation}
    if guest.instruction:  # an episode has it as its task
        wanted -= {name for name in wanted - set(observation) if guest.features.key_of(name) == TASK}
    missing = sorted(wanted - set(observation))
    if missing:
        raise DataError(
            f"the simulator does not observe {missing[0]!r}",
            where=f"env.observation of {guest.env.name}",
            why=f"it observes {', '.join(sorted(observation))}",
            fix="name only these in env.observation",
        )
    return sorted(wanted)


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
