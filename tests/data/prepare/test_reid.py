"""Crops with names of their own -> Market-1501 naming, split by identity."""

import csv
from pathlib import Path

import pytest

from prepare.made import draw, made, manifest, prepare, state, written
from watchme.data.formats.market1501 import Crop, read_market

PEOPLE = [f"p{number}" for number in range(40)]


def folders(root: Path, cameras: int) -> Path:
    for number, person in enumerate(PEOPLE):
        for camera in range(cameras):
            for image in range(6):
                name = f"{person}/cam{camera}" if cameras > 1 else person
                draw(root / name / f"{image}.png", (16, 32), seed=1000 * number + 10 * camera + image)
    return root


def origin(crop: Crop, source: Path) -> Path:
    """The source that a crop is a link to."""
    return next(path for path in source.rglob("*.*") if path.samefile(crop.path))


def test_folders_of_identities_and_cameras(tmp_path: Path) -> None:
    source, out = folders(tmp_path / "s", 2), tmp_path / "out"
    before = state(source)
    ended = made("reid", source, "--out", out)
    splits = read_market(out)
    assert not {crop.pid for crop in splits.train} & {crop.pid for crop in splits.query}
    assert len({crop.pid for crop in (*splits.train, *splits.query)}) == 40
    assert len(splits.train) + len(splits.query) + len(splits.gallery) == 480
    assert len(splits.query) == 2 * len({crop.pid for crop in splits.query})
    with (out / "identities.csv").open() as file:
        numbers = {int(row["number"]): row["identity"] for row in csv.DictReader(file)}
    for crop in (splits.train[7], splits.query[3], splits.gallery[-1]):
        path = origin(crop, source)
        assert (path.parent.parent.name, path.parent.name) == (numbers[crop.pid], f"cam{crop.cam}")
    assert f"python train.py model=osnet_ibn dataset=market1501 dataset.root={out}\n" in ended.out
    assert state(source) == before
    assert written(made("reid", source, "--out", out))[0] == 0


def test_one_camera_is_said(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = made("reid", folders(tmp_path / "s", 1), "--out", out)
    splits = read_market(out)  # every query has a match from "another" camera
    assert {crop.cam for crop in splits.query} == {0}
    assert {crop.cam for crop in splits.gallery} == {1}
    assert "a query must find later images of its own camera" in ended.out


def test_without_a_test(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = made("reid", folders(tmp_path / "s", 1), "--test-share", 0, "--out", out)
    assert len(read_market(out, ("train",)).train) == 240
    assert not (out / "query").exists()
    assert f"dataset=market1501 dataset.root={out} 'dataset.targets=[]'\n" in ended.out


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{id}_{camera}_{*}", "{id}_{camera}_x_{n}.jpg"),
        ("{camera}/{id}/{*}", "{camera}/{id}/{n}.jpg"),
        ("{camera}-{*}-id{id}", "{camera}-2026-{n}-id{id}.jpg"),
        (r"(?P<camera>cam\d+)_(?P<id>p\d+)", "deep/er/{camera}_{id}_{n}.jpg"),
    ],
)
def test_patterns(pattern: str, name: str, tmp_path: Path) -> None:
    for number, person in enumerate(PEOPLE):
        for camera in ("cam1", "cam2"):
            for image in range(2):
                path = tmp_path / "s" / name.format(id=person, camera=camera, n=image)
                draw(path, (16, 32), seed=100 * number + 10 * int(camera[3]) + image)
    made("reid", tmp_path / "s", "--pattern", pattern, "--out", tmp_path / "out")
    splits = read_market(tmp_path / "out")
    assert len({crop.pid for crop in (*splits.train, *splits.query)}) == 40
    assert {crop.cam for crop in splits.train} == {0, 1}
    draw(tmp_path / "s" / "odd.jpg", (16, 32))
    ended = prepare("reid", tmp_path / "s", "--pattern", pattern, "--out", tmp_path / "x")
    assert f"{tmp_path / 's' / 'odd.jpg'}: its path odd.jpg does not match --pattern" in ended.err


def test_a_csv_with_splits(tmp_path: Path) -> None:
    rows = ["path,id,camera,split"]
    for number in range(12):
        for camera in ("a", "b"):
            draw(tmp_path / "images" / f"{number}{camera}.jpg", (16, 32), seed=10 * number + ord(camera))
            split = "train" if number < 8 else "query" if camera == "a" else "gallery"
            rows.append(f"images/{number}{camera}.jpg,person {number},{camera},{split}")
    path = tmp_path / "crops.csv"
    path.write_text("\ufeff" + "\n".join(rows) + "\n", encoding="utf-8")
    made("reid", path, "--out", tmp_path / "out")
    splits = read_market(tmp_path / "out")
    assert (len(splits.train), len(splits.query), len(splits.gallery)) == (16, 4, 4)
    path.write_text("\n".join([*rows, "images/gone.jpg,x,a,train", "../x.jpg,x,a,train", "images/0a.jpg,,a,dev"]))
    ended = prepare("reid", path, "--out", tmp_path / "x")
    assert "images/gone.jpg cannot be read as an image: No such file" in ended.err
    assert f"{path}:27: the file name '../x.jpg' leads out of the image folder" in ended.err
    assert f"{path}:28: it has no id" in ended.err
    made("reid", path, "--out", tmp_path / "y", "--skip-bad")
    assert manifest(tmp_path / "y")["bad_records"] == 3


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--tracklets",), "p{id}/t{tracklet}/{frame:03d}.jpg"),
        (("--pattern", "{id}C{camera}T{tracklet}F{*}"), "{id:04d}/{id:04d}C1T{tracklet:04d}F{frame:03d}.jpg"),  # MARS
    ],
)
def test_tracklets_stay_whole(options: tuple[str, ...], name: str, tmp_path: Path) -> None:
    for person in range(1, 13):
        for tracklet in (1, 2, 3):
            for frame in range(4):
                path = tmp_path / "s" / name.format(id=person, tracklet=tracklet, frame=frame)
                draw(path, (16, 32), seed=100 * person + 10 * tracklet + frame)
    ended = made("reid", tmp_path / "s", *options, "--out", tmp_path / "out")
    assert "dataset.tracklets=true" in ended.out
    splits = read_market(tmp_path / "out", tracklets=True)
    assert {len(crop.frames) for crop in (*splits.train, *splits.query, *splits.gallery)} == {4}
    trained, tested = {crop.pid for crop in splits.train}, {crop.pid for crop in splits.query}
    assert len(splits.train) == 3 * len(trained)
    assert len(trained) + len(tested) == 12
    # Of a person to be found the first tracklet is the query, the last one is in the gallery as another camera's.
    assert len(splits.query) == len(splits.gallery) == len(tested)
    first = {crop.pid: original(tmp_path, crop.path) for crop in splits.query}
    assert all("1" in path.parent.name or "T0001" in path.name for path in first.values())


def original(root: Path, path: Path) -> Path:
    """The file in the source with the same content."""
    content = path.read_bytes()
    return next(one for one in (root / "s").rglob("*.jpg") if one.read_bytes() == content)
