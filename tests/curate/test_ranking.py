"""Which episodes a ranking leaves out: two groups, one group, a request; pure."""

import numpy as np
import pytest

from tendon.curate.curation import Curation, fold_members
from tendon.curate.ranking import Signals, rank_episodes


def signals(losses, influences=None, findings=()):
    influences = influences if influences is not None else [0.5] * len(losses)
    named = dict(findings)
    return [
        Signals(f"demo_{k}", 30, 10.0, loss, influence, named.get(f"demo_{k}", ()))
        for k, (loss, influence) in enumerate(zip(losses, influences, strict=True))
    ]


def test_a_third_that_forms_a_group_is_left_out_with_reasons():
    rng = np.random.default_rng(2)
    losses = [*rng.normal(1.0, 0.1, 20), *rng.normal(6.0, 1.0, 10)]
    influences = [*rng.normal(0.5, 0.1, 20), *rng.normal(-0.3, 0.1, 10)]
    ranked, how = rank_episodes(signals(losses, influences))
    out = {one.episode_id for one in ranked if one.left_out}
    assert out == {f"demo_{k}" for k in range(20, 30)}
    assert "10 of 30 form a group" in how
    assert all("leaves" in " ".join(one.reasons) for one in ranked if one.left_out)
    assert any("against" in " ".join(one.reasons) for one in ranked)
    assert not any(one.reasons for one in ranked if not one.left_out)


@pytest.mark.parametrize("seed", range(8))
def test_of_one_group_hardly_anything_is_left_out(seed):
    rng = np.random.default_rng(seed)
    ranked, how = rank_episodes(signals(np.exp(rng.normal(0, 0.4, 40)), rng.normal(0.4, 0.15, 40)))
    assert sum(one.left_out for one in ranked) <= 2, how


def test_a_request_and_findings_are_obeyed():
    losses = [1.0, 1.1, 0.9, 1.2, 0.8, 1.0, 1.05, 0.95]
    named = [("demo_4", ("stuck: it does not move", "spike: a jump"))]
    ranked, how = rank_episodes(signals(losses, None, named), 0.25)
    assert ranked[0].episode_id == "demo_4"
    assert ranked[0].reasons == named[0][1]
    assert sum(one.left_out for one in ranked) == 2
    assert how == "the worst 2 of 8, as asked"
    assert sum(one.left_out for one in rank_episodes(signals(losses), 3)[0]) == 3
    assert not any(one.left_out for one in rank_episodes(signals(losses[:5]))[0])


def test_every_episode_is_held_out_once():
    names = [f"demo_{k}" for k in range(11)]
    folds = fold_members(names, 3, 7)
    assert sorted(name for fold in folds for name in fold) == sorted(names)
    assert {len(fold) for fold in folds} == {3, 4}
    assert folds == fold_members(names, 3, 7) != fold_members(names, 3, 8)


def test_a_curation_goes_through_its_file_and_its_sweep_is_two_trials():
    from tendon.config.sweep import expand, parse_sweep

    ranked, how = rank_episodes(signals([1.0, 1.1, 0.9, 9.0, 1.0, 1.05, 0.95, 1.0]), 1)
    curation = Curation("store/data/x", "bc", 3, 100, 2, how, ranked)
    assert Curation.from_json(curation.to_json()) == curation
    trials = expand(parse_sweep(curation.sweep()), "")
    assert [trial.name for trial in trials] == ["episodes_all", "episodes_subset"]
    assert trials[0].overrides == ("data.skip_episodes=[]",)
    assert trials[1].overrides == ("data.skip_episodes=[demo_3]",)
