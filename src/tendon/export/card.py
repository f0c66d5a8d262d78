"""card.md: what a person reads who finds a bundle. Made by export; no scores, those are evaluation's to give."""

from __future__ import annotations

from tendon.export.parity import ParityRecord
from tendon.policies.base import Policy
from tendon.policies.spec import PolicySpec

CARD = """\
# {name}

A robot policy trained by tendon.

| | |
|---|---|
| policy | `{name}`, {num_parameters:,} weights |
| reads | {observations}, at steps {observation_deltas} (0 is now) |
| predicts | {action_dim} action dimensions at steps {action_deltas}; {num_actions} executed before it is asked again |
| made from | `{checkpoint_uri}` |
| parity | {what}: largest difference of an action {difference:g} (allowed {tolerance:g}) on inputs `{inputs:.16}` |

Observations and actions are raw values of the dataset: the normalisers are inside the weights. `config.yaml` is the
effective configuration of the training, `stats.json` the statistics of its dataset, `parity.json` the parity record.

```python
from tendon.export.bundle import load_policy

policy, info = load_policy("<this folder or its s3:// address>")
memory = policy.start(seed)
actions, memory = policy.act(observation, memory)  # {{key: [1, {num_times}, dim]}} to [1, {num_actions}, {action_dim}]
```
"""


def make_card(policy: Policy, info: PolicySpec, checkpoint_uri: str, record: ParityRecord) -> str:
    """The card as Markdown."""
    window = info.window
    return CARD.format(
        name=info.name,
        num_parameters=sum(parameter.numel() for parameter in policy.parameters()),
        observations=", ".join(f"`{key}` ({info.features[key]})" for key in window.observation_keys),
        observation_deltas=_words(window.reading_deltas),
        action_dim=info.action_dim,
        action_deltas=_words(window.action_deltas),
        num_actions=window.num_actions,
        num_times=len(window.reading_deltas),
        checkpoint_uri=checkpoint_uri,
        what=record.what,
        difference=record.max_abs_difference,
        tolerance=record.tolerance,
        inputs=record.inputs,
    )


def _words(deltas: tuple[int, ...]) -> str:
    return str(deltas[0]) if len(deltas) == 1 else f"{deltas[0]} to {deltas[-1]}"
