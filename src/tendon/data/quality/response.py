"""Faults between actions and what follows: shifts, signs, steps that are missing.

A linear model of all episodes says how the state changes after an action. An episode is odd when the model fits it
better with the action moved by a step, or with a sign turned, and does so for none of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tendon.data.check import Finding
from tendon.data.quality.robust import TINY, best_stretch, center_and_spread, far_above, sparkline
from tendon.data.quality.trajectory import Trajectory

LAGS = (-3, -2, -1, 0, 1, 2, 3)
LATE = (-12, -10, -8, -6, -5, -4, -3, -2, 2, 3, 4, 5, 6, 8, 10, 12)  # steps that one number of the action may be late
EXPLAINED = 0.15  # of the variance of a number of the state, to be judged by
CLIP = 8.0
LARGEST = 4.0  # times the usual largest change of an episode
BETTER = 0.85  # the error must shrink to this share of itself
BETTER_ALONE = 0.75  # of one number of the action: many are tried
LEAST_SAVED = 0.5  # of what an episode usually leaves unexplained, by turning one number in a stretch
FEWEST_TURNED = 3  # steps of it
LEAST_GAIN = 0.25  # of signs turned together, as a logarithm
TURNED = 3  # numbers of the action
SPREADS = 5.0
LEAST_ODD, ODD_SPREADS = 0.5, 4.0  # of the logarithm of an error
MAX_FITTED = 400_000  # steps


@dataclass(frozen=True)
class Model:
    """``change = [action, state, 1] @ weights``, all in usual units; ``judged`` are the numbers of the state it explains."""

    state_center: np.ndarray
    state_unit: np.ndarray
    action_center: np.ndarray
    action_unit: np.ndarray
    most: np.ndarray  # changes of a number of the state are cut there
    weights: np.ndarray
    judged: np.ndarray
    scale: np.ndarray  # of what is left, per number of the state

    @classmethod
    def fit(cls, trajectories: Sequence[Trajectory]) -> Model | None:
        """Least squares over all steps; what lies far outside is cut, so that faulty episodes do not lead it."""
        state_center, state_unit = _center_and_unit([each.state for each in trajectories])
        action_center, action_unit = _center_and_unit([each.action for each in trajectories])
        nothing = np.empty(0)
        largest = [np.abs(np.diff(each.state, axis=0)).max(0) for each in trajectories]
        most = LARGEST * np.median(np.stack(largest), 0) / state_unit
        empty = cls(state_center, state_unit, action_center, action_unit, most, nothing, nothing, nothing)
        every = max(1, sum(each.length for each in trajectories) // MAX_FITTED)
        pairs = [empty.inputs_and_changes(each) for each in trajectories]
        X, Y = (np.concatenate([pair[k][::every] for pair in pairs]) for k in (0, 1))
        gram = X.T @ X
        gram[np.diag_indices_from(gram)] += 1e-3 * len(X)
        weights = np.linalg.solve(gram, X.T @ Y)
        left = Y - X @ weights
        variance = Y.var(0)
        judged = (variance > 1e-8) & (left.var(0) < (1 - EXPLAINED) * variance)
        scale = np.median(np.stack([np.sqrt(np.square(y - x @ weights).mean(0)) for x, y in pairs]), 0)
        if not judged.any():
            return None
        return replace(empty, weights=weights, judged=judged, scale=np.maximum(scale, 1e-6))

    def inputs_and_changes(self, each: Trajectory, action: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``X [T-1, A+S+1]`` and ``Y [T-1, S]`` in usual units."""
        states = np.clip((each.state - self.state_center) / self.state_unit, -CLIP, CLIP)
        actions = np.clip(
            ((each.action if action is None else action) - self.action_center) / self.action_unit, -CLIP, CLIP
        )
        ones = np.ones((len(states) - 1, 1))
        # of what lies far outside too: clean episodes go there
        changes = np.diff(each.state, axis=0) / self.state_unit
        return np.concatenate([actions[:-1], states[:-1], ones], 1), np.clip(changes, -self.most, self.most)

    def errors(self, each: Trajectory, action: np.ndarray | None = None) -> np.ndarray:
        """What the model does not explain, in units of what it usually does not, ``[T-1, S]`` of the judged numbers."""
        X, Y = self.inputs_and_changes(each, action)
        return np.asarray(((Y - X @ self.weights) / self.scale)[:, self.judged])

    def partners(self, dim: int) -> np.ndarray:
        """Which of the judged numbers of the state a number of the action moves."""
        effect = np.abs(self.weights[dim] / self.scale)[self.judged]
        return np.asarray(effect >= 0.4 * effect.max()) if effect.max() > 0.05 else np.zeros(len(effect), bool)


def response_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """Actions a step early or late, one number of them late or turned, and steps that are missing."""
    if not trajectories[0].action_names or not trajectories[0].state_names:
        return []
    model = Model.fit(trajectories)
    if model is None:
        return []
    findings = _shifted(trajectories, model)
    usual = Model.fit(_without_odd(trajectories, model)) or model
    for look, of in ((_turned, model), (_one_number, usual)):
        known = {each.where for each in findings}
        findings += [each for each in look(trajectories, of) if each.where not in known]
    return findings + _missing_steps(trajectories, model)


def _without_odd(trajectories: Sequence[Trajectory], model: Model) -> list[Trajectory]:
    """Those of which no number of the state is explained far worse than usual: the others would lead a model."""
    left = np.log([_error_by_number(model.errors(each)) for each in trajectories])
    odd: np.ndarray = np.any(far_above(left, LEAST_ODD, ODD_SPREADS), axis=1)
    return [each for each, flag in zip(trajectories, odd, strict=True) if not flag]


def _center_and_unit(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    unit = np.median(np.stack([each.std(0) for each in arrays]), 0)
    return np.median(np.stack([np.median(each, 0) for each in arrays]), 0), np.where(unit > TINY, unit, 1.0)


def _error(errors: np.ndarray) -> float:
    return float(np.minimum(np.square(errors[14:-14] if len(errors) > 60 else errors), 100.0).mean()) + 1e-6


def _error_by_number(errors: np.ndarray) -> np.ndarray:
    return np.asarray(np.minimum(np.square(errors), 100.0).mean(0) + 1e-6)


def _error_by_step(errors: np.ndarray) -> np.ndarray:
    return np.asarray(np.minimum(np.square(errors), 100.0).mean(1))


def _shifted(trajectories: Sequence[Trajectory], model: Model) -> list[Finding]:
    table = np.array([[_error(model.errors(each, _moved(each.action, lag))) for lag in LAGS] for each in trajectories])
    zero = LAGS.index(0)
    gains = np.log(table[:, [zero]] / table)  # above zero where the lag fits better than none
    best = gains.argmax(1)
    findings = []
    center, spread = center_and_spread(gains)
    for e in np.flatnonzero(best != zero).tolist():
        gain = gains[e, best[e]]
        if gain < -np.log(BETTER) or gain < center[0, best[e]] + max(0.1, SPREADS * spread[0, best[e]]):
            continue
        lag, each = LAGS[best[e]], trajectories[e]
        message = f"its actions fit {abs(lag)} step{'s' if abs(lag) > 1 else ''} {'earlier' if lag > 0 else 'later'}"
        message += f": what they do not explain shrinks to {np.exp(-gain):.2f} of itself"
        findings.append(_finding("action_shift", each, message, (0, each.length), -table[e]))
    return findings


def _moved(action: np.ndarray, lag: int) -> np.ndarray:
    """The action of ``lag`` steps later; its end is repeated."""
    at = np.clip(np.arange(len(action)) + lag, 0, len(action) - 1)
    return np.asarray(action[at])


def _turned(trajectories: Sequence[Trajectory], model: Model) -> list[Finding]:
    """Episodes that the model explains far better with the signs of up to TURNED numbers of the action turned."""
    names = trajectories[0].action_names
    turned: list[list[int]] = []
    gains = np.zeros(len(trajectories))
    for e, each in enumerate(trajectories):
        action, dims = each.action, list[int]()
        first = least = _error(model.errors(each))
        while len(dims) < min(TURNED, len(names)):
            tries = [_error(model.errors(each, _with(action, d, -action[:, d]))) for d in range(len(names))]
            best = int(np.argmin(tries))
            if tries[best] >= least or best in dims:
                break
            least, action = tries[best], _with(action, best, -action[:, best])
            dims.append(best)
        turned.append(dims)
        gains[e] = np.log(first / least)
    center, spread = (each.item() for each in center_and_spread(gains))
    findings = []
    for e in np.flatnonzero(gains > center + max(LEAST_GAIN, (SPREADS + 1) * spread)).tolist():
        each, dims = trajectories[e], turned[e]
        what = ", ".join(names[d] for d in dims)
        message = f"{what} {'are' if len(dims) > 1 else 'is'} turned: what they do not explain shrinks to {np.exp(-gains[e]):.2f} of itself"
        findings.append(_finding("action_sign", each, message, (0, each.length), each.action[:, dims[0]]))
    return findings


def _one_number(trajectories: Sequence[Trajectory], model: Model) -> list[Finding]:
    """Episodes of which one number of the action is turned in a stretch, or that is late."""
    findings: dict[str, Finding] = {}
    before = [model.errors(each) for each in trajectories]
    for dim, name in enumerate(trajectories[0].action_names):
        partners = model.partners(dim)
        if not partners.any():
            continue
        turned = _turned_stretches(trajectories, model, dim, partners, before)
        late = _late(trajectories, model, dim, partners, before)
        for e in sorted({*turned, *late}):
            best = late.get(e) or turned[e]
            if (
                e in turned and turned[e].left < BETTER * best.left
            ):  # a number with two values is turned while it is late
                best = turned[e]
            message = f"{name} {best.what}: what it does not explain shrinks to {best.left:.2f} of itself"
            each = trajectories[e]
            finding = _finding(best.kind, each, message, best.frames, each.action[:, dim])
            findings.setdefault(each.episode_id, finding)
    return list(findings.values())


@dataclass(frozen=True)
class _Explanation:
    """``left``: of what was not explained in the episode, the share that still is not."""

    kind: str
    what: str
    left: float
    frames: tuple[int, int]


def _turned_stretches(
    trajectories: Sequence[Trajectory], model: Model, dim: int, partners: np.ndarray, before: Sequence[np.ndarray]
) -> dict[int, _Explanation]:
    """By episode the stretch in which a number fits far better with its sign, or its two ends, turned."""
    ends = np.median(np.stack([np.quantile(each.action[:, dim], (0.02, 0.98)) for each in trajectories]), 0)
    bases = [_error_by_step(each[:, partners]) for each in before]
    usual = float(np.median([each.sum() for each in bases])) + TINY
    found: dict[int, _Explanation] = {}
    for middle in (0.0, float(ends.sum())):
        stretches, saved, shares = [], np.zeros(len(trajectories)), np.ones(len(trajectories))
        for e, (each, base) in enumerate(zip(trajectories, bases, strict=True)):
            errors = model.errors(each, _with(each.action, dim, middle - each.action[:, dim]))
            turned = _error_by_step(errors[:, partners])
            begin, end = best_stretch(base - turned)
            stretches.append((begin, end))
            if end - begin >= FEWEST_TURNED:
                saved[e] = (base - turned)[begin:end].sum()
                shares[e] = turned[begin:end].sum() / base[begin:end].sum()
        center, spread = (each.item() for each in center_and_spread(saved / usual))
        odd = (saved / usual > center + max(LEAST_SAVED, (SPREADS + 1) * spread)) & (shares < BETTER_ALONE)
        for e in np.flatnonzero(odd).tolist():
            begin, end = stretches[e]
            what = f"is turned in steps {begin} to {end}"
            one = _Explanation("action_sign", what, float(1 - saved[e] / bases[e].sum()), (begin, end + 1))
            found[e] = min((one, found.get(e, one)), key=lambda each: each.left)
    return found


def _late(
    trajectories: Sequence[Trajectory], model: Model, dim: int, partners: np.ndarray, before: Sequence[np.ndarray]
) -> dict[int, _Explanation]:
    """By episode the steps that a number is late, where that explains far more."""
    base = np.array([_error(each[:, partners]) for each in before])
    late = np.empty((len(trajectories), len(LATE)))
    for e, each in enumerate(trajectories):
        for k, lag in enumerate(LATE):
            values = _moved(each.action[:, [dim]], lag)[:, 0]
            late[e, k] = _error(model.errors(each, _with(each.action, dim, values))[:, partners])
    gains = np.log(base[:, None] / late)
    center, spread = center_and_spread(gains)
    limit = np.maximum(center + np.maximum(0.15, (SPREADS + 1) * spread), -np.log(BETTER_ALONE))[0]
    found = {}
    for e in range(len(trajectories)):
        k = int(gains[e].argmax())
        if gains[e, k] > limit[k]:
            what = f"acts {abs(LATE[k])} steps {'late' if LATE[k] > 0 else 'early'}"
            frames = (0, trajectories[e].length)
            found[e] = _Explanation("action_late", what, float(np.exp(-gains[e, k])), frames)
    return found


def _with(action: np.ndarray, dim: int, values: np.ndarray) -> np.ndarray:
    changed: np.ndarray = action.copy()
    changed[:, dim] = values
    return changed


def _missing_steps(trajectories: Sequence[Trajectory], model: Model) -> list[Finding]:
    """A single step in which most numbers change by more than the action explains."""
    surprises = [np.sqrt(np.minimum(np.square(model.errors(each)), 400.0).mean(1)) for each in trajectories]
    peaks = np.array([each.max() for each in surprises])
    logs = np.log(peaks + TINY)
    center = np.median(logs)
    above = 1.5 * (np.quantile(logs, 0.75) - center)  # the spread of what is more than usual: less says nothing
    findings = []
    for e in np.flatnonzero(logs - center > max(np.log(2.0), 4 * above)).tolist():
        step = int(surprises[e].argmax())
        message = f"between steps {step} and {step + 1} the state moves on by more than one step: frames are missing"
        findings.append(_finding("dropped_frames", trajectories[e], message, (step, step + 2), surprises[e]))
    return findings


def leak_findings(trajectories: Sequence[Trajectory]) -> list[Finding]:
    """A number of the state that is a number of the action of the same step, in every episode: a policy would copy it."""
    first = trajectories[0]
    findings = []
    for a, action in enumerate(first.action_names):
        for s, state in enumerate(first.state_names):
            if all(_copies(each.state[:, s], each.action[:, a]) for each in trajectories):
                message = f"{state} is {action} of the same step in all episodes: a policy would copy it"
                findings.append(
                    Finding("label_leak", state, message, len(trajectories), None, sparkline(first.state[:, s]))
                )
    return findings


def _copies(state: np.ndarray, action: np.ndarray) -> bool:
    spans = np.ptp(state), np.ptp(action)
    if min(spans) < 1e-9:
        return False
    scaled = (state - state.min()) / spans[0], (action - action.min()) / spans[1]
    return bool(np.abs(scaled[0] - scaled[1]).max() < 1e-3)


def _finding(kind: str, of: Trajectory, message: str, frames: tuple[int, int], series: np.ndarray) -> Finding:
    return Finding(kind, of.episode_id, message, 1, frames, sparkline(series))
