"""Several objectives with weights: what a policy's loss is made of, weighed as ``training.objective_weights`` says.

A policy with one term has the objective ``policy``; one with several returns them in ``LossOutput.objectives``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tendon.errors import ConfigError
from tendon.policies.base import LossOutput


def weighed(output: LossOutput, weights: Mapping[str, float]) -> LossOutput:
    """The output with the weighted sum as its loss, and each term among the metrics (MineStudio's objective callbacks).

    Raises:
        ConfigError: a weight names no objective of the policy.
    """
    if not weights and not output.objectives:
        return output
    terms = output.objectives or {"policy": output.loss}
    unknown = sorted(set(weights) - set(terms))
    if unknown:
        raise ConfigError(
            f"the policy has no objective called {', '.join(unknown)}",
            where="training.objective_weights",
            why=f"its objectives are {', '.join(terms)}",
            fix=f"training.objective_weights={{{next(iter(terms))}: 1.0}}",
        )
    loss = sum((float(weights.get(name, 1.0)) * term for name, term in terms.items()), start=0.0 * output.loss)
    own = {f"{name}_objective": term.detach() for name, term in terms.items()} if output.objectives else {}
    return replace(output, loss=loss, metrics=output.metrics | own)
