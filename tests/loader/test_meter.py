"""What is said about waiting."""

from __future__ import annotations

import logging
import time

import pytest

from tendon.loader import meter as meter_module
from tendon.loader.meter import Meter
from tendon.loader.prefetcher import WaitMonitor


def test_a_border_does_not_count_what_is_counted_inside() -> None:
    meter = Meter()
    with meter.waiting("gather"), meter.waiting("decode"):
        time.sleep(0.05)
    assert meter.seconds["decode"] >= 0.05
    assert meter.seconds["gather"] < 0.04


@pytest.mark.parametrize(
    ("border", "knob"), [("fetch", "raise fetches"), ("decode", "threads"), ("gather", "processes")]
)
def test_one_sentence_names_the_bottleneck_and_its_knob(
    border: str, knob: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tendon.loader.prefetcher.ENOUGH_S", 0.0)
    meter = Meter()
    meter.add(border, 1.0)
    monitor = WaitMonitor(meter)
    with caplog.at_level(logging.WARNING):
        more = 3  # what was said once is not said again
        for _ in range(500):  # a busy machine adds time in which nobody waits
            more -= bool(caplog.messages)
            if not more:
                break
            began = time.monotonic()
            time.sleep(0.01)
            monitor.count(began)  # the consumer does nothing but wait
    (said,) = caplog.messages
    assert "the consumer waited" in said
    assert knob in said


def test_nothing_is_said_when_little_is_waited() -> None:
    meter = Meter(started=time.monotonic() - 10)
    meter.add("consumer_wait", 10 * meter_module.TOO_MUCH * 0.9)
    assert meter.bottleneck() is None
