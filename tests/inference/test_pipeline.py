"""The pipeline: the same as one frame at a time, in order, bounded, and ended by whoever stops listening."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inference.drawn import Knowing, Pixels, Sighted, film, picture
from watchme.inference.pipeline import Settings, cut_out, embeddings_of, sightings_of
from watchme.inference.sources import open_source


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith(("watchme", "pictures"))}


def gone(limit: float = 5.0) -> bool:
    """Whether the pipeline's threads end."""
    end = time.monotonic() + limit
    while threads() and time.monotonic() < end:
        threading.Event().wait(0.01)
    return not threads()


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_as_one_frame_at_a_time(batch: int, tmp_path: Path) -> None:
    source = open_source(film(tmp_path / "film.avi", 30))
    detector, embedder = Sighted(), Knowing()
    settings = Settings(confidence=0.5, frame_batch=batch, crop_batch=4)
    found = [each for part in sightings_of(source, detector, embedder, settings) for each in part]
    assert [frame.index for frame, _ in found] == list(range(30))
    assert max(detector.batches) == min(batch, 30)
    for frame, seen in found:
        (rows,) = Sighted().detect([frame.image])
        rows = rows[rows[:, 4] >= 0.5]
        np.testing.assert_array_equal(np.column_stack([seen.boxes, seen.scores]), rows)
        crops = [cut_out(frame.image, box) for box in rows[:, :4].tolist()]
        assert seen.embeddings is not None
        np.testing.assert_allclose(seen.embeddings, Knowing().embed(crops), atol=1e-6)
        assert (seen.index, seen.name, seen.size) == (frame.index, frame.name, (120, 160))
    assert {len(seen.scores) for _, seen in found} >= {2, 3}
    assert gone()


@pytest.mark.parametrize("most", [0.3, 0.5, 0.75, 1.0])
def test_of_boxes_that_overlap_the_surer_counts_as_torchvision_says(most: float, tmp_path: Path) -> None:
    """A person who is detected twice would be two sightings in each frame, and two tracks."""
    import torch
    from torchvision.ops import nms

    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (40, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 60, (40, 2))], axis=1)
    rows = np.column_stack([boxes, np.sort(rng.uniform(0.3, 1, 40))[::-1]]).astype(np.float32)

    class Doubtful(Sighted):
        def detect(self, images: Sequence[Pixels]) -> list[NDArray[np.float32]]:
            return [rows for _ in images]

    Image.fromarray(np.zeros((50, 40, 3), np.uint8)).save(tmp_path / "dark.png")
    (((_, seen),),) = sightings_of(open_source(tmp_path), Doubtful(), None, Settings(iou=most))
    kept = nms(torch.from_numpy(rows[:, :4]), torch.from_numpy(rows[:, 4]), most)
    np.testing.assert_array_equal(seen.boxes, rows[kept.numpy(), :4])
    assert (len(kept) < 40) == (most < 1)


def test_start_stride_and_limit(tmp_path: Path) -> None:
    source = open_source(film(tmp_path / "film.avi", 30))
    settings = Settings(stride=3, limit=20, frame_batch=4)
    found = [frame.index for part in sightings_of(source, Sighted(), None, settings, start=4) for frame, _ in part]
    assert found == [6, 9, 12, 15, 18]


def test_without_an_embedder_and_without_people(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((50, 40, 3), np.uint8)).save(tmp_path / "dark.png")
    source = open_source(tmp_path)
    (((_, seen),),) = sightings_of(source, Sighted(), None, Settings())
    assert (seen.boxes.shape, seen.embeddings) == ((0, 4), None)
    (((_, seen),),) = sightings_of(source, Sighted(), Knowing(), Settings())
    assert seen.embeddings is not None
    assert seen.embeddings.shape == (0, 3)


def test_who_stops_listening_ends_the_threads(tmp_path: Path) -> None:
    source = open_source(film(tmp_path / "film.avi", 60))
    batches = sightings_of(source, Sighted(), Knowing(), Settings(frame_batch=2))
    next(batches)
    assert threads()
    batches.close()
    assert gone()


@pytest.mark.parametrize("stage", ["detect", "embed"])
def test_an_error_of_a_thread_reaches_the_caller(stage: str, tmp_path: Path) -> None:
    source = open_source(film(tmp_path / "film.avi", 60))

    class Failing(Sighted):
        def detect(self, images: Sequence[Pixels]) -> list[NDArray[np.float32]]:
            raise MemoryError("of the detector")

    class Broken(Knowing):
        def embed(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
            raise MemoryError("of the embedder")

    detector, embedder = (Failing(), Knowing()) if stage == "detect" else (Sighted(), Broken())
    with pytest.raises(MemoryError, match=r"of the (detector|embedder)"):
        list(sightings_of(source, detector, embedder, Settings()))
    assert gone()


def test_frames_wait_in_small_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader is at most a few batches ahead of the caller, however slow that is."""
    source = open_source(film(tmp_path / "film.avi", 200))
    read = [0]
    frames = source.frames

    def counted(start: int = 0, stride: int = 1):  # type: ignore[no-untyped-def]
        for frame in frames(start, stride):
            read[0] += 1
            yield frame

    monkeypatch.setattr(source, "frames", counted)
    ahead = []
    done = 0
    for part in sightings_of(source, Sighted(), Knowing(), Settings(frame_batch=2)):
        done += len(part)
        threading.Event().wait(0.005)
        ahead.append(read[0] - done)
    assert done == 200
    assert 0 < max(ahead) <= 16


def test_the_stages_overlap(tmp_path: Path) -> None:
    """While the embedder works on a batch, the detector works on the next."""
    source = open_source(film(tmp_path / "film.avi", 12))
    at_once = threading.Barrier(2, timeout=10)

    class Meeting(Sighted):
        def detect(self, images: Sequence[Pixels]) -> list[NDArray[np.float32]]:
            if self.batches:
                at_once.wait()
            return super().detect(images)

    class Partner(Knowing):
        calls = 0

        def embed(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
            self.calls += 1
            if self.calls < 3:
                at_once.wait()
            return super().embed(crops)

    found = list(sightings_of(source, Meeting(), Partner(), Settings(frame_batch=4)))
    assert sum(map(len, found)) == 12  # a barrier that one of them misses would have raised


def test_embeddings_of_whole_pictures(tmp_path: Path) -> None:
    for number in range(5):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    found = list(embeddings_of(open_source(tmp_path), Knowing(), 2))
    assert [len(frames) for frames, _ in found] == [2, 2, 1]
    expected = Knowing().embed([picture(number) for number in range(5)])
    np.testing.assert_allclose(np.concatenate([features for _, features in found]), expected, atol=1e-6)
