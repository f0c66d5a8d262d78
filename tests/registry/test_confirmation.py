"""Confirmation through the real plan and store; tables are made of coins, so that no simulator is needed."""

import json
from dataclasses import replace

import pytest

from tendon import steps
from tendon.evaluate.seeds import confirmation as confirmation_seeds
from tendon.evaluate.table import Evaluation
from tendon.registry import promotion
from tendon.registry.champion import Champion, read_champion, swap_champion
from tendon.registry.confirmation import compared, confirm_winner, rounds
from tendon.registry.ledger import read_ledger
from tendon.registry.outlook import outlook_of
from tendon.registry.protocol import protocol_of, protocol_of_run
from tendon.runs.plan import load_plan
from tendon.storage import join, open_store

TREE = {"files": {"model.safetensors": {"bytes": 1, "sha256": ""}}}


class Policies:
    """Policies as success rates by bundle; counts the episodes that were asked for."""

    def __init__(self, rates):
        self.rates, self.asked, self.seeds = rates, [], []

    def __call__(self, *, bundle_uri, config, block, run_id):
        assert block == "confirmation"
        digest, rate = self.rates[bundle_uri]
        if rate is None:
            raise steps.DataError("the bundle is gone", where=bundle_uri, why="no such file", fix="train it again")
        seeds = confirmation_seeds(run_id).take(config.eval.n_episodes)
        self.asked.append((digest, len(seeds)))
        self.seeds.append(seeds)
        rows = tuple(
            {"seed": seed, "status": "success" if number % 100 < 100 * rate else "failure", "steps": 9}
            for number, seed in enumerate(seeds)
        )
        won = sum(row["status"] == "success" for row in rows)
        summary = {"policy_digest": digest, "successes": won, "n": len(rows), "crashed": 0, "interval_95": [0, 1]}
        table = Evaluation(f"tables/{digest}/{seeds[0]}-{len(seeds)}", summary | {"success_rate": rate}, rows, False)
        TABLES[table.uri] = table
        return table


TABLES = {}


@pytest.fixture(autouse=True)
def _tables(monkeypatch):
    monkeypatch.setattr(promotion, "load_evaluation", TABLES.__getitem__)
    monkeypatch.setattr("tendon.export.bundle.bundle_digest", lambda uri: DIGESTS[uri])


DIGESTS = {}


def planned(store, name, config="experiment=reach_bc", **more):
    """A planned run with a winner, whose bundle has the digest ``name``."""
    arguments = {"episodes": 1, "confirm_episodes": 200, "champion": "best", "promote": True} | more
    result = steps.plan(
        source_uri="demo://reach?episodes=4&seed=1", store_uri=str(store), dataset_name="demos",
        config=f"{config} seed={len(DIGESTS)}", sweep=[], **arguments,
    )  # fmt: skip
    run = load_plan(result.run_uri)
    winner = run.trials[0].name
    open_store(run.run_uri).write("selection.json", json.dumps({"winner": winner, "leaderboard": [1]}).encode())
    bundle = join(run.trial_uri(winner), "bundle")
    DIGESTS[bundle] = name
    return run, bundle


def concluded(run, policies):
    found = confirm_winner(run, policies)
    open_store(run.run_uri).write("confirmation.json", found.to_json().encode())
    return found, promotion.promote_winner(run, found)


def test_two_tasks_in_one_store_never_meet_and_both_are_promoted(tmp_path):
    one, bundle = planned(tmp_path, "short")
    two, other = planned(tmp_path, "long", "experiment=reach_bc env.episode_length=90")
    policies = Policies({bundle: ("short", 0.9), other: ("long", 0.7)})
    assert concluded(one, policies)[1].promoted
    found, result = concluded(two, policies)  # before: 0.7 was compared with the 0.9 of another task, and kept out
    assert found.verdict.decision == "first"
    assert result.promoted
    store = open_store(str(tmp_path))
    for run, digest in ((one, "short"), (two, "long")):
        assert read_champion(store, "best", protocol_of_run(run)).champion.policy_digest == digest


def test_a_store_of_the_old_layout_still_reads(tmp_path):
    run, bundle = planned(tmp_path, "old")
    store = open_store(str(tmp_path))
    old = Champion("best", "old", bundle, run.run_uri, 170, 200, "2025-01-01T00:00:00Z")
    swap_champion(store, old, None)
    assert store.head("champions/best.json")
    new, other = planned(tmp_path, "new")
    assert read_champion(store, "best", protocol_of_run(new)).champion.policy_digest == "old"
    elsewhere, _ = planned(tmp_path, "else", "experiment=reach_bc env.episode_length=90")
    assert read_champion(store, "best", protocol_of_run(elsewhere)).champion is None
    found, result = concluded(new, Policies({bundle: ("old", 0.7), other: ("new", 0.95)}))
    assert found.verdict.decision == "promote"
    assert result.promoted
    now = read_champion(store, "best", protocol_of_run(new)).champion
    assert (now.policy_digest, now.history[0].policy_digest) == ("new", "old")


def test_a_promoted_runs_evidence_stays_and_a_rerun_says_the_same(tmp_path):
    run, bundle = planned(tmp_path, "w")
    policies = Policies({bundle: ("w", 0.9)})
    first, _ = concluded(run, policies)
    champion = read_champion(open_store(str(tmp_path)), "best", protocol_of_run(run)).champion
    kept = open_store(champion.evidence_uri).read("confirmation.json")
    assert json.loads(kept)["verdict"]["decision"] == "first"
    asked = len(policies.asked)
    again, result = concluded(run, policies)  # before: "challenger is already the champion", written over the evidence
    assert again == first
    assert result.promoted
    assert len(policies.asked) == asked
    assert open_store(champion.evidence_uri).read("confirmation.json") == kept


def test_seeds_depend_on_what_is_compared_not_on_the_store(tmp_path):
    drawn = []
    for folder in ("a", "b"):
        run, bundle = planned(tmp_path / folder, "same")
        policies = Policies({bundle: ("same", 0.9)})
        confirm_winner(run, policies)
        confirm_winner(run, policies)
        drawn += policies.seeds
    assert len(set(drawn)) == 1
    assert compared("a", "b", "t") == compared("b", "a", "t") != compared("a", "c", "t") != compared("a", "c", "u")


def test_the_record_says_what_is_left_and_the_plan_what_is_needed(tmp_path):
    run, bundle = planned(tmp_path, "c0")
    policies = Policies({bundle: ("c0", 0.9)})
    concluded(run, policies)
    assert "interval must begin at 0.5" in outlook_of(planned(tmp_path / "x", "n")[0], 0, trials_per_pod=1).gate
    left = 0.05
    for number in range(1, 4):
        challenger, other = planned(tmp_path, f"c{number}")
        policies.rates[other] = (f"c{number}", 0.88)
        found, _ = concluded(challenger, policies)
        numbers = found.verdict.numbers
        assert numbers["challenger"] == number
        assert numbers["alpha_left"] <= left
        left = numbers["alpha_left"]
        assert concluded(challenger, policies)[0].verdict.numbers["alpha_left"] == left  # a rerun spends nothing
    champion = read_champion(open_store(str(tmp_path)), "best", protocol_of_run(run)).champion
    assert left == pytest.approx(0.05 - read_ledger(open_store(str(tmp_path)), champion).spent)
    outlook = outlook_of(planned(tmp_path, "c9")[0], 0, trials_per_pod=1).gate
    assert "challenger 4 may err with" in outlook
    assert "episodes see a gain of 10 points with chance 0.8" in outlook


def test_anytime_asks_for_pairs_in_rounds_and_stops(tmp_path):
    first, bundle = planned(tmp_path, "old")
    policies = Policies({bundle: ("old", 0.0)})
    concluded(replace(first, gate=replace(first.gate, floor=0.0)), policies)
    run, other = planned(tmp_path, "new", gate_test="anytime")
    policies.rates[other] = ("new", 1.0)
    found, result = concluded(run, policies)
    assert result.promoted
    assert found.verdict.path["decision"] == "better"
    assert ("new", 200) not in policies.asked
    assert max(count for digest, count in policies.asked if digest == "new") <= 40
    assert rounds(30) == [5, 10, 15, 20, 25, 30]
    assert rounds(3) == [3]
    assert rounds(2000)[-2:] == [1950, 2000]


def test_a_champion_that_cannot_run_is_named_with_the_reason(tmp_path):
    first, bundle = planned(tmp_path, "old")
    policies = Policies({bundle: ("old", 0.9)})
    concluded(first, policies)
    policies.rates[bundle] = ("old", None)
    run, other = planned(tmp_path, "new", gate_test="anytime")
    policies.rates[other] = ("new", 1.0)
    found, result = concluded(run, policies)
    assert not result.promoted
    assert "could not be rolled out (the bundle is gone" in found.verdict.sentence
    assert TABLES[found.winner_uri].summary["n"] == 200


def test_what_a_policy_observes_is_no_part_of_the_protocol():
    env = {"simulator": "reach", "task": "Reach v0/x", "fps": 10, "episode_length": 60, "options": {}}
    assert protocol_of(env) == protocol_of(env | {"fps": 10.0, "observation": ["state"], "name": "other"})
    assert protocol_of(env | {"simulator": "/a/reach.py"}) == protocol_of(env | {"simulator": "/b/reach.py"})
    assert len({protocol_of(env | {key: 70}) for key in ("fps", "episode_length", "options")}) == 3
    assert protocol_of(env).startswith("Reach-v0-x-")


def test_evidence_of_every_promotion_survives_those_that_come_later(tmp_path):
    """A is promoted, B replaces it, A runs again and loses, a better A would win: nothing that promoted anybody changes."""
    run_a, bundle_a = planned(tmp_path, "a")
    run_b, bundle_b = planned(tmp_path, "b", confirm_episodes=240)
    policies = Policies({bundle_a: ("a", 0.61), bundle_b: ("b", 0.83)})

    def standing():
        return read_champion(open_store(str(tmp_path)), "best", protocol_of_run(run_a)).champion

    def evidence():
        folders = {}
        for run in (run_a, run_b):
            store = open_store(run.run_uri)
            folders |= {f"{run.run_id}/{one.key}": store.read(one.key) for one in store.list("promoted/")}
        return folders

    open_store(run_a.run_uri).write("report.html", b"the page of A")
    assert concluded(run_a, policies)[1].promoted
    of_a = evidence()
    assert {key.rsplit("/", 1)[-1] for key in of_a} == {"selection.json", "confirmation.json", "report.html"}
    assert concluded(run_b, policies)[1].promoted
    assert standing().policy_digest == "b"
    of_both = evidence()
    assert of_a.items() <= of_both.items()
    open_store(run_a.run_uri).write("report.html", b"another page of A")
    lost, result = concluded(run_a, policies)
    assert lost.verdict.decision == "keep"
    assert not result.promoted
    assert evidence() == of_both
    again, _ = concluded(run_b, policies)
    assert again.verdict.decision == "promote"
    assert evidence() == of_both


def test_more_episodes_begin_with_the_same_seeds_and_another_pair_has_others(tmp_path):
    seeds = {}
    for folder, episodes in (("a", 60), ("b", 140)):
        run, bundle = planned(tmp_path / folder, "m", confirm_episodes=episodes)
        policies = Policies({bundle: ("m", 0.7)})
        confirm_winner(run, policies)
        seeds[folder] = policies.seeds[0]
    assert seeds["b"][:60] == seeds["a"]
    run, bundle = planned(tmp_path / "c", "m2", confirm_episodes=60)
    policies = Policies({bundle: ("m2", 0.7)})
    confirm_winner(run, policies)
    assert policies.seeds[0] != seeds["a"]
