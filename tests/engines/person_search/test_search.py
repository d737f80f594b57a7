"""mode=search from end to end: models that know the answer, blind ones, and real networks without training."""

import json
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from PIL import Image

from watchme.config.schema import RunConfig
from watchme.core.errors import CheckpointError, ConfigError, DataError
from watchme.core.interfaces import Job, Picture, Result, Shown, Table
from watchme.core.metric_names import SEARCH, higher_is_better
from watchme.data.demo import DemoWorld
from watchme.engines.osnet.model import ReidNet
from watchme.engines.person_search import embed_frames as gallery
from watchme.engines.person_search.search import search

Pixels = NDArray[np.uint8]
Typed = Callable[..., RunConfig]
COLOURS = {1: (250, 20, 20), 2: (20, 250, 20), 3: (20, 20, 250)}
LOST = ("lost_missed", "lost_boxes", "lost_false_detections", "lost_embedding")


def draw_world(root: Path, suffix: str = "png") -> Path:
    """Three people as blocks of their colour, each in every one of six frames of three cameras."""
    rng = np.random.default_rng(0)
    frames = []
    for number in range(6):
        pixels = np.full((80, 120, 3), 90, np.uint8)
        people = []
        for pid, colour in COLOURS.items():
            left, top = 40 * (pid - 1) + int(rng.integers(2, 18)), int(rng.integers(2, 30))
            pixels[top : top + 40, left : left + 20] = colour
            people.append({"id": pid, "box": [left, top, left + 20, top + 40]})
        name = f"c{number // 2 + 1}_{number}.{suffix}"
        root.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
        frames.append({"image": name, "camera": number // 2 + 1, "people": people})
    (root / "annotations.json").write_text(json.dumps({"frames": frames}))
    return root


class Sighted:
    """A detector that finds the blocks; `change` makes mistakes."""

    assumed: tuple[str, ...] = ()

    def __init__(self, change: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda rows: rows) -> None:
        self.change = change

    def detect(self, images: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        found = []
        for image in images:
            rows = []
            for colour in COLOURS.values():
                ys, xs = np.nonzero((image == colour).all(axis=2))
                rows.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1, 0.9])
            found.append(self.change(np.array(rows, np.float32)))
        return found


class Knowing:
    """An embedder that knows people by their colour."""

    assumed = ("colours are people",)

    def embed(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
        features = np.array([crop.reshape(-1, 3).mean(axis=0) - 85 for crop in crops], np.float32).reshape(-1, 3)
        unit: NDArray[np.float32] = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)
        return unit


class Confused:
    """An embedder to whom all people are the same."""

    assumed: tuple[str, ...] = ()

    def embed(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
        return np.ones((len(crops), 1), np.float32)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Overrides for two files that stand for weights."""
    for name in ("detector.pt", "reid.pt"):
        (tmp_path / name).touch()
    return f"detector={tmp_path / 'detector.pt'}", f"reid={tmp_path / 'reid.pt'}"


@pytest.fixture
def run(typed_config: Typed, files: tuple[str, str], tmp_path: Path) -> Callable[..., Any]:
    """`run(detector, embedder, *overrides)`: metrics, and what was reported, of a search in the drawn world."""
    root = draw_world(tmp_path / "frames")

    def search_with(detector: Any, embedder: Any, *overrides: str) -> tuple[dict[str, float], Told]:
        config = typed_config(
            "mode=search", "model=search", "dataset=person_search", f"dataset.root={root}", *files, *overrides
        )
        told = Told(tmp_path / "run")
        told.result = search(told.job(config, {"yolo": detector, "osnet": embedder}))
        return {name.removeprefix("test/"): value for name, value in told.result.metrics.items()}, told

    return search_with


class Told:
    """What a search reports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shown: list[Shown] = []
        self.manifest: dict[str, Any] = {}
        self.fallbacks: list[str] = []
        self.result = Result({}, 0.0)

    def job(self, config: RunConfig, models: dict[str, Any]) -> Job:
        return Job(
            config,
            self.folder,
            record=self.manifest.__setitem__,
            fallback=self.fallbacks.append,
            show=self.shown.append,
            load_model=lambda engine, weights: models[engine],
        )

    def table(self, name: str) -> Table:
        (found,) = (item for item in self.shown if isinstance(item, Table) and item.name == name)
        return found


def test_two_perfect_models(run: Callable[..., Any]) -> None:
    metrics, told = run(Sighted(), Knowing())
    assert set(metrics) == set(SEARCH)
    assert all(metrics[name] == 0 for name in LOST)
    assert all(value == 1 for name, value in metrics.items() if name not in LOST)
    assert told.fallbacks == ["colours are people"]
    assert told.result.objective == 1
    assert told.manifest["dataset"]["identities"] == 3
    assert (told.manifest["dataset"]["frames"], told.manifest["dataset"]["queries"]) == (6, 9)
    assert "nothing" in told.result.details["verdict"]


def test_a_blind_detector(run: Callable[..., Any]) -> None:
    metrics, told = run(Sighted(lambda rows: rows[:0]), Knowing())
    expected = {"detection_recall": 0, "search_map": 0, "search_top1": 0, "lost_missed": 1, "search_map_gt_boxes": 1}
    assert metrics == metrics | expected
    assert np.isnan(metrics["detection_precision"])
    assert next(item.caption for item in told.shown if isinstance(item, Picture)).endswith("the detector.")


def test_an_embedding_that_confuses_everybody(run: Callable[..., Any]) -> None:
    metrics, told = run(Sighted(), Confused())
    assert (metrics["search_map_oracle_embedding"], metrics["lost_missed"], metrics["lost_boxes"]) == (1, 0, 0)
    # Each query: 5 of 15 entries are right, all equally alike.
    assert metrics["search_map"] == pytest.approx(1 / 3)
    assert metrics["lost_embedding"] == pytest.approx(2 / 3)
    assert "What holds the search back: the re-ID model." in told.result.details["verdict"]


def test_bad_boxes_and_false_detections_are_told_apart(run: Callable[..., Any]) -> None:
    def shifted(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        moved = rows.copy()
        moved[0, [1, 3]] += 20  # identity 1: half of the box, IoU 1/3
        return moved

    metrics, _ = run(Sighted(shifted), Knowing())
    assert metrics["lost_boxes"] == pytest.approx(1 / 3)
    assert metrics["lost_missed"] == 0
    assert metrics["detection_recall"] == pytest.approx(2 / 3)

    def doubled(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([rows, rows[:1] - np.array([0, 0, 0, 0, 0.3], np.float32)])

    metrics, _ = run(Sighted(doubled), Knowing())
    # Of identity 1, 5 matches and 5 doubles are equally alike.
    assert metrics["lost_false_detections"] == pytest.approx(1 / 2 / 3)
    assert metrics["detection_precision"] == pytest.approx(3 / 4)
    assert metrics["search_map"] + sum(metrics[name] for name in LOST) == pytest.approx(1)


def test_the_confidence_cuts_the_gallery(run: Callable[..., Any]) -> None:
    def unsure(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        rows[1, 4], rows[2, 4] = 0.55, 0.2
        return rows

    metrics, told = run(Sighted(unsure), Knowing(), "evaluation.thresholds=[0.1,0.6]")
    assert metrics["detection_recall"] == pytest.approx(2 / 3)
    assert metrics["detection_ap50"] == 1  # of all confidences
    rows = told.table("test/by_confidence").rows
    assert [row[0] for row in rows] == [0.25, 0.6]
    assert [row[1] for row in rows] == pytest.approx([2 / 3, 1 / 3])
    assert [row[3] for row in rows] == pytest.approx([2 / 3, 1 / 3])
    assert rows[0][3] == metrics["search_map"]


def test_other_cameras(run: Callable[..., Any]) -> None:
    _, told = run(Sighted(), Knowing(), "evaluation.gallery=other_cameras")
    table = told.table("test/per_query")
    assert {row[table.columns.index("appearances")] for row in table.rows} == {4}
    _, told = run(Sighted(), Knowing())
    assert {row[table.columns.index("appearances")] for row in told.table("test/per_query").rows} == {5}


def test_tables_and_pictures(run: Callable[..., Any]) -> None:
    metrics, told = run(Sighted(lambda rows: rows[1:]), Knowing(), "evaluation.pictures=2", "evaluation.topk=3")
    table = told.table("test/decomposition")
    assert table.columns == ("down to", "search_map", "lost", "to what")
    assert sum(row[2] for row in table.rows[:-1]) == pytest.approx(table.rows[-1][2])
    for before, row in zip(table.rows, table.rows[1:-1], strict=False):
        assert row[1] == pytest.approx(before[1] - row[2])
    assert table.rows[-2][1] == pytest.approx(table.rows[-1][1]) == pytest.approx(metrics["search_map"])
    queries = told.table("test/per_query")
    assert "first_match_rank" in queries.columns  # of it the report draws its curve
    assert [row[3] for row in queries.rows] == sorted(row[3] for row in queries.rows)
    assert np.isnan(queries.rows[0][queries.columns.index("first_match_rank")])
    pictures = [item for item in told.shown if isinstance(item, Picture)]
    names = ["test/decomposition", *["test/search_best"] * 2, *["test/search_worst"] * 2]
    assert [picture.name for picture in pictures] == names
    assert "identity 1: AP 0.00, 0 of 5 appearances detected" in [picture.caption for picture in pictures]
    for picture in pictures:
        with Image.open(picture.path) as image:
            assert min(image.size) > 200
            pixels = np.asarray(image.convert("RGB"))
        # The worst search has nobody that is right and shows whom the detector lost, in orange; the best is green.
        has = {name: (pixels == colour).all(axis=2).any() for name, colour in COLOURS_OF.items()}
        if picture.name == "test/search_best":
            assert has == {"right": True, "wrong": False, "lost": False}
        elif "identity 1" in picture.caption:
            assert has == {"right": False, "wrong": True, "lost": True}


COLOURS_OF = {"right": (22, 140, 60), "wrong": (205, 38, 38), "lost": (214, 126, 0)}


def test_results_are_kept_only_when_asked_for(run: Callable[..., Any]) -> None:
    _, told = run(Sighted(), Knowing())
    assert not (told.folder / "evaluation" / "search.npz").exists()
    metrics, told = run(Sighted(), Knowing(), "evaluation.save_results=true")
    kept = np.load(told.folder / "evaluation" / "search.npz")
    assert kept["gallery_features"].shape == (18, 3)
    assert kept["query_features"].shape == (9, 3)
    # Each query's features are those of its person's crop, whatever the order in which frames were read.
    for frame, box, feature in zip(kept["query_frames"], kept["query_boxes"], kept["query_features"], strict=True):
        own = (kept["people_frames"] == frame) & (kept["people_boxes"] == box).all(axis=1)
        np.testing.assert_array_equal(kept["people_features"][own][0], feature)
    assert np.mean(kept["query_average_precision"]) == metrics["search_map"]


def test_boxes_of_frames_of_another_size_are_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    """They had embeddings of nothing, equal ones, so that the boxes drawn by hand found everybody."""
    path = tmp_path / "frames" / "annotations.json"
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        for person in frame["people"]:
            person["box"] = [side + 5000 for side in person["box"]]
    content.pop("queries", None)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"queries of .* are boxes outside of their frames, e.g. in c\d_\d.png, which"):
        run(Sighted(), Knowing())


def test_unreadable_frames_are_left_out_and_told(run: Callable[..., Any], tmp_path: Path) -> None:
    broken = tmp_path / "frames" / "c1_0.png"
    broken.write_bytes(broken.read_bytes()[:100])
    metrics, told = run(Sighted(), Knowing())
    assert metrics["search_map"] == 1
    (message,) = (text for text in told.fallbacks if "unreadable" in text)
    assert message.endswith("c1_0.png")
    for path in (tmp_path / "frames").glob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the 6 frames"):
        run(Sighted(), Knowing())


def test_frames_are_not_kept(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Tracked(np.ndarray):
        def __hash__(self) -> int:  # type: ignore[override]
            return id(self)

    alive: weakref.WeakSet[Tracked] = weakref.WeakSet()
    read, most = gallery.read_frame, [0]

    def tracked(path: Path) -> Pixels:
        image = read(path).view(Tracked)
        alive.add(image)
        most[0] = max(most[0], len(alive))
        return image

    monkeypatch.setattr(gallery, "read_frame", tracked)
    run(Sighted(), Knowing(), "evaluation.frame_batch=1", "evaluation.pictures=0", "train.workers=1")
    assert 1 <= most[0] <= 4


def test_a_query_that_is_nowhere_else_does_not_count(run: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "frames" / "annotations.json"
    content = json.loads(file.read_text())
    for frame in content["frames"][1:]:
        frame["people"] = [person for person in frame["people"] if person["id"] != 1]
    first = content["frames"][0]
    content["queries"] = [{"image": first["image"], **person} for person in first["people"]]
    file.write_text(json.dumps(content))
    metrics, told = run(Sighted(), Knowing())
    assert metrics["search_map"] == 1
    assert any("1 of 3 queries do not count" in text for text in told.fallbacks)
    content["queries"] = content["queries"][:1]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="nothing to measure"):
        run(Sighted(), Knowing())


def test_lost_shares_are_better_when_low() -> None:
    assert not any(higher_is_better(f"test/{name}") for name in LOST)
    assert higher_is_better("test/search_map")


# ---- Real networks


def test_real_networks_without_training(run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path) -> None:
    """The wiring alone: an untrained detector and an untrained OSNet, loaded from their files."""
    from watchme.engines.yolo.isolation import isolate

    isolate()
    from ultralytics import YOLO

    torch.manual_seed(0)
    YOLO("yolo11n.yaml").save(str(tmp_path / "detector.pt"))
    torch.save(ReidNet("osnet_x0_25", 3).backbone.state_dict(), tmp_path / "reid.pth")
    done = run_engine(
        tmp_path / "run",
        "mode=search",
        "model=search",
        "dataset=demo_search",
        f"dataset.root={small_world.search}",
        f"detector={tmp_path / 'detector.pt'}",
        f"reid={tmp_path / 'reid.pth'}",
        "evaluation.confidence=0.002",
        "evaluation.pictures=1",
    )
    metrics = done.result.metrics
    assert metrics["test/search_map"] + sum(metrics[f"test/{name}"] for name in LOST) == pytest.approx(1)
    assert 0 <= metrics["test/search_map"] < metrics["test/search_map_gt_boxes"] < 1
    assert [text for text in done.fallbacks if "no run folder" in text and "detector.pt" in text]
    assert [text for text in done.fallbacks if "osnet_x0_25" in text and "are assumed" in text]


def test_a_wrong_kind_of_weights_names_the_key(
    run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path
) -> None:
    path = tmp_path / "reid.pt"
    torch.save(ReidNet("osnet_x0_25", 3).backbone.state_dict(), path)
    options = ("mode=search", "model=search", "dataset=demo_search", f"dataset.root={small_world.search}")
    with pytest.raises(CheckpointError, match=r"^detector: .*reid.pt cannot be loaded as a YOLO model"):
        run_engine(tmp_path / "one", *options, f"detector={path}", f"reid={path}")


# ---- Validation


def problems(typed_config: Typed, *overrides: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        typed_config("mode=search", "model=search", *overrides)
    return {problem.key: problem.expected for problem in caught.value.problems}


def test_missing_models_are_told_together_with_other_problems(typed_config: Typed, tmp_path: Path) -> None:
    found = problems(typed_config, "evaluation.iou=2", "dataset.demo.cameras=9", "++evaluation.topkk=3")
    assert found.keys() == {"detector", "reid", "evaluation.iou", "dataset.demo.cameras", "evaluation.topkk"}
    assert "detector=<run>/weights/best.pt" in found["detector"]
    assert "reid=<run>/weights/best.pt" in found["reid"]
    found = problems(typed_config, "dataset=person_search", f"detector={tmp_path}", f"reid={tmp_path / 'gone.pt'}")
    assert found.keys() == {"detector", "reid", "dataset.root"}
    assert "is a folder" in found["detector"]
    assert "no such file" in found["reid"]
    assert "expected one of" in found["dataset.root"]


def test_what_does_nothing_here_is_refused(typed_config: Typed, files: tuple[str, str]) -> None:
    found = problems(typed_config, *files, "model.weights=a.pt", "checkpoint=b.pt", "objective=test/search_mapp")
    assert found.keys() == {"model.weights", "checkpoint", "objective"}
    assert "did you mean test/search_map?" in found["objective"]


def test_cuhk_sysu_knows_no_cameras(typed_config: Typed, files: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "annotation").mkdir()
    (tmp_path / "annotation" / "pool.mat").touch()
    options = ("dataset=person_search", f"dataset.root={tmp_path}", "evaluation.gallery=other_cameras")
    assert problems(typed_config, *files, *options).keys() == {"evaluation.gallery"}


def test_weights_of_the_other_kind_of_run_are_refused(
    typed_config: Typed, composed_config: Callable[..., Any], tmp_path: Path
) -> None:
    paths = {}
    for model in ("yolo11n", "osnet_ibn"):
        weights = tmp_path / model / "weights" / "best.pt"
        weights.parent.mkdir(parents=True)
        weights.touch()
        (tmp_path / model / "run.json").write_text("{}")
        OmegaConf.save(composed_config(f"model={model}"), tmp_path / model / "config.yaml", resolve=True)
        paths[model] = weights
    found = problems(typed_config, f"detector={paths['osnet_ibn']}", f"reid={paths['yolo11n']}")
    assert "is of a run that trained osnet_ibn_x1_0 for the task reid; give a detector" in found["detector"]
    assert "is of a run that trained yolo11n for the task detection; give a re-ID model" in found["reid"]
    config = typed_config("mode=search", "model=search", f"detector={paths['yolo11n']}", f"reid={paths['osnet_ibn']}")
    assert config.objective == "test/search_map"


def test_a_dataset_of_another_task_is_answered_with_those_that_fit(typed_config: Typed) -> None:
    found = problems(typed_config, "dataset=market1501")
    assert found == {"dataset.task": found["dataset.task"]}
    assert "choose dataset=demo_search|person_search" in found["dataset.task"]


def test_every_key_stands_in_the_composed_config(composed_config: Callable[..., Any]) -> None:
    from watchme.config.validation import known_keys
    from watchme.engines.person_search.config import Config

    config = composed_config("model=search")
    for key in known_keys(Config):
        if not key.startswith(("optimizer.", "scheduler.", "trial.")):
            parent, _, leaf = key.rpartition(".")
            node = OmegaConf.select(config, parent) if parent else config
            assert leaf in node, key
