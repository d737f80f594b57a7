"""The store of sightings: what goes in comes out, whatever kills the writer, and in little memory."""

import math
from pathlib import Path

import numpy as np
import pytest

from watchme.core.errors import RunFolderError
from watchme.inference import sightings as store
from watchme.inference.sightings import Seen, Sightings, SightingsWriter, load, merge

KEY = {"source": "street.mp4", "detector": "abc"}


def seen(index: int, *, dimensions: int | None = 4) -> Seen:
    """Frame `index` with index % 3 people."""
    rng, count = np.random.default_rng(index), index % 3
    vectors = None
    if dimensions:
        vectors = rng.normal(size=(count, dimensions)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    boxes, scores = rng.random((count, 4)).astype(np.float32), rng.random(count).astype(np.float32)
    return Seen(index, index / 25, f"street_{index}", (120, 160), boxes, scores, vectors)


def check(found: Sightings, count: int, *, dimensions: int | None = 4) -> None:
    """All columns of frames 0 to `count`, against what was put in."""
    expected = [seen(index, dimensions=dimensions) for index in range(count)]
    assert found.frame_index.tolist() == list(range(count))
    assert found.frame_time.tolist() == [each.time_s for each in expected]
    assert found.frame_name.tolist() == [each.name for each in expected]
    assert found.frame_size.tolist() == [[120, 160]] * count
    assert found.frame.tolist() == [each.index for each in expected for _ in each.scores]
    assert found.time.tolist() == [each.time_s for each in expected for _ in each.scores]
    np.testing.assert_array_equal(found.box, np.concatenate([each.boxes for each in expected]))
    np.testing.assert_array_equal(found.score, np.concatenate([each.scores for each in expected]))
    types = {"frame": "i8", "time": "f8", "box": "f4", "score": "f4", "track": "i8", "person": "i8"}
    assert {name: getattr(found, name).dtype.str[1:] for name in types} == types
    if dimensions is None:
        assert found.embedding is None
    else:
        vectors = np.concatenate([each.embeddings for each in expected if each.embeddings is not None])
        np.testing.assert_array_equal(found.embedding, vectors)


@pytest.mark.parametrize("dimensions", [4, None])
def test_what_goes_in_comes_out(dimensions: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_FRAMES", 8)
    writer = SightingsWriter(tmp_path, KEY)
    for start in range(0, 20, 4):
        writer.append([seen(index, dimensions=dimensions) for index in range(start, start + 4)])
    assert len(list((tmp_path / "sightings").glob("chunk_*.npz"))) == 2
    check(load(tmp_path), 16, dimensions=dimensions)  # what is not written yet would be lost by a kill
    writer.finish()
    check(load(tmp_path), 20, dimensions=dimensions)
    total = sum(index % 3 for index in range(20))
    numbers = np.arange(total)
    path = merge(tmp_path, numbers, numbers * 10)
    assert path.name == ("embeddings.npz" if dimensions else "sightings.npz")
    assert not list((tmp_path / "sightings").glob("chunk_*.npz"))
    found = load(tmp_path)
    check(found, 20, dimensions=dimensions)
    assert (found.track.tolist(), found.person.tolist()) == (numbers.tolist(), (numbers * 10).tolist())
    assert found.name(0) == "street_1"
    with np.load(path) as plain:  # as a user without this package reads it
        np.testing.assert_array_equal(plain["box"], found.box)
    merge(tmp_path, numbers + 1, numbers)  # of what is merged, e.g. with another threshold
    assert load(tmp_path).track.tolist() == (numbers + 1).tolist()


def test_a_second_writer_goes_on(tmp_path: Path) -> None:
    first = SightingsWriter(tmp_path, KEY)
    first.append([seen(0), seen(1)])
    first.flush()
    first.append([seen(2)])  # lost
    (tmp_path / "sightings" / ".chunk_000001.npz.1.tmp").write_bytes(b"half")
    second = SightingsWriter(tmp_path, KEY)
    assert (second.next_frame, second.frames, second.sightings, second.complete) == (2, 2, 1, False)
    second.append([seen(2), seen(3), seen(4)])
    second.finish()
    check(load(tmp_path), 5)
    assert SightingsWriter(tmp_path, KEY).complete
    merge(tmp_path, np.zeros(4, np.int64), np.zeros(4, np.int64))
    third = SightingsWriter(tmp_path, KEY)
    assert (third.next_frame, third.sightings, third.complete) == (5, 4, True)


def test_sightings_of_something_else_are_not_gone_on_with(tmp_path: Path) -> None:
    writer = SightingsWriter(tmp_path, KEY)
    writer.append([seen(0)])
    writer.finish()
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    with pytest.raises(RunFolderError, match=r"with other detector; .*hydra\.run\.dir"):
        SightingsWriter(tmp_path, {**KEY, "detector": "other"})
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    with pytest.raises(RunFolderError, match="holds no sightings"):
        load(tmp_path / "elsewhere")


def test_nothing_is_written_before_something_is_seen(tmp_path: Path) -> None:
    SightingsWriter(tmp_path, KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_source_without_people_and_one_of_pictures(tmp_path: Path) -> None:
    writer = SightingsWriter(tmp_path, KEY)
    empty = np.zeros((0, 4), np.float32)
    writer.append([Seen(7, math.nan, "a.jpg", (3, 5), empty, empty[:, 0], np.zeros((0, 6), np.float32))])
    writer.finish()
    merge(tmp_path, np.zeros(0, np.int64), np.zeros(0, np.int64))
    found = load(tmp_path)
    assert len(found) == 0
    assert found.embedding is not None
    assert found.embedding.shape == (0, 6)
    assert math.isnan(found.frame_time[0])


def test_large_embeddings_stay_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_MAPPED_BYTES", 64)
    writer = SightingsWriter(tmp_path, KEY)
    writer.append([seen(index) for index in range(20)])
    writer.finish()
    total = sum(index % 3 for index in range(20))
    merge(tmp_path, np.zeros(total, np.int64), np.zeros(total, np.int64))
    found = load(tmp_path)
    assert isinstance(found.embedding, np.memmap)
    check(found, 20)
