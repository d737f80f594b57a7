"""mode=find from end to end, by models that know the answer."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.drawn import COLOURS, Sighted, film, picture
from person_search.finding import RED, Run, Told, block, calibration
from watchme.config.schema import RunConfig
from watchme.core.errors import ConfigError, DataError, RunFolderError
from watchme.metrics.iou import iou_matrix

Typed = Callable[..., RunConfig]


@pytest.fixture
def run(typed_config: Typed, tmp_path: Path) -> Run:
    return Run(tmp_path, typed_config)


def test_the_person_is_found_in_every_frame_and_nobody_else(run: Run) -> None:
    told = run(f"find.calibration={calibration(run.root / 'calibration.json')}")
    matches = [match for match in told.found.matches if match.is_match]
    assert sorted(match.frame for match in matches) == list(range(40))
    for match in matches:
        ys, xs = np.nonzero((picture(match.frame) == COLOURS[RED]).all(axis=2))
        seen = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float64)
        assert iou_matrix(np.array([match.box]), seen)[0, 0] > 0.6, match.frame
        assert match.time_s == pytest.approx(match.frame / 25, abs=0.002)
        assert match.higher_than == 1
    assert [match.rank for match in told.found.matches] == list(range(1, len(told.found.matches) + 1))
    (span,) = told.found.appearances
    assert (span.first_frame, span.last_frame, span.sightings) == (0, 39, 40)
    assert told.found.threshold == pytest.approx(0.292, abs=0.002)
    assert told.found.expected_false == pytest.approx(0.01 * told.found.sightings, rel=0.15)
    assert told.result.metrics["find/matches"] == 40
    assert ("matches", "40", "") in told.result.details["cards"]
    assert told.fallbacks == []


def test_pictures_show_the_match_in_its_frame(run: Run) -> None:
    told = run(f"find.calibration={calibration(run.root / 'calibration.json')}", "find.topk=5")
    (span,) = told.found.appearances
    assert 1 <= len(span.ranks) <= 5
    shown = {match.rank: match for match in told.found.matches}
    for rank in span.ranks:
        crop = np.asarray(Image.open(told.found.folder / shown[rank].crop), float)
        middle = crop[crop.shape[0] // 3 : -crop.shape[0] // 3, crop.shape[1] // 3 : -crop.shape[1] // 3]
        assert middle.mean(axis=(0, 1)) == pytest.approx(COLOURS[RED], abs=40)
        assert Image.open(told.found.folder / shown[rank].picture).size == (160, 120)
    others = [match for match in told.found.matches if match.crop and not match.is_match]
    assert others, "what is nearly as similar is shown too"


def test_the_table_lists_what_was_found(run: Run) -> None:
    told = run(f"find.calibration={calibration(run.root / 'calibration.json')}")
    with (told.found.folder / "matches.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(told.found.matches)
    assert [float(row["similarity"]) for row in rows] == sorted(
        (float(row["similarity"]) for row in rows), reverse=True
    )
    assert rows[0]["is_match"] == "1"
    assert float(rows[0]["x2"]) > float(rows[0]["x1"])


def test_an_index_is_filled_once_and_searched_for_others(run: Run) -> None:
    index = f"index={run.root / 'index'}"
    first = run(index, "find.threshold=0.6")
    looked: list[int] = []

    class Query(Sighted):
        def detect(self, images: Any) -> Any:
            looked.append(len(images))
            return super().detect(images)

    block(run.root / "green.png", COLOURS[1])
    second = run(index, "find.threshold=0.6", f"query={run.root / 'green.png'}", detector=Query())
    assert looked == [1, 1, 1], "only the query picture was looked at, at each border"
    assert second.found.sightings == first.found.sightings
    assert {match.frame for match in second.found.matches if match.is_match} == set(range(40))
    assert not set(first.found.appearances) & set(second.found.appearances)
    assert not list(first.found.folder.glob("*.npz"))


@pytest.mark.parametrize("part", ["source", "detector", "reid", "confidence"])
def test_an_index_of_something_else_is_refused_by_name(run: Run, part: str) -> None:
    index = f"index={run.root / 'index'}"
    run(index)
    other = {"confidence": "predict.confidence=0.5"}
    if part == "source":
        other[part] = f"source={film(run.root / 'other.mp4', frames=12)}"
    elif part != "confidence":
        (run.root / f"{part}.pt").write_text("other weights")
    with pytest.raises(RunFolderError, match=f"other {part}"):
        run(index, *([other[part]] if part in other else []))


def test_without_a_calibration_people_of_one_frame_serve(run: Run) -> None:
    # Forty frames with two or three people, but each pair is equally similar: the threshold is just above.
    long = film(run.root / "long.mp4", frames=120)
    told = run(f"source={long}")
    (text,) = told.fallbacks
    assert "no calibration.json" in text
    assert "pairs of people who are seen in one frame" in text
    assert not math.isnan(told.found.threshold)
    assert {match.frame for match in told.found.matches if match.is_match} == set(range(120))


def test_without_anything_nobody_is_called_a_match(run: Run) -> None:
    few = film(run.root / "few.mp4", frames=5)
    told = run(f"source={few}")
    assert any(text.startswith("not calibrated") for text in told.fallbacks)
    assert math.isnan(told.found.threshold)
    assert not told.found.appearances
    assert told.found.matches[0].frame in range(5)
    assert not any(match.is_match for match in told.found.matches)
    assert any(match.crop for match in told.found.matches)


def test_a_calibration_that_does_not_hold_here_is_told(run: Run) -> None:
    long = film(run.root / "long.mp4", frames=120)
    told = run(f"source={long}", f"find.calibration={calibration(run.root / 'c.json', -1, -0.9)}")
    assert any("less sure here" in text for text in told.fallbacks)


def test_of_several_people_the_largest_is_taken_and_said(run: Run) -> None:
    block(run.root / "two.png", COLOURS[RED], COLOURS[1])
    told = run(f"query={run.root / 'two.png'}", "find.threshold=0.6")
    (text,) = [text for text in told.fallbacks if text.startswith("query")]
    assert "2 people, from left to right: 1 at x 10 to 34, 2 at x 60 to 84; the largest, number 2" in text
    chosen = run(f"query={run.root / 'two.png'}", "query_person=1", "find.threshold=0.6")
    assert not [text for text in chosen.fallbacks if text.startswith("query")]
    boxes = [next(match.box for match in each.found.matches if match.is_match) for each in (told, chosen)]
    assert boxes[0] != boxes[1]
    with pytest.raises(ConfigError, match="2 people, from left to right"):
        run(f"query={run.root / 'two.png'}", "query_person=3")


def test_parts_of_a_person_and_doubts_are_nobody_else(run: Run) -> None:
    class Doubtful(Sighted):
        def detect(self, images: Any) -> Any:
            (rows,) = super().detect(images[:1])
            if len(images) > 1 or len(rows) != 1:
                return super().detect(images)
            x1, y1, x2, y2, score = rows[0]
            part = [x1 + 1, y1, x2 - 1, (y1 + y2) / 2, 0.95 * score]
            return [np.array([rows[0], part, [0, 0, 9, 9, 0.4 * score]], np.float32)]

    told = run("find.threshold=0.6", "predict.confidence=0.1", "predict.frame_batch=8", detector=Doubtful())
    assert not [text for text in told.fallbacks if text.startswith("query")]


def test_a_crop_in_which_nobody_is_detected_is_taken_whole(run: Run) -> None:
    Image.fromarray(np.full((60, 30, 3), (200, 90, 80), np.uint8)).save(run.root / "crop.png")
    told = run(f"query={run.root / 'crop.png'}", "find.threshold=0.6")
    assert any("whole picture is taken" in text for text in told.fallbacks)
    assert {match.frame for match in told.found.matches if match.is_match} == set(range(40))


def test_a_query_of_any_kind_of_pixels(run: Run) -> None:
    """Opaque RGBA is RGB; grey of 8 and of 16 bits is the same grey; a transparent background is white."""
    with Image.open(run.query) as colour:
        colour.convert("RGBA").save(run.root / "rgba.png")
        grey = np.asarray(colour.convert("L"))
    Image.fromarray(grey).save(run.root / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(run.root / "deep.png")
    found = {}
    for name in ("query", "rgba", "grey", "deep"):
        told = run(f"query={run.root / name}.png", "find.threshold=0.6").found
        found[name] = [(match.frame, match.box, match.similarity) for match in told.matches]
    assert found["rgba"] == found["query"]
    assert found["deep"] == found["grey"] != found["query"]


def test_a_query_that_holds_no_picture_is_refused(run: Run) -> None:
    (run.root / "empty").mkdir()
    with pytest.raises(DataError, match=r"query: .*empty holds no image"):
        run(f"query={run.root / 'empty'}")
    with pytest.raises(DataError, match=r"query: .*is no picture"):
        run(f"query={run.source}")
    run.query.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"query: .*query\.png cannot be read"):
        run()


def test_two_query_pictures_of_one_name_are_both_shown(run: Run) -> None:
    for folder in ("a", "b"):
        (run.root / folder).mkdir()
        block(run.root / folder / "1.png", COLOURS[RED])
    told = run(f"query=[{run.root}/a/1.png,{run.root}/b/1.png]", "find.threshold=0.6")
    assert list(told.found.queries) == ["1.png", "1.png (2)"]
    assert len({(told.found.folder / crop) for crop in told.found.queries.values()}) == 2


def test_several_pictures_are_averaged(run: Run) -> None:
    (run.root / "pictures").mkdir()
    for number, colour in enumerate((COLOURS[RED], COLOURS[2])):
        block(run.root / "pictures" / f"{number}.png", colour)
    told = run(f"query={run.root / 'pictures'}", "find.threshold=0.45")
    listed = run(f"query=[{run.root}/pictures/0.png,{run.root}/pictures/1.png]", "find.threshold=0.45")
    assert len(told.found.queries) == len(listed.found.queries) == 2
    boxes = {tuple(round(value) for value in match.box) for match in told.found.matches if match.is_match}
    assert len(boxes) > 40, "both people of the pictures are half alike"
    assert [match.similarity for match in told.found.matches] == [match.similarity for match in listed.found.matches]


def test_blur_others_leaves_the_person_alone(run: Run) -> None:
    plain = run("find.threshold=0.6", "find.topk=3")
    blurred = run("find.threshold=0.6", "find.topk=3", "blur_others=true")

    def sides(told: Told, colour: int) -> float:
        """How steeply a person's colour ends, at its sharpest."""
        steepest = 0.0
        for match in (match for match in told.found.matches if match.picture and match.is_match):
            pixels = np.asarray(Image.open(told.found.folder / match.picture), float)
            ys, xs = np.nonzero((picture(match.frame) == COLOURS[colour]).all(axis=2))
            row = pixels[(ys.min() + ys.max()) // 2, max(0, xs.min() - 4) : xs.min() + 5]
            steepest = max(steepest, float(np.abs(np.diff(row, axis=0)).max()))
        return steepest

    assert sides(blurred, RED) > 60
    assert sides(plain, 1) > 40
    assert sides(blurred, 1) < 0.75 * sides(plain, 1)


def test_clips_hold_the_appearance(run: Run) -> None:
    import cv2

    told = run("find.threshold=0.6", "find.clips=1")
    (span,) = told.found.appearances
    capture = cv2.VideoCapture(str(told.found.folder / span.clip))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == pytest.approx(40, abs=1)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["query=nowhere.png"], DataError, "query: there is no 'nowhere.png'"),
        (["source=nowhere.mp4"], DataError, "source: there is no"),
        (["query=0"], ConfigError, "query = 0"),
        (["query=null"], ConfigError, "mode=find needs pictures of the person"),
        ([f"index={__file__}"], ConfigError, "expected a folder, that of mode=predict or one to make"),
        (["source=0", "index=kept"], ConfigError, "a camera or a stream is not there again"),
        (["find.calibration=nowhere"], ConfigError, "holds no calibration.json"),
        (["find.false_match_rate=0"], ConfigError, "find.false_match_rate"),
    ],
)
def test_a_refusal_names_the_key_and_comes_before_anything(
    run: Run, overrides: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(*overrides)
    assert not (run.root / "run1").exists()
    assert not Path("kept").exists()
