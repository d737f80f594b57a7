"""MOT sequences -> YOLO and Market-1501 crops: coordinates, classes, visibility, splits, who can be found by whom."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prepare.made import Track, content, labels, made, manifest, mot, prepare, same, splits_of, state, written
from watchme.data.formats.market1501 import Crop, read_market
from watchme.data.person_search.readers import read_search_set
from watchme.engines.yolo.checked_copy import prepare as engine_prepare
from watchme.engines.yolo.data_yaml import read_layout

TRACKS = (
    Track(1, range(1, 31)),
    Track(2, range(1, 31), left=60, visibility=0.4),
    Track(3, range(5, 9), left=40, top=-9.0),
    Track(4, range(1, 31), kind=7, flag=0, left=70),
    Track(5, range(1, 31), kind=12, flag=0, left=20),
    Track(6, range(10, 31), left=30, height=40),
)


def world(root: Path, names: Sequence[str] = ("A-01", "A-02", "A-03", "A-04")) -> Path:
    for name in names:
        mot(root, name, TRACKS)
    return root


# YOLO


def test_boxes_are_those_of_gt_counted_from_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    made("mot", world(tmp_path / "s"), "--to", "yolo", "--every", 4, "--min-visibility", 0.3, "--out", out)
    found = labels(out)
    assert sorted(found) == [f"A-0{clip}_{frame:06d}.jpg" for clip in (1, 2, 3, 4) for frame in range(1, 31, 4)]
    for name, boxes in found.items():
        frame = int(name[-10:-4])
        expected = []
        for track in TRACKS:
            if frame in track.frames and track.number != 5:
                left, top = track.left + frame - 1, track.top - 1
                expected.append((left, max(0, top), min(120, left + track.width), min(90, top + track.height)))
        assert same(boxes, expected), name
    dropped = manifest(out)["dropped"]
    assert dropped == {"boxes of other classes": 4 * 8, "frames between each 4. one": 4 * 22}
    scan = engine_prepare(read_layout(out), None)[1]
    assert sum(counts["boxes"] for counts in scan.splits.values()) == sum(map(len, found.values()))


def test_a_sequence_is_never_torn_apart(tmp_path: Path) -> None:
    source = world(tmp_path / "s")
    made("mot", source, "--to", "yolo", "--out", tmp_path / "out")
    places: dict[str, set[str]] = {}
    for name, split in splits_of(tmp_path / "out").items():
        places.setdefault(name[:4], set()).add(split)
    assert all(len(splits) == 1 for splits in places.values())
    assert set.union(*places.values()) == {"train", "val", "test"}
    made("mot", source, "--to", "yolo", "--val-sequences", "A-03", "--test-sequences", "A-01,A-02", "--out",
         tmp_path / "named")  # fmt: skip
    named = {name[:4]: split for name, split in splits_of(tmp_path / "named").items()}
    assert named == {"A-01": "test", "A-02": "test", "A-03": "val", "A-04": "train"}
    wrong = prepare("mot", source, "--to", "yolo", "--val-sequences", "A-09", "--out", tmp_path / "x")
    assert "there is no sequence A-09; the source has A-01, A-02, A-03, A-04" in wrong.err
    few = prepare("mot", source / "A-01", "--to", "yolo", "--out", tmp_path / "x")
    assert few.err.startswith("1 sequence cannot be divided into train, val, test")


def test_the_same_video_under_several_names_is_taken_once(tmp_path: Path) -> None:
    names = ["MOT16-02", "MOT17-02-DPM", "MOT17-02-FRCNN", "MOT17-02-SDP", "MOT16-04", "MOT20-02", "MOT20-03"]
    ended = made("mot", world(tmp_path / "s", names), "--to", "yolo", "--out", tmp_path / "out")
    assert {name.split("_")[0] for name in splits_of(tmp_path / "out")} == {
        "MOT17-02",
        "MOT16-04",
        "MOT20-02",
        "MOT20-03",
    }
    assert "\n3 sequences are left out" in ended.out
    again = tmp_path / "s" / "other" / "MOT20-02"
    (again / "gt").mkdir(parents=True)
    (again / "gt" / "gt.txt").write_text("")
    assert "two sequences are named MOT20-02" in prepare(
        "mot", tmp_path / "s", "--to", "yolo", "--out", tmp_path / "x"
    ).err  # fmt: skip


def test_classes_visibility_crowds(tmp_path: Path) -> None:
    tracks = [
        Track(1, range(1, 31), left=5),
        Track(2, range(1, 31), left=20, kind=7, flag=0),
        Track(3, range(1, 11), left=50, flag=0),  # a pedestrian who is not to be considered
        Track(4, range(11, 21), left=50, kind=13, flag=0),  # a crowd
        Track(5, range(1, 31), left=30, visibility=0.2),
    ]
    for name in ("B-1", "B-2", "B-3"):
        mot(tmp_path / "s", name, tracks)
    common = ("mot", tmp_path / "s", "--to", "yolo", "--out")
    made(*common, tmp_path / "a")
    assert all(len(boxes) == 2 for boxes in labels(tmp_path / "a").values())
    painted = [path for path in (tmp_path / "a" / "images").rglob("*.jpg") if path.stat().st_nlink == 1]
    assert {int(path.stem[-6:]) for path in painted} == set(range(1, 21))
    made(*common, tmp_path / "b", "--classes", "1", "--min-visibility", 0.1, "--ignored", "drop")
    assert {int(name[-10:-4]) for name in labels(tmp_path / "b")} == set(range(21, 31))
    assert all(same([(boxes[0][0] - 4 - int(name[-10:-4]), *boxes[0][1:])], [(0, 5, boxes[0][2], 75)])
               for name, boxes in labels(tmp_path / "b").items())  # fmt: skip


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("1,9,1,2,3,4", "nine columns were expected"),
        ("1,9,1,2,x,4,1,1,1", "not numbers"),
        ("1.5,9,1,2,3,4,1,1,1", "the frame is 1.5"),
        ("31,9,1,2,3,4,1,1,1", "there is no frame 31"),
        ("1,1,1,2,3,4,1,1,1", "track 1 is in frame 1 twice"),
        ("1,9,1,2,-3,4,1,1,1", "negative width"),
        ("1,9,1,2,3,4,1,1,7", "the visibility is 7"),
        ("1,9,nan,2,3,4,1,1,1", "not finite"),
    ],
)
@pytest.mark.parametrize("to", ["yolo", "reid"])
def test_bad_rows(line: str, what: str, to: str, tmp_path: Path) -> None:
    source = world(tmp_path / "s")
    truth = source / "A-02" / "gt" / "gt.txt"
    count = len(truth.read_text().splitlines())
    with truth.open("a") as file:
        file.write(line + "\n")
    ended = prepare("mot", source, "--to", to, "--every", 3, "--out", tmp_path / "out")
    assert ended.code == 1
    assert f"{truth}:{count + 1}: " in ended.err
    assert what in ended.err
    assert not (tmp_path / "out").exists()
    made("mot", source, "--to", to, "--every", 3, "--out", tmp_path / "out", "--skip-bad")
    assert manifest(tmp_path / "out")["bad_records"] == 1


def test_bad_sequences(tmp_path: Path) -> None:
    source = world(tmp_path / "s")
    (source / "A-01" / "img1" / "000007.jpg").unlink()
    (source / "A-02" / "seqinfo.ini").write_text("hello")
    ended = prepare("mot", source, "--to", "yolo", "--out", tmp_path / "out")
    assert "seqLength is 30, but" in ended.err
    assert f"{source / 'A-02' / 'seqinfo.ini'}: no section [Sequence]" in ended.err
    assert f"{source / 'A-01' / 'gt' / 'gt.txt'}:7: there is no frame 7" in ended.err
    (tmp_path / "empty").mkdir()
    assert "no sequence is there" in prepare("mot", tmp_path / "empty", "--to", "yolo", "--out", tmp_path / "out").err


ROWS = {
    "MOT15": ("1,5,11,21,10,20,1,-1,-1,-1", "2,5,13,21,10,20,1,3.5,-7.1,0", "2,7,1,1,10,20,0,-1,-1,-1"),
    "visibility -1": ("1,5,11,21,10,20,1,1,-1", "2,5,13,21,10,20,1,1,-1", "2,7,1,1,10,20,0,1,-1"),
    "no visibility": ("1,5,11,21,10,20,1,1", "2,5,13,21,10,20,1,1", "2,7,1,1,10,20,0,1"),
    "no class": ("1,5,11,21,10,20,1", "2,5,13,21,10,20,1", "2,7,1,1,10,20,0"),
    "a BOM": ("\ufeff1,5,11,21,10,20,1,1,1", "2,5,13,21,10,20,1,1,1", "2,7,1,1,10,20,0,1,1"),
    "a crowd": ("1,5,11,21,10,20,1,1,1", "2,5,13,21,10,20,1,1,1", "2,7,1,1,10,20,0,13,1"),
    "ten columns with classes": (
        "1,5,11,21,10,20,1,1,1,-1",
        "2,5,13,21,10,20,1,1,0.8,-1",
        "2,7,1,1,10,20,0,1,1,-1",
        "2,8,1,1,90,20,1,3,1,-1",  # a car, which is nobody
    ),
    "track 0": ("1,0,11,21,10,20,1,1,1", "2,0,13,21,10,20,1,1,1", "2,7,1,1,10,20,0,1,1"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_preparation_and_person_search_read_a_sequence_alike(kind: str, tmp_path: Path) -> None:
    for name in ("B-1", "B-2"):
        folder = mot(tmp_path / "s", name, (), frames=2)
        (folder / "gt" / "gt.txt").write_text("\n".join(ROWS[kind]) + "\n", encoding="utf-8")
    ended = made(
        "mot", tmp_path / "s", "--to", "yolo", "--test-share", 0, "--val-share", 0.5, "--out", tmp_path / "out"
    )
    assert all(same(boxes, [(10 + 2 * int(name[-5] == "2"), 20, 20 + 2 * int(name[-5] == "2"), 40)])
               for name, boxes in labels(tmp_path / "out").items())  # fmt: skip
    found = read_search_set(tmp_path / "s", frame_step=1, shared_ids=kind == "track 0")
    assert [frame.boxes.tolist() for frame in found.frames] == [[[10, 20, 20, 40]], [[12, 20, 22, 40]]] * 2
    assert [frame.ignored.tolist() for frame in found.frames] == [[], [[0, 0, 10, 20]]] * 2
    assert len({query.pid for query in found.queries}) == (1 if kind == "track 0" else 2)
    says = "gives no visibility in 3 rows: they count as wholly visible"
    unknown = kind not in ("a BOM", "a crowd", "track 0", "ten columns with classes")
    assert (says in ended.out, says in " ".join(found.assumed)) == (unknown, unknown)


def test_what_motchallenge_itself_ignores_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    """TrackEval removes detections of classes 2, 7, 8, 12, and in MOT20 of 6 (mot_challenge_2d_box.py)."""
    for name in ("MOT20-01", "MOT20-02", "MOT17-02-FRCNN"):
        tracks = [Track(kind, (1, 2), kind=kind, left=kind) for kind in range(1, 14)]
        mot(tmp_path / name / "s", name, tracks, frames=2)
    for year, others in (("MOT20-01", {2, 6, 7, 8, 12, 13}), ("MOT17-02-FRCNN", {2, 7, 8, 12, 13})):
        found = read_search_set(tmp_path / year, frame_step=1)
        assert {round(left) for left in found.frames[0].ignored[:, 0]} == others


def test_classes_are_those_of_the_labels_file_that_cvat_writes(tmp_path: Path) -> None:
    for name in ("B-1", "B-2"):
        folder = mot(tmp_path / "s", name, (Track(1, (1, 2), kind=1), Track(2, (1, 2), kind=2, left=50)), frames=2)
        (folder / "gt" / "labels.txt").write_text("car\nperson\n")
    made("mot", tmp_path / "s", "--to", "yolo", "--test-share", 0, "--val-share", 0.5, "--out", tmp_path / "out")
    assert {len(boxes) for boxes in labels(tmp_path / "out").values()} == {1}
    assert all(boxes[0][0] > 49 for boxes in labels(tmp_path / "out").values())
    found = read_search_set(tmp_path / "s", frame_step=1)
    assert all(frame.boxes[:, 0].min() > 49 for frame in found.frames)
    (folder / "gt" / "labels.txt").write_text("car\ntruck\n")
    ended = prepare("mot", tmp_path / "s", "--to", "yolo", "--test-share", 0, "--out", tmp_path / "x")
    assert ended.err.startswith(f"{folder / 'gt' / 'labels.txt'} names no person or pedestrian among its classes: car")


def test_options_of_the_other_target_are_refused(tmp_path: Path) -> None:
    source = world(tmp_path / "s")
    ended = prepare("mot", source, "--to", "reid", "--val-share", 0.1, "--out", tmp_path / "out")
    assert ended.err.startswith("--val-share does nothing with --to reid")
    assert "--ids does nothing with --to yolo" in prepare(
        "mot", source, "--to", "yolo", "--ids", "own", "--out", tmp_path / "out"
    ).err  # fmt: skip


# Market-1501


def frames_of(crops: Sequence[Crop]) -> set[int]:
    return {int(crop.path.stem.split("_")[2]) for crop in crops}


def test_tracks_become_identities_and_sequences_cameras(tmp_path: Path) -> None:
    source = world(tmp_path / "s")
    before = state(source)
    out = tmp_path / "out"
    ended = made(
        "mot", source, "--to", "reid", "--every", 3, "--test-sequences", "A-02", "--min-height", 50, "--out", out
    )
    splits = read_market(out)
    # Track 1 alone is a pedestrian, visible, tall and long enough.
    assert {(crop.pid, crop.cam) for crop in splits.train} == {(1, 0), (3, 2), (4, 3)}
    assert {crop.pid for crop in (*splits.query, *splits.gallery)} == {2}
    assert len(splits.train) == 3 * 10
    # The query is early, and what it must find is late in the same track; nothing lies between.
    assert {crop.cam for crop in splits.query} == {1}
    assert frames_of(splits.query) == {4}
    assert frames_of([crop for crop in splits.gallery if crop.cam == 1]) == {1, 7}
    assert frames_of([crop for crop in splits.gallery if crop.cam == 5]) == {22, 25, 28}
    told = manifest(out)
    assert told["cameras"]["c6"] == "A-02, last third of each track"
    assert told["cameras"]["c3"] == "A-03"
    assert told["dropped"] == {
        "boxes in frames between each 3. one": 4 * (20 + 20 + 3 + 14),
        "boxes of other classes": 4 * 60,
        "crops of the middle third of test tracks": 4,
        "identities with fewer than 4 crops": 4,  # track 3
        "people less tall than 50 px": 4 * 7,
        "people less visible than 0.5": 4 * 10,
    }
    assert (out / "identities.csv").read_text().splitlines()[2] == "2,A-02,1,test,10"
    assert "Nobody is seen by two cameras here" in ended.out
    assert f"python train.py model=osnet_ibn dataset=market1501 dataset.root={out}\n" in ended.out
    assert state(source) == before


def test_crops_are_the_pixels_of_the_boxes(tmp_path: Path) -> None:
    source = world(tmp_path / "s")
    out = tmp_path / "out"
    made("mot", source, "--to", "reid", "--every", 3, "--out", out)
    for path in sorted(out.rglob("*_c*.jpg")):
        camera, frame = int(path.name.split("_c")[1].split("s")[0]), int(path.stem.split("_")[2])
        image = np.asarray(Image.open(source / f"A-0{(camera - 1) % 4 + 1}" / "img1" / f"{frame:06d}.jpg")).astype(int)
        left = 10 + frame
        cut = np.asarray(Image.open(path)).astype(int)
        assert cut.shape == (70, 30, 3)
        assert np.abs(cut - image[5:75, left : left + 30]).mean() < 12
        assert np.abs(cut - image[5:75, left + 1 : left + 31]).mean() > 30


def test_twice_is_once(tmp_path: Path) -> None:
    source = world(tmp_path / "s")
    made("mot", source, "--to", "reid", "--every", 3, "--out", tmp_path / "out")
    before = state(tmp_path / "out")
    ended = made("mot", source, "--to", "reid", "--every", 3, "--out", tmp_path / "out")
    assert state(tmp_path / "out") == before
    assert written(ended)[0] == 0


def test_shared_ids_are_found_across_cameras(tmp_path: Path) -> None:
    tracks = [Track(number, range(1, 31), left=float(number)) for number in range(1, 25)]
    for name in ("door", "hall", "yard"):
        mot(tmp_path / "s", name, tracks)
    out = tmp_path / "out"
    ended = made("mot", tmp_path / "s", "--to", "reid", "--ids", "shared", "--every", 5, "--out", out)
    splits = read_market(out)
    trained, tested = {crop.pid for crop in splits.train}, {crop.pid for crop in splits.query}
    assert not trained & tested
    assert trained | tested == set(range(1, 25))
    assert {crop.cam for crop in splits.train} == {0, 1, 2} == {crop.cam for crop in splits.gallery}
    for query in splits.query:
        assert {crop.cam for crop in splits.gallery if crop.pid == query.pid} - {query.cam}
    assert len(splits.query) == 3 * len(tested)
    assert "Nobody is seen" not in ended.out
    assert manifest(out)["cameras"] == {"c1": "door", "c2": "hall", "c3": "yard"}


def test_nobody_left(tmp_path: Path) -> None:
    source = world(tmp_path / "s")
    ended = prepare("mot", source, "--to", "reid", "--min-height", 89, "--out", tmp_path / "out")
    assert ended.code == 1
    assert ended.err.startswith("0 identities are left to train on")
    ended = prepare("mot", source, "--to", "reid", "--every", 10, "--min-crops", 9, "--out", tmp_path / "out")
    assert "lower --min-visibility, --min-height" in ended.err
    assert "give --test-share above 0" in prepare(
        "mot", source, "--to", "reid", "--test-share", 0, "--out", tmp_path / "out"
    ).err  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_an_unreadable_frame(tmp_path: Path) -> None:
    source = world(tmp_path / "s")
    path = source / "A-01" / "img1" / "000011.jpg"
    path.write_bytes(path.read_bytes()[:900])
    ended = prepare("mot", source, "--to", "reid", "--every", 2, "--out", tmp_path / "out")
    assert ended.code == 1
    assert f"{path} cannot be read" in ended.err
    made("mot", source, "--to", "reid", "--every", 2, "--skip-bad", "--out", tmp_path / "out")  # goes on
    assert manifest(tmp_path / "out")["bad_records"] == 1
    assert not [name for name in content(tmp_path / "out") if "_c1s1_000011" in name]


def test_two_frames_of_one_number(tmp_path: Path) -> None:
    """One of them was taken, and the boxes of both were its."""
    source = world(tmp_path / "s")
    frames = source / "A-01" / "img1"
    (frames / "11.jpg").write_bytes((frames / "000011.jpg").read_bytes())
    ended = prepare("mot", source, "--to", "yolo", "--out", tmp_path / "out")
    assert ended.code == 1
    assert f"{frames / '11.jpg'}: 000011.jpg has the number of this frame, too" in ended.err
