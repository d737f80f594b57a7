"""Hashes, labels and the database: what the checks stand on."""

import io
import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from watchme.data.check.database import Facts, Finding
from watchme.data.check.duplicates import near_duplicates
from watchme.data.check.image_probe import hash_of, probe_image, thumbnail
from watchme.data.check.issue_kinds import KINDS, SEVERITIES
from watchme.data.check.scan import scan_images
from watchme.data.check.summary_table import table_lines
from watchme.data.check.yolo_labels import Box, box_of, overlaps, overrun, read_label, repeated
from watchme.data.demo import DemoWorldConfig, ensure_demo_world


def test_hash_is_that_of_scipys_cosine_transform() -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (32, 32)).astype(np.float32)
    low = dctn(pixels, type=2)[1:9, 1:9]
    bits = "".join("1" if value > np.median(low) else "0" for value in low.ravel())
    assert f"{hash_of(pixels) & (1 << 64) - 1:064b}" == bits


def test_copies_of_photographs_are_found_and_nothing_else(real_data: Path, tmp_path: Path) -> None:
    """Half of them are put into another split anew: compressed, scaled, brighter. The other half has no copy."""
    photos = sorted((real_data / "coco128_person" / "images").rglob("*.jpg"))[:80]
    made = []
    for number, path in enumerate(photos[:40]):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        if number % 3 == 1:
            image = image.resize((image.width * 3 // 4, image.height * 3 // 4))
        elif number % 3 == 2:
            image = image.point(lambda value: min(255, int(value * 1.06 + 4)))
        image.save(tmp_path / f"{path.stem}.jpg", quality=70)
        made.append(str(tmp_path / f"{path.stem}.jpg"))
    with Facts() as facts:
        facts.list_images("train", "train", 0, ((str(path), None, None, None) for path in photos))
        facts.list_images("val", "val", 1, ((path, None, None, None) for path in made))
        scan_images(facts)
        found = {Path(one.file).stem: Path(one.other).stem for one in near_duplicates(facts)}
    assert all(copy == original for copy, original in found.items())
    assert len(found) >= 38


def test_crops_of_one_camera_are_not_alike(real_data: Path) -> None:
    """Every crop of Market-1501 against every other: none is the copy of another."""
    crops = sorted((real_data / "market1501_mini").rglob("*.jpg"))
    with Facts() as facts:
        for number, path in enumerate(crops):
            facts.list_images(str(number), "any", number, [(str(path), None, None, None)])
        scan_images(facts)
        assert list(near_duplicates(facts)) == []


def test_frames_of_a_fixed_camera_differ_where_people_are() -> None:
    """Most frames of the demo world's cameras are equal but for the people, and many have nearly equal hashes."""
    world = ensure_demo_world(DemoWorldConfig(identities=60, cameras=2)).detection
    frames = [label.stem for label in (world / "labels" / "train").iterdir() if label.stat().st_size]
    with Facts() as facts:
        for number, name in enumerate(sorted(frames)):
            facts.list_images(str(number), "any", number, [(f"{world}/images/train/{name}.jpg", None, None, None)])
        scan_images(facts)
        hashes = [value for (value,) in facts.rows("SELECT hash FROM images")]
        close = sum(bin((one ^ other) % 2**64).count("1") <= 4 for one, other in itertools.combinations(hashes, 2))
        assert close >= 3, "hashes alone do not tell them apart"
        assert list(near_duplicates(facts)) == []


def test_pictures_without_contrast_have_no_looks(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (9, 9, 9)).save(tmp_path / "night.png")
    look = probe_image(tmp_path / "night.png")
    assert (look.fault, look.hash, look.thumb) == ("", None, None)


def test_turned_photographs_have_the_size_that_people_see(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (60, 30), (200, 90, 0)).save(tmp_path / "turned.jpg", exif=exif)
    look = probe_image(tmp_path / "turned.jpg")
    assert (look.width, look.height) == (30, 60)
    shown = thumbnail(tmp_path / "turned.jpg", 100, 100)
    assert shown.height > shown.width


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff\xd8\xff\xe0 no", b"text"])
def test_what_cannot_be_read_has_a_reason_of_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    fault = probe_image(tmp_path / "x.jpg").fault
    assert fault
    assert "\n" not in fault
    assert "BytesIO" not in fault
    assert thumbnail(tmp_path / "x.jpg", 50, 60).size == (50, 60)


def test_missing_file(tmp_path: Path) -> None:
    look = probe_image(tmp_path / "none.jpg")
    assert look.digest is None
    assert "No such file" in look.fault


def test_bytes_behind_the_end_of_a_jpeg_are_no_fault(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), (200, 90, 0)).save(file, "JPEG")
    (tmp_path / "a.jpg").write_bytes(file.getvalue() + b"camera")
    (tmp_path / "b.jpg").write_bytes(file.getvalue()[:-2])
    assert probe_image(tmp_path / "a.jpg", whole=True).fault == ""
    assert probe_image(tmp_path / "b.jpg", whole=True).fault == "the file is truncated"


def test_boxes() -> None:
    box = Box(1, 0, 0.9, 0.5, 0.3, 0.2)
    assert overrun(box) == pytest.approx(0.05)
    assert overrun(Box(1, 0, 0.5, 0.5, 1.0, 1.0)) == 0
    assert overlaps([Box(1, 0, 0.5, 0.5, 0.2, 0.2)], [Box(2, 0, 0.6, 0.5, 0.2, 0.2)])[0, 0] == pytest.approx(1 / 3)
    same = [Box(1, 0, 0.5, 0.5, 0.2, 0.2), Box(2, 1, 0.5, 0.5, 0.2, 0.2), Box(3, 0, 0.5, 0.5, 0.2, 0.2)]
    assert list(repeated(same)) == [(same[2], same[0])]


def test_polygons_become_boxes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0.1 0.2 0.5 0.2 0.3 0.8\n")
    (line,) = read_label(tmp_path / "a.txt", 1)
    assert box_of(line) == pytest.approx((1, 0, 0.3, 0.5, 0.4, 0.6))


@pytest.mark.parametrize(
    ("text", "keypoints", "expected"),
    [
        ("0 0.3 0.3 0.5 0.3 0.5 0.7 0.3 0.7", 0, (0.4, 0.5, 0.2, 0.4)),  # OBB: four corners
        ("0 0.3 0.4 0.4 0.3 0.5 0.4 0.4 0.5", 0, (0.4, 0.4, 0.2, 0.2)),  # turned by 45 degrees
        ("0 0.5 0.5 0.4 0.6 0.45 0.4 0.55 0.6", 0, "looks like a pose"),  # a box and two keypoints
        ("0 0.5 0.5 0.4 0.6 0.45 0.4 0.55 0.6", 4, (0.5, 0.5, 0.4, 0.6)),
        ("0 0.5 0.5 0.4 0.6 0.45 0.4 2 0.55 0.6 1", 6, (0.5, 0.5, 0.4, 0.6)),
        ("0 0.5 0.5 0.4 0.6 0.45 0.4 0.55 0.6", 6, "6 numbers of keypoints were expected"),
        ("0 0.5 0.5 0.2 0.4 0.9 1.0", 0, "track"),
        ("0 0.5 0.5 0.2 0.4 0.9 3.0", 0, "track"),
    ],
)
def test_more_columns(
    text: str, keypoints: int, expected: "str | tuple[float, float, float, float]", tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(text + "\n")
    (line,) = read_label(tmp_path / "a.txt", 1, keypoints)
    if isinstance(expected, str):
        assert expected in line.fault
    else:
        assert line.fault == ""
        assert box_of(line)[2:] == pytest.approx(expected)


def test_a_wrong_count_is_not_taken_for_a_polygon(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n0 0.5\n0 0.2 0.2 0.1 0.1\n")
    assert [bool(line.fault) for line in read_label(tmp_path / "a.txt", 1)] == [False, True, False]


def test_memory_does_not_grow_with_findings(tmp_path: Path) -> None:
    with Facts(tmp_path) as facts:
        tracemalloc.start()
        facts.add(Finding("no label file", "train", f"/data/images/train/{index:09d}.jpg") for index in range(100_000))
        facts.write_issues(tmp_path / "issues.csv")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert facts.severities() == {"errors": 0, "warnings": 0, "notes": 100_000}
    assert peak < 3_000_000
    assert sum(1 for _ in (tmp_path / "issues.csv").open()) == 100_001
    assert [path.name for path in tmp_path.iterdir()] == ["issues.csv"], "the database is removed"


def test_the_worst_comes_first_and_the_table_is_narrow() -> None:
    with Facts() as facts:
        facts.add(
            [Finding("no label file", "train", "/d/a.jpg"), Finding("odd size", "train", "/d/b.jpg", "", "x" * 300)]
        )
        facts.add([Finding("missing split", "val", detail="it has no images")] * 2)
        lines = table_lines(facts.counts())
    assert [line.split()[0] for line in lines] == ["severity", "error", "warning", "note"]
    assert "val: it has no images" in lines[1]
    assert max(map(len, lines)) <= 110


def test_every_kind_says_why() -> None:
    for kind in KINDS.values():
        assert kind.severity in SEVERITIES
        assert kind.why.endswith(".")
        assert len(kind.why) <= 90
