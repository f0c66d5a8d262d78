"""card.md: what a person reads who finds a bundle. Made by export; no scores, those are evaluation's to give."""

from __future__ import annotations

from collections.abc import Mapping

from tendon.data.features import Feature
from tendon.export.parity import ParityRecord
from tendon.policies.base import Policy
from tendon.policies.spec import PolicySpec
from tendon.policies.windows import Span

CARD = """\
# {name}

A robot policy trained by tendon.

| | |
|---|---|
| policy | `{name}`, {num_parameters:,} weights |
| reads | {observations} (0 is now) |
| predicts | {actions}; {execute} executed before it is asked again |
| made from | `{checkpoint_uri}` |
| parity | {what}: largest difference of an action {difference:g} (allowed {tolerance:g}) on inputs `{inputs:.16}` |

Observations and actions are raw values of the dataset: the normalisers are inside the weights. `config.yaml` is the
effective configuration of the training, `stats.json` the statistics of its dataset, `parity.json` the parity record.

```python
from tendon.export.bundle import load_policy

policy, info = load_policy("<this folder or its s3:// address>")
memory = policy.start(seed)
actions, memory = policy.act(observation, memory)  # {{key: [1, times, ...]}} to {given}
```
"""


def make_card(policy: Policy, info: PolicySpec, checkpoint_uri: str, record: ParityRecord) -> str:
    """The card as Markdown."""
    features, windows = info.features, info.windows
    return CARD.format(
        name=info.name,
        num_parameters=sum(parameter.numel() for parameter in policy.parameters()),
        observations=_listed(features, windows.acting),
        actions=_listed(features, {key: windows.training[key] for key in policy.writes}),
        execute=windows.execute,
        given=", ".join(f"{key}: [1, {windows.chunk}, {features[key].dim}]" for key in policy.writes).join("{}"),
        checkpoint_uri=checkpoint_uri,
        what=record.what,
        difference=record.max_abs_difference,
        tolerance=record.tolerance,
        inputs=record.inputs,
    )


def _listed(features: Mapping[str, Feature], spans: Mapping[str, Span]) -> str:
    """Each feature with its size and its steps."""
    sizes = {key: " x ".join(map(str, features[key].shape)) or features[key].kind for key in spans}
    return ", ".join(f"`{key}` ({sizes[key]}) at steps {_words(span.deltas)}" for key, span in spans.items())


def _words(deltas: tuple[int, ...]) -> str:
    return str(deltas[0]) if len(deltas) == 1 else f"{deltas[0]} to {deltas[-1]}"
