"""What a camera shows and what the states let expect: ``seen_and_expected(trajectories, camera)``.

The model is a ridge regression from states, and waves over the few directions of them that pictures depend on, to principal
parts of thumbnails. It is fitted to how both differ from their means in an episode: a scene that differs from the others as a
whole says nothing about time. No episode is judged by a model that saw it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tendon.data.quality.robust import TINY, center_and_spread, far_above
from tendon.data.quality.trajectory import Trajectory

PARTS = 32  # principal parts of a thumbnail
DIRECTIONS = 4  # of the states
WAVES, WAVE_LENGTH = 300, 2.0  # cosines over the directions, in units of what these usually vary
LINEAR_RIDGE, RIDGE = 1e-2, 1e-3  # shares of the mean square of an input
FOLDS = 10
MAX_SAMPLED, MAX_FITTED = 20_000, 60_000  # frames
WIDE = 5.0  # usual units
ROUNDS = 2  # of leaving odd episodes out
LEAST_ODD, ODD_SPREADS = 0.5, 2.5  # of what is not explained, as a logarithm

Inputs = Callable[[np.ndarray], np.ndarray]


def seen_and_expected(trajectories: Sequence[Trajectory], camera: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every episode both, ``[T, PARTS]``, from their means in the episode."""
    thumbs = [each.thumbs[camera].astype(np.float64) for each in trajectories]
    seen = _principal_parts(thumbs)
    states = _usual_states(trajectories)
    usable = _usual_light(thumbs)
    expected = _expected_unseen(states, seen, usable, _inputs(states, seen, usable))
    for _ in range(ROUNDS):  # swapped cameras, for one, would lead the model
        left = np.log([_spread(y - x) + TINY for x, y in zip(expected, seen, strict=True)])
        odd = far_above(left, LEAST_ODD, ODD_SPREADS)
        fitted = [flags & ~bad for flags, bad in zip(usable, odd, strict=True)]
        expected = _expected_unseen(states, seen, fitted, _inputs(states, seen, fitted))
    return [(_centered(y), _centered(x)) for x, y in zip(expected, seen, strict=True)]


def _usual_states(trajectories: Sequence[Trajectory]) -> list[np.ndarray]:
    """In units of what they usually vary."""
    unit = np.median(np.stack([each.state.std(0) for each in trajectories]), 0) + TINY
    center = np.median(np.stack([np.median(each.state, 0) for each in trajectories]), 0)
    return [np.clip((each.state - center) / unit, -WIDE, WIDE) for each in trajectories]


def _principal_parts(thumbs: Sequence[np.ndarray]) -> list[np.ndarray]:
    every = max(4, sum(map(len, thumbs)) // MAX_SAMPLED)
    sample = np.concatenate([_centered(each)[::every] for each in thumbs])
    _, parts = np.linalg.eigh(sample.T @ sample)
    return [each @ parts[:, -PARTS:] for each in thumbs]


def _usual_light(thumbs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Which frames of every episode are as light as frames are: black ones would lead the model."""
    levels = [each.mean(1) for each in thumbs]
    level, width = (each.item() for each in center_and_spread(np.concatenate(levels)))
    return [np.abs(each - level) <= 6 * width + 1.0 for each in levels]


def _inputs(states: Sequence[np.ndarray], seen: Sequence[np.ndarray], usable: Sequence[np.ndarray]) -> Inputs:
    """What the model sees of states: them, and waves over the directions that explain most of the pictures linearly."""
    X, Y = _sums(states, seen, usable, lambda state: state)
    linear = _ridge(X.sum(0), Y.sum(0), LINEAR_RIDGE)
    _, covectors = np.linalg.eigh(linear.T @ X.sum(0) @ linear)
    directions = linear @ covectors[:, ::-1][:, :DIRECTIONS]
    directions /= np.sqrt(np.mean([np.square(_centered(each @ directions)).mean(0) for each in states], 0)) + TINY
    rng = np.random.default_rng(0)
    waves = directions @ rng.normal(0, 1 / WAVE_LENGTH, (directions.shape[1], WAVES))
    phases = rng.uniform(0, 2 * np.pi, WAVES)
    return lambda state: np.concatenate([state, np.cos(state @ waves + phases)], 1)


def _expected_unseen(
    states: Sequence[np.ndarray], seen: Sequence[np.ndarray], usable: Sequence[np.ndarray], inputs: Inputs
) -> list[np.ndarray]:
    """Every episode by a model of the folds that it is not in."""
    X, Y = _sums(states, seen, usable, inputs)
    weights = [_ridge(X.sum(0) - X[fold], Y.sum(0) - Y[fold], RIDGE) for fold in range(FOLDS)]
    return [inputs(state) @ weights[fold] for state, fold in zip(states, _folds(len(states)), strict=True)]


def _sums(
    states: Sequence[np.ndarray], seen: Sequence[np.ndarray], usable: Sequence[np.ndarray], inputs: Inputs
) -> tuple[np.ndarray, np.ndarray]:
    """By fold the products of inputs with themselves and with what was seen, within episodes."""
    every = max(1, sum(map(len, states)) // MAX_FITTED)
    width = inputs(states[0][:1]).shape[1]
    squares, products = np.zeros((FOLDS, width, width)), np.zeros((FOLDS, width, seen[0].shape[1]))
    for state, parts, flags, fold in zip(states, seen, usable, _folds(len(states)), strict=True):
        if flags.any():
            X, Y = _centered(inputs(state[flags][::every])), _centered(parts[flags][::every])
            squares[fold] += X.T @ X
            products[fold] += X.T @ Y
    return squares, products


def _folds(num: int) -> list[int]:
    return [int(each) % FOLDS for each in np.random.default_rng(0).permutation(num)]


def _ridge(squares: np.ndarray, products: np.ndarray, ridge: float) -> np.ndarray:
    room = ridge * np.trace(squares) / len(squares) + TINY
    return np.asarray(np.linalg.solve(squares + room * np.eye(len(squares)), products))


def _centered(values: np.ndarray) -> np.ndarray:
    return np.asarray(values - values.mean(0))


def _spread(values: np.ndarray) -> float:
    return float(np.square(_centered(values)).mean())
