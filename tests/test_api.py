"""The Python API, as a notebook uses it: the same validation, folders and errors as the command line."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from PIL import Image

import watchme
from inference.drawn import COLOURS, Knowing, Sighted, film, picture
from inference.untrained import write_detector
from osnet import tiny
from watchme.config.conf_dir import CONF
from watchme.core.errors import CheckpointError, ConfigError, RunFolderError, WatchmeError
from watchme.data.demo import DemoWorld
from watchme.run import session

TINY = (*tiny.TINY, "train.epochs=1", "train.device=cpu")


@pytest.fixture(autouse=True)
def no_traces() -> Iterator[None]:
    """Whatever a call does, Hydra and the root logger are afterwards as they were."""
    hydra, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    handlers, level = list(logging.getLogger().handlers), logging.getLogger("watchme").level
    yield
    assert GlobalHydra.instance().hydra is hydra
    assert HydraConfig.instance().cfg is config
    assert list(logging.getLogger().handlers) == handlers
    assert logging.getLogger("watchme").level == level


@pytest.fixture(scope="module")
def trained(small_world: DemoWorld, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("api") / "reid"
    return watchme.train([*TINY, f"dataset.root={small_world.reid}"], folder=folder), folder


def test_importing_watchme_imports_next_to_nothing() -> None:
    script = "import sys, watchme; print(sorted(n for n in ('torch','hydra','numpy','PIL') if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert {"compose", "train", "evaluate", "find", "load_detector", "load_embedder"} <= set(dir(watchme))
    with pytest.raises(AttributeError, match="no attribute 'trane'"):
        watchme.trane  # noqa: B018


def test_compose_gives_the_typed_config() -> None:
    config = watchme.compose(["model=osnet_x0_25", "train.epochs=3"])
    assert config.train.epochs == 3
    assert config.model.engine == "osnet"
    assert watchme.compose().model.engine == "yolo"


def test_all_problems_come_at_once_as_on_the_command_line() -> None:
    with pytest.raises(ConfigError) as caught:
        watchme.compose(["model=osnet_x0_25", "train.epoks=3", "optimizer.lr=fast"])
    assert {problem.key for problem in caught.value.problems} == {"train.epoks", "optimizer.lr"}
    assert "did you mean train.epochs" in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--help"], "belongs to the command line"),
        (["help=train.epochs"], "belongs to the command line"),
        ("train.epochs=3", "as a list"),
        (["train.epochs=1,2"], "several values are a sweep"),
        (["sweeper=yolo_tune"], "only with -m"),
    ],
)
def test_what_is_of_the_command_line_alone_is_refused(overrides: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        watchme.compose(overrides)


def test_an_image_size_means_height_and_width_as_on_the_command_line() -> None:
    for override in ("dataset.image_size=96", "debug=tiny"):
        dataset: Any = watchme.compose(["model=osnet_x0_25", override]).dataset
        assert dataset.height == 2 * dataset.width
    with pytest.raises(ConfigError, match=r"dataset\.image_size"):
        watchme.compose(["model=osnet_x0_25", "dataset.image_size=none"])


def test_hydra_in_use_stays_as_it_was() -> None:
    with initialize_config_dir(str(CONF)):
        watchme.compose(["model=osnet_x0_25"])
        assert hydra_compose("config", ["model=yolo11n"]).model.engine == "yolo"


def test_a_training_leaves_the_run_folder_of_the_command_line(trained: tuple[Any, Path]) -> None:
    result, folder = trained
    manifest = json.loads((folder / "run.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["command"].startswith("python train.py model=osnet_x0_25 ")
    assert f'hydra.run.dir="{folder}"' in manifest["command"].replace("'", "")
    assert manifest["choices"]["model"] == "osnet_x0_25"
    assert result.weights["best"] == folder.resolve() / "weights" / "best.pt"
    for name in ("config.yaml", "summary.json", "metrics.jsonl", "report.html", "calibration.json"):
        assert (folder / name).is_file(), name
    assert "Training osnet_x0_25" in (folder / "train.log").read_text()


def test_an_evaluation_takes_its_config_from_the_run(trained: tuple[Any, Path], tmp_path: Path) -> None:
    result, folder = trained
    again = watchme.evaluate(folder / "weights" / "best.pt", folder=tmp_path / "evaluation")
    assert again.metrics["test/map"] == pytest.approx(result.metrics["test/map"], abs=1e-6)


def test_a_run_is_never_overwritten(trained: tuple[Any, Path], small_world: DemoWorld) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained[1].rglob("*")}
    with pytest.raises(RunFolderError, match="never overwritten"):
        watchme.train([*TINY, f"dataset.root={small_world.reid}"], folder=trained[1])
    assert {path: path.stat().st_mtime_ns for path in trained[1].rglob("*")} == before


def test_a_refused_call_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(WatchmeError, match="nowhere"):
        watchme.train([*TINY, "dataset.root=nowhere"], folder=tmp_path / "run")
    with pytest.raises(ConfigError, match="runs mode=train"):
        watchme.train(["mode=check"], folder=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file\s+cannot\s+be\s+used:\s+a\s+file\s+is\s+where"):
        watchme.train(["train.epochs=1"], folder=tmp_path / "file")
    with pytest.raises(ConfigError, match=r"hydra.run.dir\n    the folder is given twice"):
        watchme.train([f"hydra.run.dir={tmp_path}/a", "train.epochs=1"], folder=tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_embedder_embeds_lists_of_crops(trained: tuple[Any, Path]) -> None:
    embedder = watchme.load_embedder(trained[1], device="cpu")
    crops = [np.random.default_rng(n).integers(0, 256, (90 + n, 40, 3)).astype(np.uint8) for n in range(3)]
    embeddings = embedder.embed(crops)
    assert embeddings.shape == (3, 512)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1, abs=1e-5)
    assert embedder.embed([]).shape == (0, 512)
    with pytest.raises(ValueError, match="grey"):
        embedder.embed([crops[0][:, :, 0]])


def test_models_of_the_other_kind_are_refused(trained: tuple[Any, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no detector"):
        watchme.load_detector(trained[1], device="cpu")
    with pytest.raises(CheckpointError, match="holds no weights"):
        watchme.load_embedder(tmp_path)


def test_find_returns_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models: dict[str, Callable[[], Any]] = {"yolo": Sighted, "osnet": Knowing}
    monkeypatch.setattr(session, "load_model", lambda engine, *_, **__: models[engine]())
    pixels = np.full((100, 60, 3), 110, np.uint8)
    pixels[20:68, 10:34] = COLOURS[1]
    Image.fromarray(pixels).save(tmp_path / "query, of somebody.png")
    for name in ("detector.pt", "reid.pt"):
        (tmp_path / name).touch()
    found = watchme.find(
        tmp_path / "query, of somebody.png",
        film(tmp_path / "street.mp4", frames=20),
        detector=tmp_path / "detector.pt",
        reid=tmp_path / "reid.pt",
        index=tmp_path / "index",
        overrides=["find.threshold=0.6", "train.device=cpu"],
        folder=tmp_path / "run",
    )
    assert sorted(match.frame for match in found.matches if match.is_match) == list(range(20))
    assert found.appearances[0].sightings == 20
    assert found.page == tmp_path / "run" / "matches.html"
    page = found.page.read_text()
    for match in found.matches[:3]:
        assert match.crop in page
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert manifest["status"] == "finished"
    with pytest.raises(ConfigError, match="is empty"):
        watchme.find([], "street.mp4", detector="a", reid="b")


def test_the_code_of_the_page_runs(
    small_world: DemoWorld, composed_config: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/python.md from its first line of code to its last, with a small world and an untrained detector."""
    page = (Path(__file__).resolve().parent.parent / "docs" / "python.md").read_text(encoding="utf-8")
    code = "\n".join(line[4:] for line in page.splitlines() if line.startswith("    "))
    written = '["model=osnet_x0_25", "train.epochs=3"]'
    assert code.count(written) == 2
    small = [*tiny.TINY, "train.epochs=3", "train.device=cpu", f"dataset.root={small_world.reid}"]
    monkeypatch.chdir(tmp_path)
    write_detector(Path("runs/detector"), composed_config, people=2, size=96)
    Image.fromarray(picture(20)).save("anna.jpg")
    film(Path("street.mp4"), frames=20)
    given: dict[str, Any] = {"SMALL": small, "image": picture(3), "query": picture(3)[8:56, 11:35]}
    exec(compile(code.replace(written, "SMALL"), "docs/python.md", "exec"), given)
    assert given["config"].train.epochs == 3
    assert given["again"].metrics["test/map"] == pytest.approx(given["result"].metrics["test/map"], abs=1e-6)
    assert len(given["found"].matches) > 0
    assert given["found"].page.is_file()
    assert (tmp_path / "seen" / "street" / "embeddings.npz").is_file()
    assert given["similarity"].shape == (len(given["crops"]), 1)
    assert len(given["crops"]) == 2
