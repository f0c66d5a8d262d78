import json

import pytest

from tendon.errors import DataError
from tendon.registry.record import Record

RECORD = Record(
    run_id="3f9a",
    when="2026-01-01T00:00:00Z",
    source_uri="demo://reach?episodes=40&seed=1",
    source_digest="1111",
    dataset_uri="/tmp/store/datasets/demos/2222",
    dataset_digest="2222",
    episode_list_digest="3333",
    code_version="4444",
    images={},
    configs={"reach_bc": {"training": {"lr": 1e-3}}},
    seeds={"selection": [100000, 50], "confirmation": [1230000, 50]},
    winner="reach_bc",
    policy_digest="5555",
    scores={"confirmation.success_rate": 0.96},
    timings={"convert": 1.5, "train/reach_bc": 20.25},
    commands={"convert": "tendon convert source=demo://reach"},
    verdict="first champion",
)


def test_a_record_survives_json_and_is_stable():
    text = RECORD.to_json()
    assert Record.from_json(text) == RECORD
    assert Record.from_json(text).to_json() == text
    assert json.loads(text)["format"] == "tendon.record/1"


def test_a_key_of_a_later_version_does_not_disturb():
    values = json.loads(RECORD.to_json()) | {"carbon_kg": 0.1}
    assert Record.from_json(json.dumps(values)) == RECORD


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "tendon.record/2"}', '{"format": "tendon.record/1"}'])
def test_something_else_is_named(text):
    with pytest.raises(DataError, match="run record cannot be read"):
        Record.from_json(text, "store/runs/1/record.json")
