"""Sources that lack something: people seen by one camera, a training set alone, nothing held out; they train."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from osnet.whole_runs import TINY, Done, Train
from watchme.core.errors import ConfigError, DataError
from watchme.core.interfaces import EpochEvent
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import FOLDERS
from watchme.report import index_page
from watchme.run.early_stopping import EarlyStopping


def one_camera(world: DemoWorld, root: Path, *folders: str) -> Path:
    """The demo people, each as if the first camera that saw them were the only one."""
    for folder in folders:
        (root / folder).mkdir(parents=True)
        cameras: dict[str, str] = {}
        for path in sorted((world.reid / folder).iterdir()):
            pid, camera, frame = re.findall(r"(-?\d+)_c(\d+)(.*)", path.name)[0]
            if cameras.setdefault(pid, camera) == camera:
                shutil.copy(path, root / folder / f"{pid}_c{camera}{frame}")
    return root


@pytest.fixture(scope="module")
def alone(small_world: DemoWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People seen by one camera each, and a training set alone."""
    return one_camera(small_world, tmp_path_factory.mktemp("alone"), FOLDERS[0])


@pytest.fixture(scope="module")
def done(train: Train, alone: Path) -> Done:
    return train(f"dataset.root={alone}", "train.epochs=4", "train.patience=1", "optimizer.lr=1e-9")


class TestOneCamera:
    def test_validation_has_a_name_of_its_own(self, done: Done) -> None:
        assert {name for line in done.lines for name in line if name.startswith("val")} == {
            f"val_same_camera/{metric}" for metric in ("map", "minp", "rank1", "rank5", "rank10", "rank20")
        }
        assert not any(name.startswith(("val/", "test/")) for name in done.summary)

    def test_the_best_epoch_and_early_stopping_follow_it(self, done: Done) -> None:
        assert done.summary["objective"] == "val_same_camera/map"
        values = {line["epoch"]: line["val_same_camera/map"] for line in done.lines if line["epoch"]}
        assert done.summary["objective_value"] == values[done.summary["best_epoch"]] == max(values.values())
        # Weights that do not change are no better: the second validation ends it.
        assert done.run["stopped"]["epoch"] == 2
        assert done.run["stopped"]["reason"].startswith("val_same_camera/map has not improved in 1 validation")

    def test_it_is_announced_and_recorded(self, done: Done) -> None:
        told = [text for text in done.run["fallbacks"] if "val_same_camera" in text]
        assert len(told) == 1
        assert "val_same_camera/map is the objective instead of val/map" in told[0]
        assert "easier than re-identification across cameras" in told[0]
        assert any("it is not tested on" in text for text in done.run["fallbacks"])

    def test_report_index_card_and_log_say_it(self, done: Done) -> None:
        report = (done.folder / "report.html").read_text()
        assert "val_same_camera/map" in report
        assert ">val_same_camera before training<" in report.replace("\n", "").replace(" <", "<")
        assert "`val_same_camera/map`" in (done.folder / "weights" / "MODEL_CARD.md").read_text()
        page = index_page.write_index(done.folder.parent).read_text()
        assert "val_same_camera/map" in page

    def test_a_resumed_run_goes_on_with_it(self, done: Done, train: Train, alone: Path) -> None:
        options = ("train.epochs=4", "train.patience=2", "optimizer.lr=1e-9")
        again = train(f"dataset.root={alone}", *options, f"train.resume={done.folder}", folder=done.folder)
        assert again.run["stopped"]["epoch"] == 3  # the values of epochs 1 and 2 count
        assert again.summary["objective"] == "val_same_camera/map"

    def test_it_may_be_asked_for_by_name(self, train: Train, alone: Path, small_world: DemoWorld) -> None:
        done = train(f"dataset.root={alone}", "train.epochs=1", "objective=val_same_camera/rank1")
        assert done.summary["objective"] == "val_same_camera/rank1"
        assert not any("instead of" in text for text in done.run["fallbacks"])
        with pytest.raises(ConfigError, match=r"(?s)nobody is seen by two cameras.*objective=val/rank1"):
            train(f"dataset.root={small_world.reid}", "train.epochs=1", "objective=val_same_camera/rank1")

    def test_early_stopping_without_any_of_both(self) -> None:
        stopping = EarlyStopping("val/map", 1)
        assert stopping.on_epoch(EpochEvent(1, 3, {"train/loss": 1.0})) is None
        assert stopping.best_epoch == 0


class TestTrainOnly:
    def test_a_folder_with_a_training_set_alone(self, train: Train, small_world: DemoWorld, tmp_path: Path) -> None:
        shutil.copytree(small_world.reid / FOLDERS[0], tmp_path / FOLDERS[0])
        done = train(f"dataset.root={tmp_path}", "train.epochs=1")
        assert done.summary["objective"] == "val/map"
        assert 0 <= done.summary["val/map"] <= 1
        assert not any(name.startswith("test/") for name in done.summary)
        assert any("training set alone" in text and "not tested" in text for text in done.run["fallbacks"])

    def test_a_one_camera_source_and_a_good_target(self, train: Train, alone: Path, small_world: DemoWorld) -> None:
        roots = f"dataset.roots={{one:'{alone}',good:'{small_world.reid}'}}"
        done = train(roots, "dataset.sources=[one]", "dataset.targets=[good]", "train.epochs=1")
        assert {"val_same_camera/map", "test/map"} <= done.summary.keys()

    def test_of_two_sources_the_one_with_a_test_is_tested(
        self, train: Train, alone: Path, small_world: DemoWorld
    ) -> None:
        roots = f"dataset.roots={{one:'{alone}',good:'{small_world.reid}'}}"
        done = train(roots, "dataset.sources=[one,good]", "train.epochs=1")
        # Those who are held out are people whom two cameras saw.
        assert {"val/map", "test/map"} <= done.summary.keys()

    def test_nothing_held_out(self, train: Train, alone: Path) -> None:
        done = train(f"dataset.root={alone}", "train.epochs=1", "dataset.val_identities=0")
        assert done.summary["status"] == "finished"
        assert done.summary["best_epoch"] == 1
        assert not any(name.startswith(("val", "test")) for name in done.summary)

    def test_the_printed_next_commands_work(
        self, train: Train, alone: Path, caplog: pytest.LogCaptureFixture, typed_config: Callable[..., Any]
    ) -> None:
        with caplog.at_level("INFO"):
            done = train(f"dataset.root={alone}", "train.epochs=1")
        commands = [text.strip() for text in caplog.messages if text.strip().startswith("python train.py")]
        assert not any("mode=evaluate" in text for text in commands)
        assert any("mode=export" in text for text in commands)
        best = f"checkpoint={done.folder}/weights/best.pt"
        typed_config(*TINY, f"dataset.root={alone}", "mode=export", best)

    def test_an_evaluation_needs_a_test(self, alone: Path, typed_config: Callable[..., Any]) -> None:
        with pytest.raises(ConfigError, match="has no query and no bounding_box_test"):
            typed_config(*TINY, f"dataset.root={alone}", "mode=evaluate", "checkpoint=random")

    def test_half_a_test_is_a_mistake(self, alone: Path, tmp_path: Path, typed_config: Callable[..., Any]) -> None:
        shutil.copytree(alone / FOLDERS[0], tmp_path / FOLDERS[0])
        (tmp_path / "query").mkdir()
        with pytest.raises(ConfigError, match=r"has no\s+bounding_box_test"):
            typed_config(*TINY, f"dataset.root={tmp_path}")

    def test_one_camera_for_all_of_it_says_how_to_train(
        self, train: Train, small_world: DemoWorld, tmp_path: Path
    ) -> None:
        root = one_camera(small_world, tmp_path, *FOLDERS)
        for path in (root / "bounding_box_test").iterdir():  # the gallery has the queries' own cameras alone
            if not any(path.name[:7] == query.name[:7] for query in (root / "query").iterdir()):
                path.unlink()
        with pytest.raises(DataError, match=r"without a test: 'dataset\.targets=\[\]'"):
            train(f"dataset.root={root}", "train.epochs=1")
        assert train(f"dataset.root={root}", "train.epochs=1", "dataset.targets=[]").summary["status"] == "finished"
