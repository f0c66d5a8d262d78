"""A policy and seeds in, one result per episode out: the policy stays here, the simulators are guests.

``eval.batch_size`` guests work at once, each with an actor of its own; the policy is asked for one episode at a time,
so a result depends on the seed alone. A guest that dies or hangs is replaced and its episode recorded as crashed, never
as a failure and never tried again. Called by steps.evaluate_trials, steps.confirm and rollouts in training.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tendon.config.schema import EnvConfig, EvalConfig
from tendon.errors import ConfigError
from tendon.evaluate.guest import IMAGE_SUFFIX, Guest, GuestCrash

if TYPE_CHECKING:
    from tendon.policies.base import Policy

logger = logging.getLogger(__name__)

Status = Literal["success", "failure", "crashed"]
Array = NDArray[Any]
Actions = NDArray[np.float64]  # [T, D]
IMAGES = "observation.images."
OBSERVATION = "observation."
GOAL = "goal."
START_ATTEMPTS = 3  # so many starts in a row may fail before the evaluation is given up


@dataclass(frozen=True)
class EpisodeResult:
    """One episode; ``row`` is what episodes.jsonl keeps of it."""

    seed: int
    status: Status
    steps: int
    sum_reward: float
    max_reward: float
    wall_s: float = field(compare=False)
    error: str = ""
    attempt: int = 1
    video: str = ""
    actions: Actions = field(default_factory=lambda: np.zeros((0, 0)), compare=False, repr=False)

    def row(self) -> dict[str, Any]:
        """The evaluation row, ready for JSON."""
        names = ("seed", "status", "steps", "sum_reward", "max_reward", "wall_s", "error", "attempt", "video")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Replay:
    """An episode executed again with frames; ``note`` says in words when it did not end as it was recorded."""

    frames: list[Array]  # uint8 [H, W, 3], the first observation and every ``every``-th step
    status: Status
    agrees: bool
    note: str


class Actor:
    """Asks a policy for the actions of one episode: keeps its history, its memory and the actions not yet executed."""

    def __init__(self, policy: Policy, action_dim: int) -> None:
        self.policy = policy
        self.action_dim = action_dim
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin the episode of ``seed``: nothing of the one before is left, and what the policy draws depends on the seed alone."""
        oldest = min(min(span.deltas) for span in self.policy.windows.acting.values())
        self.history: deque[dict[str, Array]] = deque(maxlen=1 - oldest)
        self.memory: Any = self.policy.start(seed)
        self.goal: dict[str, Array] = {}
        self.queue: deque[Actions] = deque()

    @property
    def wants_goal(self) -> bool:
        """Whether the policy is shown what there is at the end; put it into ``goal``."""
        return any(key.startswith(GOAL) for key in self.policy.windows.acting)

    def act(self, observation: dict[str, Array]) -> Actions:
        """The action for the newest observation (bare simulator names)."""
        import torch

        self.history.append(observation)
        if not self.queue:
            device = next((tensor.device for tensor in self.policy.parameters()), torch.device("cpu"))
            batch = {key: torch.as_tensor(self._window(key), device=device) for key in self.policy.windows.acting}
            with torch.inference_mode():
                given, self.memory = self.policy.act(batch, self.memory)
            actions = torch.cat(
                [given[key][0, : self.policy.windows.execute].double() for key in self.policy.writes], -1
            )
            self.queue.extend(actions.cpu().numpy())
            if self.queue[0].shape != (self.action_dim,):
                raise ConfigError(
                    f"the policy gives {self.queue[0].size} actions, the simulator takes {self.action_dim}",
                    where="rollout",
                    why="the policy was trained for another task or robot",
                    fix="choose the env that its demonstrations come from",
                )
        return self.queue.popleft()

    def _window(self, key: str) -> Array:
        """``[1, T, ...]``; before the start of the episode its first observation is repeated."""
        newest, deltas = len(self.history) - 1, self.policy.windows.acting[key].deltas
        if key.startswith(GOAL):
            values = [_named(self.goal, key.removeprefix(GOAL))]
        else:
            values = [_named(self.history[max(0, newest + delta)], key) for delta in deltas]
        stacked = np.stack(values)[None]
        return stacked if stacked.dtype == np.uint8 else stacked.astype(np.float32)


def evaluate_policy(
    policy: Policy,
    env: EnvConfig,
    eval: EvalConfig,
    seeds: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> list[EpisodeResult]:
    """Run one episode per seed and return the results in the order of ``seeds``.

    Args:
        policy: shared by all guests; put it in evaluation mode on the device you want.
        env: the task and its simulator.
        eval: number of guests and time limits.
        seeds: one episode each.
        progress: called with (episodes done, episodes in all), from this thread.

    Raises:
        TendonError: the simulator is missing, cannot do the task, or does not start.
    """
    policy.eval()
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(seeds)):
        todo.put(index)
    done: queue.SimpleQueue[tuple[int, EpisodeResult] | BaseException] = queue.SimpleQueue()
    guests = [_guest(env, eval) for _ in range(max(1, min(eval.batch_size, len(seeds))))]
    stop = threading.Event()
    workers = [
        threading.Thread(target=_work, args=(guest, policy, seeds, todo, done, stop), daemon=True) for guest in guests
    ]
    results: dict[int, EpisodeResult] = {}
    try:
        for worker in workers:
            worker.start()
        while len(results) < len(seeds):
            finished = done.get()
            if isinstance(finished, BaseException):
                raise finished
            results[finished[0]] = finished[1]
            if progress is not None:
                progress(len(results), len(seeds))
    finally:
        stop.set()
        if len(results) < len(seeds):
            for guest in guests:
                guest.kill()
        for worker in workers:
            if worker.ident is not None:
                worker.join()
    return [results[index] for index in range(len(seeds))]


def _guest(env: EnvConfig, eval: EvalConfig) -> Guest:
    return Guest(env, start_timeout_s=eval.start_timeout_s, step_timeout_s=eval.step_timeout_s)


def _work(
    guest: Guest,
    policy: Policy,
    seeds: Sequence[int],
    todo: queue.SimpleQueue[int],
    done: queue.SimpleQueue[tuple[int, EpisodeResult] | BaseException],
    stop: threading.Event,
) -> None:
    """One thread with one guest: episodes from ``todo`` to ``done`` until there are none."""
    try:
        actor: Actor | None = None
        while not stop.is_set():
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            if actor is None:
                _start(guest, stop)
                if stop.is_set():
                    return
                actor = Actor(policy, guest.action_dim)
            result = run_episode(guest, actor, seeds[index])
            done.put((index, result))
            if result.status == "crashed":
                guest.kill()
                actor = None
    except BaseException as error:  # the main thread raises it
        done.put(error)
    finally:
        guest.close()


def _start(guest: Guest, stop: threading.Event) -> None:
    for attempt in range(START_ATTEMPTS):
        try:
            return guest.start()
        except GuestCrash:  # noqa: PERF203
            if stop.is_set() or attempt == START_ATTEMPTS - 1:
                raise


def run_episode(guest: Guest, actor: Actor, seed: int) -> EpisodeResult:
    """One episode, until the first success, the end the simulator declares, or ``env.episode_length`` steps."""
    started = time.monotonic()
    actions: list[Actions] = []
    rewards: list[float] = []
    status: Status = "failure"
    error = ""
    try:
        actor.reset(seed)
        observation = guest.reset(seed)
        if actor.wants_goal:
            actor.goal = guest.goal()
        for _ in range(guest.env.episode_length):
            action = actor.act(observation)
            if not np.isfinite(action).all():
                error = f"the policy gave a value that is not finite at step {len(actions)}"
                break
            actions.append(action)
            stepped = guest.step(action)
            rewards.append(stepped.reward)
            observation = stepped.observation
            if stepped.success:
                status = "success"
            if stepped.success or stepped.done:
                break
    except GuestCrash as crash:
        status, error = "crashed", f"step {len(rewards)}: {crash.why}" + (f"\n{crash.tail}" if crash.tail else "")
    return EpisodeResult(
        seed,
        status,
        len(rewards),
        float(sum(rewards)),
        max(rewards, default=0.0),
        time.monotonic() - started,
        error,
        actions=np.array(actions, np.float64).reshape(len(actions), actor.action_dim),
    )


@contextlib.contextmanager
def drawing_guest(env: EnvConfig, eval: EvalConfig) -> Iterator[Guest]:
    """A guest that can draw, for ``render_episode``."""
    guest = Guest(env, cameras=(), start_timeout_s=eval.start_timeout_s, step_timeout_s=eval.step_timeout_s, draws=True)
    with guest:
        yield guest


def render_episode(
    guest: Guest,
    seed: int,
    actions: Actions,
    *,
    recorded: Status = "success",
    size: int = 256,
    every: int = 1,
    camera: str = "",
) -> Replay:
    """Execute recorded actions again and draw what happens.

    Args:
        guest: from ``drawing_guest``; one serves any number of episodes.
        seed: of the episode.
        actions: ``[T, D]``, as in EpisodeResult.
        recorded: how the episode ended when it was recorded.
        size: pixels of the square frame.
        every: draw every so many steps (the last one always).
        camera: "" is the simulator's own choice.
    """
    frames: list[Array] = []
    status: Status = "failure"
    try:
        if not guest.alive:
            guest.replace()
        guest.reset(seed)
        frames.append(guest.render(size, size, camera))
        for step, action in enumerate(actions, 1):
            stepped = guest.step(action)
            last = stepped.success or stepped.done or step == len(actions)
            if step % every == 0 or last:
                frames.append(guest.render(size, size, camera))
            if stepped.success:
                status = "success"
            if last:
                break
    except GuestCrash as crash:
        status = "crashed"
        logger.warning("rollout: seed %d crashed while it was drawn: %s", seed, crash.why)
    agrees = status == recorded
    note = "" if agrees else f"recorded as {recorded}, but ends as {status} when its actions are executed again"
    return Replay(frames, status, agrees, note)


def _named(observation: dict[str, Array], key: str) -> Array:
    """The value of a feature (``observation.object``) in what a guest says (``object``)."""
    name = key[len(IMAGES) :] if key.startswith(IMAGES) else key.removeprefix(OBSERVATION)
    if name not in observation:
        raise ConfigError(
            f"the simulator does not observe {name!r}",
            where=f"policy input {key}",
            why=f"it observes {', '.join(sorted(observation))}",
            fix=f"add {name} to env.observation"
            if name.endswith(IMAGE_SUFFIX)
            else "choose the env the policy was trained for",
        )
    return observation[name]
