"""Cameras and streams, by a stand-in of OpenCV: times, broken frames, silence, and their end."""

import threading

import numpy as np
import pytest

from inference.cameras import Camera, put
from inference.drawn import picture
from watchme.core.errors import DataError
from watchme.inference import camera as module
from watchme.inference.sources import open_source


def test_frames_have_numbers_rgb_and_times_from_the_first_on(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = put(monkeypatch, Camera(6))
    source = open_source("0")
    assert (source.kind, source.length, source.fps, source.fingerprint) == ("live", None, 25.0, "")
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.time_s for frame in frames] == pytest.approx([0.04 * number for number in range(6)])
    assert frames[3].name == "camera0_000003"
    np.testing.assert_array_equal(frames[3].image, picture(3))
    assert source.faults == ["0 has ended after 6 frames"]
    assert camera.released.wait(5)


def test_of_a_camera_without_a_clock_time_goes_on_by_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, Camera(4, start_s=None))
    now = iter(range(100, 200))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(now)))
    times = [frame.time_s for frame in open_source("rtsp://camera/street")]
    assert times[0] == 0
    assert np.all(np.diff(times) >= 1)


def test_a_stride_and_an_early_end(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = put(monkeypatch, Camera(10**9))
    frames = open_source("0").frames(stride=3)
    assert [next(frames).index for _ in range(3)] == [0, 3, 6]
    frames.close()  # type: ignore[attr-defined]
    assert camera.released.wait(5)
    assert camera.number < 20


def test_broken_frames_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, Camera(6, broken=(0, 3)))
    source = open_source("0")
    assert [frame.index for frame in source] == [1, 2, 4, 5]
    assert source.faults[0] == "2 frames of 0 cannot be decoded and are left out"


@pytest.mark.parametrize("frames", [0, 3])
def test_a_camera_that_falls_silent_has_ended(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    put(monkeypatch, Camera(frames, then=answers.wait))
    source = open_source("0")
    coming = iter(source)
    try:
        assert [next(coming).index for _ in range(frames)] == list(range(frames))
        monkeypatch.setattr(module, "_PATIENCE_S", 0.3)  # only now: a busy machine may take longer for a frame
        if frames:
            assert list(coming) == []
            assert source.faults == ["0 has ended after 3 frames: nothing comes for 0 s"]
        else:
            with pytest.raises(DataError, match="source: 0 gives no frame: nothing comes"):
                next(coming)
    finally:
        answers.set()


def test_one_that_gives_nothing_that_can_be_decoded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, Camera(2, broken=(0, 1)))
    with pytest.raises(DataError, match="source: 0 gives no frame"):
        list(open_source("0"))
