"""Points within epochs: which steps have one, and what it says."""

import pytest

from watchme.core import step_meter
from watchme.core.interfaces import StepEvent
from watchme.core.step_meter import StepMeter


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(step_meter, "time", made)
    return made


def test_speed_is_of_the_images_since_the_last_point_without_validation(clock: Clock) -> None:
    points: list[StepEvent] = []
    meter = StepMeter(3, points.append)
    step = 0
    for _ in range(2):  # epochs of 4 steps of 10 images, 2 s a step
        meter.start_epoch()
        for _ in range(4):
            step += 1
            clock.now += 2.0
            if meter.count(step, 10):
                meter.report(step, loss=1.0 / step, lr=0.1)
        clock.now += 1000.0
    assert [point.step for point in points] == [3, 6]
    assert points[0].metrics == {"step/loss": 1 / 3, "step/lr": 0.1, "step/images_per_s": pytest.approx(5.0)}
    assert points[1].metrics["step/images_per_s"] == pytest.approx(5.0), "the second epoch's two steps alone"


def test_zero_is_never_due_and_reads_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = StepMeter()
    monkeypatch.setattr(step_meter, "time", None)
    assert not any(meter.count(step, 8) for step in range(1, 101))
