"""Two learning rates and two widths of the crane's policy, as trials of one run: `python sweep.py`."""

import sys
from pathlib import Path

import tendon
from tendon.config.as_overrides import as_overrides
from tendon.trust import sha256_of

SWEEP = [
    {"key": "training.lr", "name": "lr", "group": 0, "values": [1e-3, 3e-4]},
    {
        "key": "policy.hidden_dims",
        "name": "width",
        "group": 1,
        "values": [[64, 64], [128, 128]],
        "value_names": ["s", "l"],
    },
]


def main(num_steps=1000, episodes=50):
    words = as_overrides(["experiment=crane", "policy=chunk_mlp", f"training.offline_steps={num_steps}"], "lab")
    result = tendon.run(
        "crane.hdf5",
        config=" ".join(words),
        store_uri="store",
        policy_sweep=SWEEP,
        evaluate_episodes=episodes,
        evaluate_confirm_episodes=2 * episodes,
        trust=sha256_of("crane.py"),
    )
    print(Path(result.report_path))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
