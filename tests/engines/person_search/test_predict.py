"""mode=predict and mode=embed: what they write, with models that know the answer; killed and resumed."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inference.drawn import COLOURS, Knowing, Pixels, Sighted, film, picture
from person_search.predicting import Run, Told, Typed, lines
from watchme.core.errors import ConfigError, DataError, RunFolderError
from watchme.core.interfaces import Job, Picture, Table
from watchme.engines.person_search.embed import embed
from watchme.inference import sightings as store
from watchme.inference.sightings import load
from watchme.inference.sources import open_source


@pytest.fixture
def run(typed_config: Typed, tmp_path: Path) -> Run:
    return Run(tmp_path, typed_config)


def pictures(told: Told, kind: str) -> list[Picture]:
    return [item for item in told.shown if isinstance(item, Picture) and item.name.startswith(f"{kind}/")]


def test_a_video_with_a_reid_model(run: Run, tmp_path: Path) -> None:
    source = film(tmp_path / "street.avi", 40)
    told = run(source, "predict.save=[jsonl,yolo,coco,drawn]", "predict.frame_batch=5")
    found = load(told.folder)
    expected = [Sighted().detect([frame.image])[0] for frame in open_source(source)]
    expected = [rows[rows[:, 4] >= 0.25] for rows in expected]
    np.testing.assert_array_equal(found.box, np.concatenate([rows[:, :4] for rows in expected]))
    assert found.embedding is not None
    np.testing.assert_allclose(np.linalg.norm(found.embedding, axis=1), 1, atol=1e-5)
    # The three people by their colours, although two of them leave and come back.
    persons = {int(person): found.embedding[found.person == person].mean(axis=0) for person in np.unique(found.person)}
    assert persons.keys() == {1, 2, 3}
    assert {int(np.argmax(mean)) for mean in persons.values()} == {0, 1, 2}
    for mean, member in zip((persons[int(p)] for p in found.person), found.embedding, strict=True):
        assert int(np.argmax(mean)) == int(np.argmax(member))
    check_jsonl(told.folder, expected)
    check_yolo(told.folder, expected)
    check_coco(told.folder, expected)
    check_video(told.folder / "drawn.mp4", expected)
    assert told.result.metrics["predict/persons"] == 3
    assert re.search(r"3 persons; [0-9.]+ frames a second \([1-9]\d* ms each\)", told.result.details["headline"])
    assert len(pictures(told, "people")) == 3
    assert len(pictures(told, "frames")) == 12
    assert all(each.path.is_file() and each.path.is_relative_to(told.folder) for each in pictures(told, "people"))
    (table,) = (item for item in told.shown if isinstance(item, Table))
    assert sum(row[1] for row in table.rows) == len(found)


def check_jsonl(folder: Path, expected: Sequence[NDArray[np.float32]]) -> None:
    read = lines(folder)
    assert [line["frame"] for line in read] == list(range(40))
    assert [line["time_s"] for line in read] == pytest.approx([number / 25 for number in range(40)], abs=1e-3)
    assert (read[3]["name"], read[3]["width"], read[3]["height"]) == ("street_000003", 160, 120)
    for line, rows in zip(read, expected, strict=True):
        boxes = np.array([person["box"] for person in line["people"]]).reshape(-1, 4)
        np.testing.assert_allclose(boxes, rows[:, :4], atol=0.01)
        assert all(person["person"] >= 1 and person["track"] >= 1 for person in line["people"])


def check_yolo(folder: Path, expected: Sequence[NDArray[np.float32]]) -> None:
    """By the inverse of the format: centre and size in shares of the frame."""
    for number, rows in enumerate(expected):
        read = np.loadtxt(folder / "labels" / f"street_{number:06d}.txt", ndmin=2)
        centre, size = read[:, 1:3] * (160, 120), read[:, 3:5] * (160, 120)
        np.testing.assert_allclose(np.hstack([centre - size / 2, centre + size / 2]), rows[:, :4], atol=0.01)
        np.testing.assert_allclose(read[:, 5], rows[:, 4], atol=1e-4)


def check_coco(folder: Path, expected: Sequence[NDArray[np.float32]]) -> None:
    read = json.loads((folder / "predictions.json").read_text())
    assert [image["file_name"] for image in read["images"]][:2] == ["street_000000", "street_000001"]
    assert len(read["annotations"]) == sum(map(len, expected))
    assert len({each["id"] for each in read["annotations"]}) == len(read["annotations"])
    first = [each["bbox"] for each in read["annotations"] if each["image_id"] == 1]
    rows = expected[0][:, :4]
    np.testing.assert_allclose(first, np.hstack([rows[:, :2], rows[:, 2:] - rows[:, :2]]), atol=0.02)


def check_video(path: Path, expected: Sequence[NDArray[np.float32]]) -> None:
    """As many frames as the source, and other pixels along the boxes."""
    source = open_source(path)
    assert source.fps == 25
    drawn = [frame.image for frame in source]
    assert len(drawn) == len(expected)
    left, top, _, bottom = expected[20][0, :4].astype(int)
    edge = drawn[20][top:bottom, left].astype(int)
    assert np.abs(edge - picture(20)[top:bottom, left]).mean() > 20
    assert np.abs(drawn[20][100:, :20].astype(int) - picture(20)[100:, :20]).mean() < 12


def test_a_folder_of_pictures_without_a_reid_model(run: Run, tmp_path: Path) -> None:
    for name, number in (("a.png", 0), ("below/b.jpg", 20), ("below/b.png", 20)):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)).save(tmp_path / "photos" / name)
    Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save(tmp_path / "photos" / "nobody.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"none")
    told = run(tmp_path / "photos", "predict.save=[jsonl,drawn,yolo]", reid=False)
    assert [line["name"] for line in lines(told.folder)] == ["a.png", "below/b.jpg", "below/b.png", "nobody.png"]
    assert [len(line["people"]) for line in lines(told.folder)] == [2, 3, 3, 0]
    assert all(line["time_s"] is None for line in lines(told.folder))
    assert "person" not in lines(told.folder)[0]["people"][0]
    # Two pictures of one name do not overwrite each other.
    files = sorted(
        path.relative_to(told.folder / "drawn").as_posix() for path in (told.folder / "drawn").rglob("*.jpg")
    )
    assert files == ["a.jpg", "below/b.jpg.jpg", "below/b.png.jpg", "nobody.jpg"]
    assert len(list((told.folder / "labels").rglob("*.txt"))) == 3
    assert (told.folder / "sightings.npz").is_file()
    assert not (told.folder / "embeddings.npz").exists()
    assert [text for text in told.fallbacks if "broken.png cannot be read" in text]
    assert math.isnan(told.result.objective)


def test_stride_limit_and_other_formats(run: Run, tmp_path: Path) -> None:
    source = film(tmp_path / "street.avi", 40)
    options = ("predict.stride=4", "predict.frames=30", "predict.save=[drawn,frames]", "predict.video=webm")
    told = run(source, *options, "predict.pictures=2")
    found = load(told.folder)
    assert found.frame_index.tolist() == list(range(0, 30, 4))
    drawn = open_source(told.folder / "drawn.webm")
    assert (len(list(drawn)), drawn.fps) == (8, 25 / 4)
    assert len(list((told.folder / "frames").glob("*.jpg"))) == 8
    assert not (told.folder / "predictions.jsonl").exists()
    assert (len(pictures(told, "people")), len(pictures(told, "frames"))) == (2, 2)


def test_nobody_anywhere(run: Run, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save(tmp_path / "dark.png")
    told = run(tmp_path / "dark.png", "predict.save=[jsonl,drawn,yolo,coco]")
    assert [line["people"] for line in lines(told.folder)] == [[]]
    assert json.loads((told.folder / "predictions.json").read_text())["annotations"] == []
    assert told.result.metrics["predict/sightings"] == 0


def test_nothing_is_drawn_where_nothing_is_asked_for(run: Run, tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    told = run(f"{tmp_path}/*.png", "predict.save=[jsonl]", "predict.pictures=0")
    assert len(lines(told.folder)) == 3
    assert not [item for item in told.shown if isinstance(item, Picture)]
    assert not told.fallbacks[1:]


class Interrupting(Sighted):
    """Is interrupted in a batch, as by Ctrl-C."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def detect(self, images: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        if len(self.batches) == self.at:
            raise KeyboardInterrupt
        return super().detect(images)


def contents(folder: Path) -> dict[str, bytes]:
    names = ("predictions.jsonl", "predictions.json", "drawn.mp4")
    arrays = np.load(folder / "embeddings.npz")
    return {name: arrays[name].tobytes() for name in arrays.files} | {
        name: (folder / name).read_bytes() for name in names
    }


def test_interrupted_and_gone_on_with_it_ends_as_in_one_go(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_FRAMES", 8)
    source = film(tmp_path / "street.avi", 60)
    options = ("predict.frame_batch=4", "predict.save=[jsonl,coco,drawn]")
    whole = contents(run(source, *options, folder="whole").folder)
    for at in (5, 3):
        with pytest.raises(KeyboardInterrupt):
            run(source, *options, detector=Interrupting(at))
        done = lines(tmp_path / "run")
        assert len(done) == len(load(tmp_path / "run").frame_index) > 0
    rest = Sighted()
    told = run(source, *options, detector=rest)
    assert 0 < sum(rest.batches) < 60
    assert contents(told.folder) == whole


def test_other_options_do_not_mix_with_what_is_there(run: Run, tmp_path: Path) -> None:
    source = film(tmp_path / "street.avi", 30)
    with pytest.raises(KeyboardInterrupt):
        run(source, "predict.frame_batch=4", detector=Interrupting(3))
    with pytest.raises(RunFolderError, match="with other confidence"):
        run(source, "predict.frame_batch=4", "predict.confidence=0.3")
    with pytest.raises(RunFolderError, match="with other frames"):
        run(source, "predict.frame_batch=4", "predict.frames=20")
    (tmp_path / "reid.pt").write_bytes(b"another model")
    with pytest.raises(RunFolderError, match="with other reid"):
        run(source, "predict.frame_batch=4")


# ---- Embedding


def embedded(typed_config: Typed, tmp_path: Path, source: Path, *overrides: str) -> Told:
    (tmp_path / "reid.pt").touch()
    reid = f"reid={tmp_path / 'reid.pt'}"
    config = typed_config("model=predict", "mode=embed", f"source={source}", reid, *overrides)
    told = Told(tmp_path / "embedded")
    told.folder.mkdir(exist_ok=True)
    told.result = embed(Job(config, told.folder, fallback=told.fallbacks.append, load_model=lambda *_: Knowing()))
    return told


def test_embeddings_of_a_folder_of_crops(typed_config: Typed, tmp_path: Path) -> None:
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (20, 40), colour).save(tmp_path / f"crop{number}.png")
    (tmp_path / "crop9.png").write_bytes(b"none")
    told = embedded(typed_config, tmp_path, tmp_path, "predict.crop_batch=2")
    with np.load(told.folder / "embeddings.npz") as found:
        assert found["name"].tolist() == ["crop0.png", "crop1.png", "crop2.png"]
        crops = [np.full((40, 20, 3), colour, np.uint8) for colour in COLOURS]
        np.testing.assert_allclose(found["embedding"], Knowing().embed(crops), atol=1e-6)
    assert "crop9.png cannot be read" in told.fallbacks[0]
    assert told.result.details["cards"][0] == ("crops", "3", "3 numbers each")
    with pytest.raises(DataError, match="mode=predict"):
        embedded(typed_config, tmp_path, film(tmp_path / "street.avi", 3))


# ---- Validation


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (("mode=predict",), {"detector", "source"}),
        (("mode=embed",), {"reid", "source"}),
        (("mode=embed", "source=a", "reid=gone.pt", "detector=b.pt"), {"detector", "reid"}),
        (("mode=predict", "source=a", "detector=gone", "predict.stride=0", "predict.save=[mp3]"), None),
        (("mode=search", "source=a", "dataset=demo_search"), {"source", "detector", "reid"}),
    ],
)
def test_what_is_missing_or_does_not_belong_is_told(
    overrides: tuple[str, ...], keys: set[str] | None, typed_config: Typed
) -> None:
    with pytest.raises(ConfigError) as refused:
        typed_config("model=predict", *overrides)
    found = {problem.key for problem in refused.value.problems}
    assert found == (keys or {"detector", "predict.stride", "predict.save"})


def test_a_run_folder_stands_for_its_best_weights(typed_config: Typed, tmp_path: Path) -> None:
    (tmp_path / "run" / "weights").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    (tmp_path / "run" / "config.yaml").write_text("dataset: {task: detection}\nmodel: {name: yolo11n}\n")
    options = ("model=predict", "mode=predict", "source=0", f"detector={tmp_path / 'run'}")
    with pytest.raises(ConfigError, match=r"is a run without weights/best\.pt"):
        typed_config(*options)
    (tmp_path / "run" / "weights" / "best.pt").touch()
    assert typed_config(*options).source == 0
    assert typed_config(*options).dataset.name == "camera0"
