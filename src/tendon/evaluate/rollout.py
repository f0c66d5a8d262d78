"""A policy and seeds in, one result per episode out: the policy stays here, the simulators are guests.

``eval.batch_size`` guests work at once, each with a thread; the caller's thread asks the policy for all that wait
(actor.py). A guest that dies or hangs is replaced and its episode recorded as crashed, never as a failure and never
tried again. Called by steps.evaluate_trials, steps.confirm and rollouts in training.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tendon.config.feature_map import FeatureMap
from tendon.config.schema import EnvConfig, EvalConfig
from tendon.evaluate.actor import ActingEpisode, Actions, Actor, BatchCheck, Reading
from tendon.evaluate.guest import Guest, GuestCrash
from tendon.evaluate.seed_check import SeedCheck, fingerprint, play_again

if TYPE_CHECKING:
    from tendon.evaluate.filming import Filming
    from tendon.policies.base import Policy

logger = logging.getLogger(__name__)

Status = Literal["success", "failure", "crashed"]
Array = NDArray[Any]
START_ATTEMPTS = 3  # so many starts in a row may fail before the evaluation is given up
USUAL_OF = 64  # as many of the last plays and resets say how long one usually takes


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
    rewards: tuple[float, ...] = field(default=(), compare=False, repr=False)
    start: str = field(default="", compare=False, repr=False)  # fingerprint of the first observation
    instructions: tuple[str, ...] = ()  # what the robot was told, one after another
    observations: tuple[dict[str, Array], ...] = field(default=(), compare=False, repr=False)  # T + 1, where asked for

    def row(self) -> dict[str, Any]:
        """The evaluation row, ready for JSON."""
        names = ("seed", "status", "steps", "sum_reward", "max_reward", "wall_s", "error", "attempt", "video")
        told = {"instructions": list(self.instructions)} if self.instructions else {}
        return {name: getattr(self, name) for name in names} | told


@dataclass(frozen=True)
class Replay:
    """An episode executed again with frames; ``note`` says in words when it did not end as it was recorded."""

    frames: list[Array]  # uint8 [H, W, 3], the first observation and every ``every``-th step
    status: Status
    agrees: bool
    note: str


@dataclass(frozen=True)
class Work:
    """What of an evaluation is left to do here, and who is told; the usual one is all of it, and nobody.

    An episode keeps its row of the batch, whoever plays it and whenever: its position among the seeds decides.
    """

    finished: Mapping[int, EpisodeResult] = field(default_factory=dict)  # by position among the seeds
    share: int = 0  # of ``shares`` machines: this one plays every shares-th batch of episodes
    shares: int = 1
    check: BatchCheck | None = None  # how the policy was asked before
    keep: Callable[[int, EpisodeResult], None] = lambda index, result: None
    guests: Sequence[Guest] = ()  # one for each row, which live on; none: each is started here and ended here
    watches: bool = False  # results have every observation

    def mine(self, num_episodes: int, rows: int) -> list[int]:
        """The positions of this machine's episodes, the finished ones too."""
        return [index for index in range(num_episodes) if index // rows % self.shares == self.share]


def evaluate_policy(
    policy: Policy,
    env: EnvConfig,
    eval: EvalConfig,
    seeds: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
    checked: Callable[[BatchCheck], None] | None = None,
    seed_checked: Callable[[SeedCheck], None] | None = None,
    work: Work | None = None,
    filming: Filming | None = None,
) -> list[EpisodeResult]:
    """Run one episode per seed and return the results in the order of ``seeds``.

    Args:
        policy: put it on the device you want.
        env: the task and its simulator.
        eval: number of guests, which is the number of rows of the policy's batches, and time limits.
        seeds: one episode each.
        progress: called with (episodes done, episodes in all), from this thread.
        checked: called once with how the policy was asked, and what a batch changes.
        seed_checked: called once with what came of playing one episode again; None plays none again.
        work: what is finished already, and which share of the rest is played here; the results are those of the share.
        filming: makes clips of episodes in the guests that have just played them.

    Raises:
        TendonError: the simulator is missing, cannot do the task, or does not start.
    """
    policy.eval()
    rows, work = max(1, eval.batch_size), work or Work()
    mine = work.mine(len(seeds), rows)
    results: dict[int, EpisodeResult] = {index: work.finished[index] for index in mine if index in work.finished}
    left = [index for index in mine if index not in results]
    if not left:
        return [results[index] for index in mine]
    features, check = FeatureMap.of(env), work.check
    if check is None and left[0] != 0:  # whoever begins looks at the first episode of all
        check = _first_check(policy, env, eval, seeds[0], rows)
        if checked is not None:
            checked(check)
    lanes = _Lanes(left, rows)
    inbox: queue.SimpleQueue[_Ask | _Done | BaseException] = queue.SimpleQueue()
    stop = threading.Event()
    reading = Reading.of(policy)
    guests = work.guests or [new_guest(env, eval, filming) for _ in range(min(rows, len(left)))]
    workers = [
        _Worker(row, rows, guest, reading, seeds, lanes, inbox, stop, filming)
        for row, guest in enumerate(guests[: len(left)])
    ]
    for worker in workers:
        worker.lives_on, worker.watches = bool(work.guests), work.watches
    if seed_checked is not None and workers:
        workers[0].plays_again = True
    service = _ActorService(policy, features, rows, checked, check)
    try:
        for worker in workers:
            worker.start()
        while len(results) < len(mine):
            for message in _messages(inbox, service.patience_s):
                if isinstance(message, BaseException):
                    raise message
                if isinstance(message, _Ask):
                    service.add(message)
                    continue
                results[message.index] = message.result
                work.keep(message.index, message.result)
                service.ended(message.index)
                if progress is not None:
                    progress(len(results), len(mine))
            slow = service.resets_are_slow
            service.answer(sum(worker.busy and not (worker.begins and slow) for worker in workers))
    finally:
        stop.set()
        for worker in workers:
            worker.answers.put(None)
            if len(results) < len(mine):
                worker.guest.kill()
        for worker in workers:
            if worker.ident is not None:
                worker.join()
    for played in filter(None, (worker.seed_check for worker in workers)):
        if seed_checked is not None:
            seed_checked(played)
    return [results[index] for index in mine]


def _first_check(policy: Policy, env: EnvConfig, eval: EvalConfig, seed: int, rows: int) -> BatchCheck:
    """What a batch changes on the first observation of the first episode, which is played by somebody else."""
    reading = Reading.of(policy)
    episode = ActingEpisode(seed, 0, reading.depth)
    with new_guest(env, eval) as guest:
        episode.history.append(guest.reset(seed))
        episode.instruction = guest.instruction
        if reading.wants_goal:
            episode.goal = guest.goal()
        return Actor(policy, guest.action_dim, FeatureMap.of(env), rows).compare(episode)


@dataclass(frozen=True)
class _Ask:
    """An episode that needs its next actions, where to say that it has them, and what it did since it had some."""

    index: int
    action_dim: int
    episode: ActingEpisode
    answers: queue.SimpleQueue[Any]
    took_s: float
    begins: bool  # it was reset meanwhile; no actions were executed


@dataclass(frozen=True)
class _Done:
    index: int
    result: EpisodeResult


class _Stopped(Exception):  # noqa: N818 - no error: the evaluation is over
    """Nobody waits for this episode any more."""


def _messages(inbox: queue.SimpleQueue[Any], patience_s: float | None) -> list[Any]:
    """All that has come; waits for the first one, at most as long as the actor has patience."""
    messages: list[Any] = []
    with contextlib.suppress(queue.Empty):
        messages.append(inbox.get(timeout=patience_s))
        while True:
            messages.append(inbox.get_nowait())
    return messages


class _Lanes:
    """Episodes by the row of the batch that they have: each guest has one row, and helps the others when it has done its own."""

    def __init__(self, indices: Sequence[int], rows: int) -> None:
        self._lanes = [deque(index for index in indices if index % rows == row) for row in range(rows)]
        self._lock = threading.Lock()

    def take(self, row: int) -> int | None:
        """The number of the next episode; None when there is none."""
        with self._lock:
            lane = self._lanes[row] or max(self._lanes, key=len)
            return lane.popleft() if lane else None


class _ActorService:
    """The policy's side, in the thread of the caller: collects who waits, and asks for all of them at once.

    A batch costs the same however few of its rows are asked for, and guests that wait leave their cores to the others: so it
    waits for all that can be expected, at most twice as long as simulators usually play, or as its last answer took.
    A simulator whose reset takes longer than that is not expected until it has come.
    """

    def __init__(
        self,
        policy: Policy,
        features: FeatureMap,
        rows: int,
        checked: Callable[[BatchCheck], None] | None,
        check: BatchCheck | None,
    ) -> None:
        self._policy, self._features, self._rows, self._checked = policy, features, rows, checked
        self._actor: Actor | None = None
        self._waiting: list[_Ask] = []
        self._since = self._answered = 0.0
        self._took_s: dict[bool, deque[float]] = {begins: deque(maxlen=USUAL_OF) for begins in (False, True)}
        self._check = check  # known from before: nobody has to wait for the first episode
        self._first_ended = (
            check is not None
        )  # the first episode ended before it asked anything: another one is looked at

    @property
    def patience_s(self) -> float | None:
        """Seconds to wait for a message; None: for ever."""
        if not self._waiting or self._holds:
            return None
        if self._actor is None or self._actor.rows == 1:
            return 0.0
        until = max(self._since + self._actor.last_s, self._answered + 2 * self._usual_s(begins=False))
        return max(0.0, until - time.monotonic())

    @property
    def _holds(self) -> bool:
        """Whether nothing is answered yet, because the batch is compared on the first episode, whoever comes first."""
        is_there = any(ask.index == 0 for ask in self._waiting)
        return self._actor is None and self._rows > 1 and not is_there and not self._first_ended

    @property
    def resets_are_slow(self) -> bool:
        """Whether a reset takes longer than playing the actions of one answer."""
        return self._usual_s(begins=True) > self._usual_s(begins=False)

    def _usual_s(self, *, begins: bool) -> float:
        return statistics.median(self._took_s[begins]) if self._took_s[begins] else 0.0

    def add(self, ask: _Ask) -> None:
        """One more episode waits."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(ask)
        self._took_s[ask.begins].append(ask.took_s)

    def ended(self, index: int) -> None:
        """An episode is over."""
        self._first_ended = self._first_ended or index == 0

    def answer(self, num_expected: int) -> None:
        """Ask the policy, if all that are expected wait or patience is over."""
        if not self._waiting or self._holds or (len(self._waiting) < num_expected and self.patience_s != 0.0):
            return
        if self._actor is None:
            self._actor = self._started(min(self._waiting, key=lambda ask: ask.index))
        asks, self._waiting = self._waiting, []
        self._actor.ask([ask.episode for ask in asks])
        self._answered = time.monotonic()
        for ask in asks:
            ask.answers.put(True)

    def _started(self, first: _Ask) -> Actor:
        if self._check is not None:
            known = self._check
            return Actor(self._policy, first.action_dim, self._features, known.rows, rows_apart=known.rows_apart)
        actor = Actor(self._policy, first.action_dim, self._features, self._rows)
        check = actor.compare(first.episode)
        if not check.bit_equal:
            how = f"asked in batches of {check.rows}" if check.rows > 1 else "so it is asked for one episode at a time"
            logger.info("rollout: a batch changes actions by up to %.2g, %s", check.max_difference, how)
        if self._checked is not None:
            self._checked(check)
        return actor


class _Worker(threading.Thread):
    """One guest: plays episodes until there are none, and has the actor plan them."""

    def __init__(
        self,
        row: int,
        rows: int,
        guest: Guest,
        reading: Reading,
        seeds: Sequence[int],
        lanes: _Lanes,
        inbox: queue.SimpleQueue[_Ask | _Done | BaseException],
        stop: threading.Event,
        filming: Filming | None,
    ) -> None:
        super().__init__(daemon=True)
        self.filming = filming
        self.row, self.guest, self.seeds, self.lanes, self.inbox = row, guest, seeds, lanes, inbox
        self.stopped = stop
        self.answers: queue.SimpleQueue[bool | None] = queue.SimpleQueue()
        self.busy = False  # an episode is being played, which will ask for actions
        self.begins = False  # it is being reset
        self.reading = reading
        self.rows = rows
        self.plays_again = False
        self.lives_on = self.watches = False  # see Work
        self.seed_check: SeedCheck | None = None
        self._last: EpisodeResult | None = None

    def run(self) -> None:
        """Episodes to ``inbox``, errors too: the caller raises them."""
        try:
            while not self.stopped.is_set():
                index = self.lanes.take(self.row)
                if index is None:
                    self._play_again()
                    return
                if not self.guest.alive:
                    _start(self.guest, self.stopped)
                    if self.stopped.is_set():
                        return
                self.busy = True
                result = self._play(index)
                self.busy = False
                self.inbox.put(_Done(index, result))
                if result.status == "crashed":
                    self.guest.kill()
                else:
                    self._last = result
                    if self.filming is not None:
                        self.filming.follow(self.guest, index, result.seed, result.status)
        except _Stopped:
            return
        except BaseException as error:  # the caller raises it
            self.inbox.put(error)
        finally:
            self.busy = False
            if not self.lives_on:
                self.guest.close()

    def _play_again(self) -> None:
        last = self._last
        if self.plays_again and last is not None and self.guest.alive:
            self.seed_check = play_again(self.guest, last.seed, last.start, last.actions, last.rewards)

    def _play(self, index: int) -> EpisodeResult:
        episode = ActingEpisode(self.seeds[index], index % self.rows, self.reading.depth)
        since, self.begins = time.monotonic(), True

        def act(observation: dict[str, Array]) -> Actions:
            nonlocal since
            episode.history.append(observation)
            if not episode.planned:
                took_s = time.monotonic() - since
                self.inbox.put(_Ask(index, self.guest.action_dim, episode, self.answers, took_s, self.begins))
                self.begins = False
                if self.answers.get() is None:
                    raise _Stopped
                since = time.monotonic()
            return episode.planned.popleft()

        return run_episode(self.guest, episode, act, wants_goal=self.reading.wants_goal, watches=self.watches)


def new_guest(env: EnvConfig, eval: EvalConfig, filming: Filming | None = None) -> Guest:
    """A simulator of this task, not started yet."""
    films = filming is not None
    return Guest(env, start_timeout_s=eval.start_timeout_s, step_timeout_s=eval.step_timeout_s, films=films)


def _start(guest: Guest, stop: threading.Event) -> None:
    for attempt in range(START_ATTEMPTS):
        try:
            return guest.start()
        except GuestCrash:  # noqa: PERF203
            if stop.is_set() or attempt == START_ATTEMPTS - 1:
                raise


def run_episode(
    guest: Guest,
    episode: ActingEpisode,
    act: Callable[[dict[str, Array]], Actions],
    *,
    wants_goal: bool = False,
    watches: bool = False,
) -> EpisodeResult:
    """One episode, until the first success, the end the simulator declares, or ``env.episode_length`` steps.

    Args:
        guest: the simulator, which has started.
        episode: fresh.
        act: from what is observed now to the action that is executed next.
        wants_goal: the policy is shown what there is at the end.
        watches: the result has every observation.
    """
    started = time.monotonic()
    actions: list[Actions] = []
    rewards: list[float] = []
    instructions: list[str] = []
    seen: list[dict[str, Array]] = []
    status: Status = "failure"
    error = start = ""
    try:
        observation = guest.reset(episode.seed)
        start = fingerprint(observation)
        seen.append(observation)
        episode.instruction = guest.instruction
        instructions += [guest.instruction] if guest.instruction else []
        if wants_goal:
            episode.goal = guest.goal()
        while len(rewards) < guest.env.episode_length:
            planned = [act(observation), *episode.planned][: guest.env.episode_length - len(rewards)]
            finite = list(takewhile(lambda action: np.isfinite(action).all(), planned))
            if not finite:
                error = f"the policy gave a value that is not finite at step {len(actions)}"
                break
            try:
                played = guest.steps(finite, len(finite) if watches else episode.depth)
            except GuestCrash as crash:
                rewards += crash.rewards
                actions += finite[: len(crash.rewards) + 1]
                raise
            actions += finite[: len(played)]
            rewards += [stepped.reward for stepped in played]
            for stepped in played[:-1]:
                episode.planned.popleft()
                if stepped.observation:
                    episode.history.append(stepped.observation)
            last = played[-1]
            observation = last.observation
            if watches:
                seen += [stepped.observation for stepped in played]
            if last.success:
                status = "success"
            if last.success or last.done:
                break
            if guest.instruction != episode.instruction:  # actions that were planned obey the words before
                episode.instruction = guest.instruction
                episode.planned.clear()
                instructions.append(guest.instruction)
    except GuestCrash as crash:
        status, error = "crashed", f"step {len(rewards)}: {crash.why}" + (f"\n{crash.tail}" if crash.tail else "")
    return EpisodeResult(
        episode.seed,
        status,
        len(rewards),
        float(sum(rewards)),
        max(rewards, default=0.0),
        time.monotonic() - started,
        error,
        actions=np.array(actions, np.float64).reshape(len(actions), guest.action_dim),
        rewards=tuple(rewards),
        start=start,
        instructions=tuple(instructions),
        observations=tuple(seen) if watches else (),
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
