"""One check of a folder in this process, and clean datasets to spoil."""

import csv
import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from watchme.config.schema import RunConfig
from watchme.core.interfaces import Job, Picture, Result, Shown
from watchme.core.registry import load_mode
from watchme.data.check.database import ISSUES
from watchme.data.demo import DemoWorld
from yolo.world import draw_dataset


@dataclass
class Checked:
    """What a check has told."""

    result: Result
    issues: list[dict[str, str]]
    manifest: dict[str, Any]
    shown: list[Shown]
    folder: Path

    @property
    def bad(self) -> dict[str, int]:
        """Kind of each error and warning -> how often."""
        return dict(Counter(issue["problem"] for issue in self.issues if issue["severity"] != "note"))

    def of(self, kind: str) -> list[dict[str, str]]:
        return [issue for issue in self.issues if issue["problem"] == kind]

    @property
    def pictures(self) -> set[str]:
        return {item.name for item in self.shown if isinstance(item, Picture)}


Check = Callable[..., Checked]


@pytest.fixture(scope="session")
def configs(typed_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunConfig]:
    """A composed check of each task; composing takes long, putting in another root does not."""
    empty = draw_dataset(tmp_path_factory.mktemp("any"), {"train": 1})
    market = tmp_path_factory.mktemp("market")
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (market / name).mkdir()
    return {
        "detection": typed_config("mode=check", "dataset=person_detection", f"dataset.root={empty}"),
        "reid": typed_config("mode=check", "model=osnet", "dataset=market1501", f"dataset.root={market}"),
    }


@pytest.fixture
def check(configs: dict[str, RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """`check(task, root, **dataset keys)`: run the engine's check of a folder; `plots=True` draws them, too."""

    def run(task: str, root: Path | None, *, plots: bool = False, **keys: Any) -> Checked:
        if not plots:  # half a second each
            monkeypatch.setattr("watchme.data.check.dataset_plots.plot_detection", lambda *_: [])
            monkeypatch.setattr("watchme.data.check.dataset_plots.plot_people", lambda *_: [])
        config = configs[task]
        dataset = dataclasses.replace(config.dataset, root=None if root is None else str(root), **keys)
        config = dataclasses.replace(config, dataset=dataset)
        folder = tmp_path / "run"
        folder.mkdir()
        manifest: dict[str, Any] = {}
        shown: list[Shown] = []
        job = Job(config, folder, record=manifest.__setitem__, show=shown.append)
        result = load_mode(config.model.engine, "check")(job)
        with (folder / ISSUES).open(newline="", encoding="utf-8") as file:
            return Checked(result, list(csv.DictReader(file)), manifest, shown, folder)

    return run


@pytest.fixture
def detection(tmp_path: Path) -> Path:
    """A clean drawn dataset; images 000 and 004 have no label file, the others one box."""
    return draw_dataset(tmp_path / "detection", {"train": 8, "val": 4, "test": 4})


@pytest.fixture
def reid(tmp_path: Path, small_world: DemoWorld) -> Path:
    """A copy of a clean small world."""
    root = tmp_path / "reid"
    shutil.copytree(small_world.reid, root)
    return root
