"""Readers of person-search datasets, on hand-made tiny ones of each format, whole and broken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from watchme.core.errors import DataError
from watchme.data.demo import DemoWorld
from watchme.data.person_search.readers import find_format, read_search_set
from watchme.data.person_search.search_set import Frame, choose_queries


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48)).save(path)


# ---- Our own format and the demo world


def own(root: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "images": "frames",
        "frames": [
            {"image": "a.jpg", "camera": 1, "people": [{"id": 7, "box": [1, 2, 11, 22]}, {"box": [30, 2, 40, 22]}]},
            {"image": "b.jpg", "camera": 2, "people": [{"id": 7, "box": [5, 2, 15, 22]}], "ignored": [[0, 0, 9, 9]]},
            {"image": "c.jpg", "camera": 2, "people": []},
        ],
        **changes,
    }
    for name in "abc":
        draw(root / "frames" / f"{name}.jpg")
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def test_own_format(tmp_path: Path) -> None:
    queries = [{"image": "b.jpg", "id": 7, "box": [5, 2, 15, 22], "gallery": ["a.jpg", "c.jpg"]}]
    found = read_search_set(own(tmp_path, queries=queries))
    assert found.format == "json"
    assert [frame.path.name for frame in found.frames] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [frame.camera for frame in found.frames] == [1, 2, 2]
    assert found.frames[0].boxes.tolist() == [[1, 2, 11, 22], [30, 2, 40, 22]]
    assert found.frames[0].pids.tolist() == [7, 0]
    assert found.frames[1].ignored.tolist() == [[0, 0, 9, 9]]
    (query,) = found.queries
    assert (query.frame, query.box, query.pid, query.gallery) == (1, (5, 2, 15, 22), 7, (0, 2))
    assert not found.small_boxes
    assert found.assumed == ()


def test_queries_are_chosen_where_none_are_named(tmp_path: Path) -> None:
    found = read_search_set(own(tmp_path) / "annotations.json")
    assert [(query.frame, query.pid, query.gallery) for query in found.queries] == [(0, 7, None), (1, 7, None)]


def test_a_query_is_chosen_of_each_identity_and_camera() -> None:
    def seen(camera: int, *pids: int) -> Frame:
        return Frame(Path("x"), np.array([[p, p, p + 9.0, p + 9] for p in pids]), np.array(pids), camera)

    frames = [seen(1, 5, 0), seen(1, 5), seen(1, 5, 6), seen(2, 5)]
    queries = choose_queries(frames)
    assert [(query.frame, query.pid) for query in queries] == [(1, 5), (3, 5)]  # 6 is seen once, 0 is nobody
    assert queries[0].box == (5, 5, 14, 14)


PEOPLE = [{"id": 7, "box": [1, 2, 11, 22]}]
BROKEN = [
    ({"frames": 3}, "frames: expected a list, found 3"),
    ({"frames": []}, "has no frames"),
    ({"frames": [{"people": PEOPLE}]}, r"frames\[0\].image: expected the name of an image"),
    ({"frames": [{"image": "a.jpg", "people": [{"id": 7, "box": [9, 2, 1, 22]}]}]}, r"frames\[0\].people\[0\].box"),
    ({"frames": [{"image": "a.jpg", "people": [{"id": 7, "box": [9, 2]}]}]}, r"frames\[0\].people\[0\].box"),
    ({"frames": [{"image": "a.jpg", "people": [{"id": 0, "box": [1, 2, 3, 4]}]}]}, r"people\[0\].id: expected an id"),
    (
        {"frames": [{"image": "a.jpg", "people": [{"id": 10**30, "box": [1, 2, 3, 4]}]}]},
        r"people\[0\].id: expected an id",
    ),
    ({"frames": [{"image": "a.jpg", "camera": "x", "people": PEOPLE}]}, r"frames\[0\].camera"),
    ({"frames": [{"image": "z.jpg", "people": PEOPLE}]}, "1 of 1 frames .* are missing, e.g. .*z.jpg"),
    ({"frames": [{"image": "a.jpg", "people": PEOPLE}] * 2}, "1 frames name an image that another"),
    ({"frames": [{"image": "a.jpg", "people": PEOPLE}]}, "nobody to look for"),
    ({"frames": [{"image": "a.jpg"}]}, "no people in any of its 1 frames"),
    ({"queries": [{"image": "z.jpg", "id": 7, "box": [1, 2, 3, 4]}]}, r"queries\[0\].image: expected the image of"),
    ({"queries": []}, "nobody to look for"),
]


@pytest.mark.parametrize(("changes", "message"), BROKEN)
def test_what_is_wrong_is_named_with_its_place(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_search_set(own(tmp_path, **changes))


@pytest.mark.parametrize("text", ['{"frames": [', "[" * 100_000])
def test_damaged_json(text: str, tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_text(text)
    with pytest.raises(DataError, match=r"annotations.json cannot be read as json"):
        read_search_set(tmp_path)


def test_images_may_be_anywhere(tmp_path: Path) -> None:
    """By whole paths, out of the file's folder."""
    own(tmp_path / "elsewhere")
    names = [str(tmp_path / "elsewhere" / "frames" / name) for name in ("a.jpg", "b.jpg")]
    query = {"image": names[1], "id": 7, "box": PEOPLE[0]["box"], "gallery": names[:1]}
    found = read_search_set(
        own(tmp_path / "set", frames=[{"image": name, "people": PEOPLE} for name in names], queries=[query])
    )
    assert [str(frame.path) for frame in found.frames] == names
    assert [(query.frame, query.gallery) for query in found.queries] == [(1, (0,))]


def test_an_identity_twice_in_a_frame_becomes_unknown(tmp_path: Path) -> None:
    twice = [{"id": 7, "box": [1, 2, 11, 22]}, {"id": 7, "box": [30, 2, 40, 22]}]
    frames = [{"image": name, "people": twice} for name in ("a.jpg", "b.jpg")]
    found = read_search_set(own(tmp_path, frames=frames))
    assert [frame.pids.tolist() for frame in found.frames] == [[7, 0], [7, 0]]
    assert found.assumed[0].startswith("2 boxes have an identity")


def test_the_demo_world_knows_who_is_in_its_test_frames(small_world: DemoWorld) -> None:
    found = read_search_set(small_world.search)
    images = sorted(path.name for path in (small_world.detection / "images" / "test").iterdir())
    assert sorted(frame.path.name for frame in found.frames) == images
    for frame in found.frames:
        label = small_world.detection / "labels" / "test" / f"{frame.path.stem}.txt"
        rows = [line.split() for line in label.read_text().splitlines()] if label.is_file() else []
        with Image.open(frame.path) as image:
            scale = np.array(image.size * 2)
        centre = np.array([row[1:] for row in rows], np.float64).reshape(-1, 4)
        corners = np.hstack([centre[:, :2] - centre[:, 2:] / 2, centre[:, :2] + centre[:, 2:] / 2]) * scale
        np.testing.assert_allclose(frame.boxes, corners, atol=1e-3)
        assert frame.camera == int(frame.path.name[1])
    # The queries are those of re-identification: identity, camera and frame of each crop.
    crops = sorted(path.name for path in (small_world.reid / "query").iterdir())
    asked = [(query.pid, found.frames[query.frame].path.stem) for query in found.queries]
    assert sorted(f"{pid:04d}_{stem[:2]}s1_{stem[3:]}" for pid, stem in asked) == [name[:16] for name in crops]
    for query in found.queries:
        frame = found.frames[query.frame]
        assert frame.boxes[frame.pids == query.pid].tolist() == [list(query.box)]
    tested = {int(path.name[:4]) for path in (small_world.reid / "query").iterdir()}
    assert {query.pid for query in found.queries} == tested


# ---- PRW


def prw(root: Path) -> Path:
    names = ["c1s1_000151", "c2s1_000151", "c6s3_000200"]
    listed = np.empty((3, 1), object)
    listed[:, 0] = names
    savemat(root / "frame_test.mat", {"img_index_test": listed})
    (root / "annotations").mkdir()
    rows = {
        names[0]: ("box_new", [[3, 10, 5, 20, 40], [-2, 40, 5, 10, 30]]),
        names[1]: ("anno_file", [[3, 1.5, 2, 20, 40]]),
        names[2]: ("anno_previous", np.zeros((0, 5))),
    }
    for name, (variable, boxes) in rows.items():
        savemat(root / "annotations" / f"{name}.jpg.mat", {variable: np.array(boxes, np.float64)})
        draw(root / "frames" / f"{name}.jpg")
    (root / "query_info.txt").write_text("3 10 5 20 40 c1s1_000151\r\n3 1.5 2 20 40 c2s1_000151\r\n")
    return root


def test_prw(tmp_path: Path) -> None:
    assert find_format(prw(tmp_path)) == "prw"
    found = read_search_set(tmp_path)
    assert [frame.camera for frame in found.frames] == [1, 2, 6]
    assert found.frames[0].boxes.tolist() == [[10, 5, 30, 45], [40, 5, 50, 35]]
    assert found.frames[0].pids.tolist() == [3, 0]
    assert found.frames[1].boxes.tolist() == [[1.5, 2, 21.5, 42]]
    assert found.frames[2].boxes.shape == (0, 4)
    assert [(query.frame, query.box, query.pid, query.gallery) for query in found.queries] == [
        (0, (10, 5, 30, 45), 3, None),
        (1, (1.5, 2, 21.5, 42), 3, None),
    ]
    assert found.small_boxes


def damage(path: Path, text: str) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        (root / path).write_text(text)

    return act


PRW_BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (damage(Path("query_info.txt"), "3 10 5 20 40\n"), "query_info.txt, line 1: expected identity"),
    (damage(Path("query_info.txt"), "\n3 1 5 20 40 c9s1_000001\n"), "line 2: c9s1_000001 is not among the test frames"),
    (lambda root: (root / "query_info.txt").unlink(), "no such file: .*query_info.txt"),
    (lambda root: (root / "annotations/c2s1_000151.jpg.mat").unlink(), "no such file: .*c2s1_000151.jpg.mat"),
    (damage(Path("annotations/c2s1_000151.jpg.mat"), "x" * 200), "c2s1_000151.jpg.mat cannot be read as a MATLAB"),
    (lambda root: savemat(root / "frame_test.mat", {"other": 1}), "no variable img_index_test; it has other"),
    (lambda root: (root / "frames/c6s3_000200.jpg").unlink(), "1 of 3 frames .* missing"),
]


@pytest.mark.parametrize(("act", "message"), PRW_BROKEN)
def test_broken_prw(act: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    act(prw(tmp_path))
    with pytest.raises(DataError, match=message):
        read_search_set(tmp_path)


# ---- CUHK-SYSU


def cell(values: list[Any]) -> Any:
    found = np.empty((len(values), 1), object)
    found[:, 0] = values
    return found


def structs(fields: list[str], rows: list[tuple[Any, ...]]) -> Any:
    """A MATLAB struct array."""
    found = np.empty((1, len(rows)), dtype=[(name, object) for name in fields])
    for place, row in enumerate(rows):
        found[0, place] = row
    return found


def cuhk_sysu(root: Path) -> Path:
    protocol = root / "annotation" / "test" / "train_test"
    protocol.mkdir(parents=True)

    def people(*boxes: list[int]) -> Any:
        return structs(["idlocate", "ishard"], [(np.array([box]), 0) for box in boxes])

    images = [
        ("s1.jpg", 2, people([10, 5, 20, 40], [40, 5, 10, 30])),
        ("s2.jpg", 1, people([1, 2, 20, 40])),
        ("s3.jpg", 1, people([3, 4, 10, 30])),
        ("s9.jpg", 1, people([3, 4, 10, 30])),  # of the training part
    ]
    savemat(root / "annotation" / "Images.mat", {"Img": structs(["imname", "nAppear", "box"], images)})
    savemat(root / "annotation" / "pool.mat", {"pool": cell(["s1.jpg", "s2.jpg", "s3.jpg"])})
    fields = ["imname", "idlocate", "ishard"]
    nobody = np.zeros((0, 0))
    tests = [
        (
            structs(fields, [("s1.jpg", np.array([[10, 5, 20, 40]]), 0)]),
            structs(fields, [("s2.jpg", np.array([[1, 2, 20, 40]]), 0), ("s3.jpg", nobody, 0)]),
        ),
        (
            structs(fields, [("s3.jpg", np.array([[3, 4, 10, 30]]), 0)]),
            structs(fields, [("s1.jpg", np.array([[40, 5, 10, 30]]), 0)]),
        ),
    ]
    savemat(protocol / "TestG50.mat", {"TestG50": structs(["Query", "Gallery"], tests)})
    for name in ("s1", "s2", "s3"):
        draw(root / "Image" / "SSM" / f"{name}.jpg")
    return root


def test_cuhk_sysu(tmp_path: Path) -> None:
    assert find_format(cuhk_sysu(tmp_path)) == "cuhk_sysu"
    found = read_search_set(tmp_path, gallery_size=50)
    assert [frame.path.name for frame in found.frames] == ["s1.jpg", "s2.jpg", "s3.jpg"]
    assert found.frames[0].boxes.tolist() == [[10, 5, 30, 45], [40, 5, 50, 35]]
    assert [frame.pids.tolist() for frame in found.frames] == [[1, 2], [1], [2]]
    assert {frame.camera for frame in found.frames} == {None}
    assert [(query.frame, query.box, query.pid, query.gallery) for query in found.queries] == [
        (0, (10, 5, 30, 45), 1, (1, 2)),
        (2, (3, 4, 13, 34), 2, (0,)),
    ]
    assert found.small_boxes


def test_cuhk_sysu_says_which_galleries_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file: .*TestG100.mat; dataset.gallery_size may be 50"):
        read_search_set(cuhk_sysu(tmp_path), gallery_size=100)


def test_broken_cuhk_sysu(tmp_path: Path) -> None:
    cuhk_sysu(tmp_path)
    savemat(tmp_path / "annotation" / "pool.mat", {"pool": cell(["s1.jpg", "s2.jpg"])})
    with pytest.raises(DataError, match=r"query 1: s3.jpg is not in .*pool.mat"):
        read_search_set(tmp_path, gallery_size=50)
    savemat(tmp_path / "annotation" / "pool.mat", {"pool": cell(["s1.jpg", "s7.jpg"])})
    with pytest.raises(DataError, match=r"does not hold 1 images of pool.mat, e.g. s7.jpg"):
        read_search_set(tmp_path, gallery_size=50)


# ---- MOTChallenge


def mot(root: Path, rate: int | None = 1) -> Path:
    lines = {
        "MOT17-02-FRCNN": [
            "1,5,11,21,10,20,1,1,1.0",
            "2,5,13,21,10,20,1,1,0.9",
            "2,6,41,21,10,20,1,1,0.1",  # all but hidden
            "2,7,1,1,10,20,0,1,1.0",  # does not count
            "2,8,1,31,10,20,1,8,1.0",  # a distractor: a poster
            "2,9,1,41,10,20,1,3,1.0",  # a car
            "3,5,15,21,10,20,1,1,0.8",
        ],
        "MOT17-02-SDP": ["1,5,11,21,10,20,1,1,1.0"],
        "PETS": ["1,5,11,21,10,20,1,-1,-1,-1", "2,5,12,21,10,20,1,3.5,-7.1,0"],  # MOT15: a place in the world
    }
    for name, rows in lines.items():
        folder = root / name
        (folder / "gt").mkdir(parents=True)
        (folder / "gt" / "gt.txt").write_text("\n".join(rows) + "\n")
        if rate is not None:
            (folder / "seqinfo.ini").write_text(f"[Sequence]\nname={name}\nframeRate={rate}\nimDir=img1\nimExt=.jpg\n")
        for number in (1, 2, 3):
            draw(folder / "img1" / f"{number:06d}.jpg")
    return root


def test_mot(tmp_path: Path) -> None:
    assert find_format(mot(tmp_path)) == "mot"
    found = read_search_set(tmp_path)
    assert [(frame.path.parent.parent.name, frame.camera) for frame in found.frames] == [
        *[("MOT17-02-FRCNN", 1)] * 3,
        *[("PETS", 2)] * 3,
    ]
    assert found.assumed[0].startswith("1 sequence is left out: the same videos again")
    second = found.frames[1]
    assert second.boxes.tolist() == [[12, 20, 22, 40]]
    assert second.ignored.tolist() == [[40, 20, 50, 40], [0, 0, 10, 20], [0, 30, 10, 50]]
    # One number, two people: each sequence counts for itself.
    assert [found.name_of(query.pid) for query in found.queries] == ["MOT17-02/5", "PETS/5"]
    assert len({query.pid for query in found.queries}) == 2
    assert [query.frame for query in found.queries] == [1, 4]
    assert found.frames[4].boxes.tolist() == [[11, 20, 21, 40]]


def test_mot_options(tmp_path: Path) -> None:
    mot(tmp_path, rate=2)
    assert len(read_search_set(tmp_path).frames) == 4  # one a second: 1 and 3 of each
    everything = read_search_set(tmp_path, frame_step=1, min_visibility=0.05, shared_ids=True)
    assert len(everything.frames) == 6
    assert everything.frames[1].pids.tolist() == [5, 6]
    assert [query.pid for query in everything.queries] == [5, 5]  # the same person before two cameras
    assert everything.name_of(5) == "5"


def test_mot_without_a_frame_rate_says_what_it_assumes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nobody to look for"):
        read_search_set(mot(tmp_path, rate=None))  # every 25th frame of three
    found = read_search_set(tmp_path, frame_step=1)
    assert not any("25 frames a second" in text for text in found.assumed)


def test_broken_mot(tmp_path: Path) -> None:
    mot(tmp_path)
    gt = tmp_path / "PETS" / "gt" / "gt.txt"
    gt.write_text("1,5,11,21,10,20,1,-1,-1,-1\n2,5,zwölf,21,10,20,1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)1 bad record.*gt.txt:2: not numbers: 2, 5, zwölf.*repair these records"):
        read_search_set(tmp_path)
    gt.write_text("1,5,11,21,10,20,1,-1,-1,-1\n9,5,11,21,10,20,1,-1,-1,-1\n")
    with pytest.raises(DataError, match=r"gt.txt:2: there is no frame 9"):
        read_search_set(tmp_path)
    gt.write_text("1,5,11,21,10,20,1,-1,-1,-1\n2,1e30,11,21,10,20,1,-1,-1,-1\n")
    with pytest.raises(DataError, match=r"gt.txt:2: the track is 1e\+30; a whole number from 0 was expected"):
        read_search_set(tmp_path)


# ---- Which it is


def test_a_folder_of_none_of_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no person-search dataset\nexpected one of"):
        find_format(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_format(tmp_path / "gone")
    with pytest.raises(DataError, match="in the format prw"):
        find_format(own(tmp_path), "prw")


def test_fingerprint_follows_the_annotations(tmp_path: Path) -> None:
    one, two = (read_search_set(own(tmp_path / name)) for name in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    moved = [{"image": name, "people": [{"id": 7, "box": [1, 2, 12, 22]}]} for name in ("a.jpg", "b.jpg", "c.jpg")]
    assert read_search_set(own(tmp_path / "three", frames=moved)).fingerprint != one.fingerprint
