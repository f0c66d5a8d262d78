"""The robustness card of a run's winner, on the first of the seeds that confirmed it. Called by steps.robustness, read by the report."""

from __future__ import annotations

import json
from dataclasses import replace

from tendon.config.schema import EnvConfig
from tendon.evaluate.robustness import Card, make_card, parse_perturbations
from tendon.evaluate.table import Evaluation, evaluate_bundle, load_evaluation
from tendon.registry.confirmation import load_confirmation
from tendon.runs.plan import RunPlan
from tendon.storage import join, open_store
from tendon.storage.json_values import to_json

FILE = "card.json"


def make_run_card(run: RunPlan) -> Card | None:
    """Play the winner under the perturbations of the run and keep the card; None when there is no winner."""
    confirmation = load_confirmation(run.run_uri)
    if not confirmation.winner:
        return None
    seeds = load_evaluation(confirmation.winner_uri).summary["seeds"]
    config = run.config_of(confirmation.winner)
    count = min(run.episodes, seeds["count"])
    settings = replace(config.eval, n_episodes=count, videos=0)

    def played(env: EnvConfig) -> Evaluation:
        return evaluate_bundle(
            join(run.trial_uri(confirmation.winner), "bundle"),
            env,
            settings,
            block="confirmation",
            seeds=range(seeds["first"], seeds["first"] + count),
            evaluations_uri=join(run.trial_uri(confirmation.winner), "evaluations"),
        )

    card = make_card(parse_perturbations(run.perturb), config.env, played)
    open_store(run.run_uri).write(FILE, to_json(card.to_dict(), indent=1).encode())
    return card


def load_card(run: RunPlan) -> Card | None:
    """The card of the run; None: it has none."""
    store = open_store(run.run_uri)
    return Card.from_dict(json.loads(store.read(FILE))) if store.head(FILE) is not None else None
