"""Measuring in turns."""

import numpy as np
import pytest

from alexnet_tf.benchmarks import timing


class Clock:
    """Time that passes only while its subjects run; 3 cores are busy."""

    def __init__(self):
        self.now = 0.0
        self.calls = ""

    def perf_counter(self):
        return self.now

    def process_time(self):
        return 3 * self.now

    def subject(self, name, seconds):
        """Returns a subject that processes two images in each call."""
        durations = iter(seconds)

        def call():
            self.calls += name
            self.now += next(durations)
            return 2

        return call


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "_MIN_SECONDS", 4.0)
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_subjects_take_turns_and_warm_up(clock):
    subjects = {name: clock.subject(name, [9.0, 4.0] * 3) for name in "ab"}
    rounds = []
    for measured in timing.measure_in_turns(subjects, 2, warmup_calls=1):
        rounds.append(len(measured["b"].wall))
    assert rounds == [1, 2] and clock.calls == "aabb" * 3
    # The calls that warm up do not count, and neither does the first round.
    for times in measured.values():
        np.testing.assert_allclose(times.wall, [2.0, 2.0])
        np.testing.assert_allclose(times.cpu, [6.0, 6.0])


def test_speeds_are_printed_as_they_come(clock, capsys):
    """In rounds of 42 s: two calls of 9 and 12 s."""
    subjects = {
        "a": clock.subject("a", [9.0] * 6),
        "second": clock.subject("b", [12.0] * 6),
    }
    rounds = timing.measure_in_turns(subjects, 2, warmup_calls=1)
    next(rounds)
    speeds = ["  a             0.2 images/s", "  second        0.2 images/s"]
    assert capsys.readouterr().out.splitlines() == [
        "warm-up, which does not count",
        *speeds,
        "round 1 of 2, about 1.4 min left",
        *speeds,
    ]
    next(rounds)
    output = capsys.readouterr().out
    assert output.startswith("round 2 of 2, about 0.7 min left\n")


def test_short_calls_are_repeated(clock):
    subject = clock.subject("a", [1.0, 1.0, 1.0, 1.0, 3.0, 2.0])
    (measured,) = timing.measure_in_turns({"a": subject}, 1)
    assert clock.calls == "aaaaaa"
    np.testing.assert_allclose(measured["a"].wall, [5 / 4])


def test_medians_and_spread():
    speed = timing.Times(wall=[0.5, 0.1, 0.2], cpu=[]).speed()
    assert speed == {"images_per_second": 5, "lowest": 2, "highest": 10}


def test_columns_without_a_value_stay_empty():
    speed = {"images_per_second": 1234.56, "lowest": 1, "highest": 2000}
    rows = [
        {"what": "first", **speed},
        {"what": "second", **speed, "of_first": 0.5},
    ]
    table = timing.speed_table(rows, {"of_first": ("of first", ".1%")})
    assert table.splitlines() == [
        "        images/s       (spread)  of first",
        "first    1,234.6  (1.0-2,000.0)",
        "second   1,234.6  (1.0-2,000.0)     50.0%",
    ]
