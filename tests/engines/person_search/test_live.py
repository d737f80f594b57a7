"""mode=predict and mode=find of a camera: Ctrl-C, its end, what cannot be resumed."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.cameras import Camera, put
from inference.drawn import Pixels, Sighted
from person_search import finding
from person_search.predicting import Run, Typed, lines
from watchme.core.errors import RunFolderError
from watchme.inference import pipeline
from watchme.inference.sightings import load
from watchme.inference.sources import open_source


@pytest.fixture
def run(typed_config: Typed, tmp_path: Path) -> Run:
    return Run(tmp_path, typed_config)


class CtrlC:
    """The user's Ctrl-C, and nothing more of the camera: a grab that does not return."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def __call__(self) -> bool:
        signal.raise_signal(signal.SIGINT)
        return self.over.wait() and False


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Iterator[CtrlC]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(pipeline, "_PATIENCE_S", 0.3)
    pressed = CtrlC()
    yield pressed
    pressed.over.set()
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_a_silent_camera_and_keeps_what_is_done(
    run: Run, ctrl_c: CtrlC, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, Camera(40, then=ctrl_c))
    began = time.monotonic()
    told = run("0", "predict.frame_batch=4")
    assert time.monotonic() - began < 35, "the camera's patience is 40 s"
    assert 0 < len(lines(told.folder)) <= 40
    assert len(load(told.folder).frame_index) == len(lines(told.folder))
    assert (told.folder / "drawn.mp4").is_file()
    monkeypatch.undo()
    drawn = len(list(open_source(told.folder / "drawn.mp4")))
    assert 0 <= len(lines(told.folder)) - drawn <= 4, "the batch that Ctrl-C came in may not be drawn any more"


def test_ctrl_c_before_the_first_frame_is_just_that(run: Run, ctrl_c: CtrlC, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, Camera(0, then=ctrl_c))
    with pytest.raises(KeyboardInterrupt):
        run("0")


def test_a_camera_that_stops_is_told_and_done(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, Camera(20, broken=(7,)))
    told = run("0")
    assert len(lines(told.folder)) == 19
    assert told.fallbacks[-2:] == ["1 frames of 0 cannot be decoded and are left out", "0 has ended after 20 frames"]


def test_the_drawn_video_keeps_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera whose frames come every 0.2 s, although it announces 25 a second; their size changes, too."""
    put(monkeypatch, Camera(10, step_s=0.2, sizes=((120, 160), (240, 320))))
    told = run("0")
    monkeypatch.undo()
    drawn = list(open_source(told.folder / "drawn.mp4"))
    assert drawn[-1].time_s == pytest.approx(9 * 0.2, abs=0.05)
    assert {frame.image.shape for frame in drawn} == {(120, 160, 3)}
    assert [(line["height"], line["width"]) for line in lines(told.folder)][:2] == [(120, 160), (240, 320)]
    assert all(line["people"] for line in lines(told.folder))


def test_what_a_camera_showed_before_a_kill_cannot_be_gone_on_with(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Sighted):
        def detect(self, images: Sequence[Pixels]) -> list[NDArray[np.float32]]:
            if len(self.batches) == 2:
                raise MemoryError
            return super().detect(images)

    put(monkeypatch, Camera(40))
    with pytest.raises(MemoryError):
        run("0", "predict.frame_batch=4", detector=Killed())
    put(monkeypatch, Camera(40))
    with pytest.raises(RunFolderError, match="a part of what 0 showed"):
        run("0", "predict.frame_batch=4")


def test_find_in_what_a_camera_shows(typed_config: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = finding.Run(tmp_path, typed_config)
    put(monkeypatch, Camera(30))
    told = look("source=0", "find.threshold=0.6", "find.clips=1")
    assert {match.frame for match in told.found.matches if match.is_match} == set(range(30))
    assert any("cannot be seen again" in text for text in told.fallbacks)
