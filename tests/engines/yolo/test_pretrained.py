"""Training from a published detector: ultralytics' own start, and one fetch for a new user's command."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from watchme.engines.yolo import arguments
from watchme.weights import model_zoo
from weights.file_server import FileServer
from yolo.conftest import Tiny
from yolo.world import Recorder, draw_dataset, train

PROJECT = Path(__file__).resolve().parents[3]
NAMES = ("bicycle", "car", "bus", "person", *(f"thing{number}" for number in range(76)))
TRAINED = {"epochs": 2, "imgsz": 64, "batch": 8, "nbs": 8, "device": "cpu", "workers": 0, "val": False, "plots": False}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of 80 classes, of which person is the fourth, under the name of a release."""
    from ultralytics import YOLO

    root = tmp_path_factory.mktemp("release")
    names = "train: images/train\nval: images/train\nnames: [" + ", ".join(NAMES) + "]\n"
    data = draw_dataset(root / "data", {"train": 16}, ("person",), yaml=names)
    for label in (data / "labels").rglob("*.txt"):
        label.write_text(label.read_text().replace("0 ", f"{NAMES.index('person')} ", 1))
    model = YOLO("yolo11n.yaml")
    model.train(data=str(data / "data.yaml"), project=str(root), name="run", verbose=False, **TRAINED)
    return Path(root / "run" / "weights" / "last.pt").rename(root / "yolo11n.pt")


@pytest.fixture
def served(release: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileServer]:
    """A mirror that has the release; the table holds its size and hash in place of the real one's."""
    server = FileServer()
    content = release.read_bytes()
    server.files["/yolo11n.pt"] = content
    rows = tuple(
        replace(row, size=len(content), sha256=hashlib.sha256(content).hexdigest()) if row.key == "yolo11n.pt" else row
        for row in model_zoo.all_weights()
    )
    monkeypatch.setattr(model_zoo, "all_weights", lambda: rows)
    monkeypatch.setenv("WATCHME_WEIGHTS", server.address)
    monkeypatch.setenv("WATCHME_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WATCHME_OFFLINE")
    yield server
    server.close()


class FirstStep:
    """The loss and the weights at the first step of an optimizer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from ultralytics.engine.trainer import BaseTrainer

        self.seen: list[tuple[Tensor, dict[str, Tensor]]] = []
        self.done = False
        original = BaseTrainer.optimizer_step

        def step(trainer: Any) -> None:
            if trainer.epoch == 0 and not self.done:
                self.done = True
                state = {name: value.clone() for name, value in trainer.model.state_dict().items()}
                self.seen.append((trainer.loss.detach().clone(), state))
            original(trainer)

        monkeypatch.setattr(BaseTrainer, "optimizer_step", step)


def test_the_first_batch_is_that_of_ultralytics(
    served: FileServer, release: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and every tensor, the head's row of person among 80 classes included."""
    from ultralytics import YOLO

    first = FirstStep(monkeypatch)
    config = tiny("model.weights=coco", "train.epochs=1")
    ours = train(config, Recorder(tmp_path / "ours"))
    assert served.asked == ["/yolo11n.pt"]
    data = next((tmp_path / "cache").rglob("data.yaml"))
    given = arguments.training_arguments(
        config, model=str(release), data=str(data), save_dir=str(tmp_path / "theirs"), device="cpu"
    )
    given |= {"pretrained": True}
    first.done = False
    YOLO(str(release)).train(**{key: value for key, value in given.items() if key not in ("model", "task", "mode")})
    (our_loss, our_state), (their_loss, their_state) = first.seen
    assert torch.equal(our_loss, their_loss)
    assert our_state.keys() == their_state.keys()
    for name, value in their_state.items():
        assert torch.equal(our_state[name], value), name
    published = torch.load(release, weights_only=False)["model"].float().state_dict()
    row = published["model.23.cv3.0.2.weight"][NAMES.index("person")]
    assert torch.equal(our_state["model.23.cv3.0.2.weight"][0], row)
    assert ours.result.epochs == 1


@pytest.mark.slow
def test_the_command_of_a_new_user_fetches_announces_and_records(
    served: FileServer, drawn: Path, tmp_path: Path
) -> None:
    """`python train.py model=yolo11n dataset=person_detection dataset.root=<folder>`, twice: one fetch."""
    row = model_zoo.by_key("yolo11n.pt")
    assert row is not None
    script = (
        "import runpy; from dataclasses import replace; from watchme.weights import model_zoo as zoo; "
        f"rows = tuple(replace(row, size={row.size}, sha256='{row.sha256}') if row.key == 'yolo11n.pt' else row "
        "for row in zoo.all_weights()); zoo.all_weights = lambda: rows; "
        "runpy.run_path('train.py', run_name='__main__')"
    )
    command = [sys.executable, "-c", script, "model=yolo11n", "dataset=person_detection", f"dataset.root={drawn}"]
    command += ["dataset.image_size=64", "train.epochs=1", "train.batch_size=8", "train.device=cpu"]
    for number in (1, 2):
        run = tmp_path / f"run{number}"
        shown = subprocess.run(
            [*command, "evaluation.plots=false", f"hydra.run.dir={run}"],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
        )
        assert shown.returncode == 0, shown.stderr
        recorded = json.loads((run / "run.json").read_text())["initial_weights"]
        assert (recorded["given"], recorded["sha256"]) == ("coco", row.sha256)
        line = f"coco = yolo11n.pt (yolo11n trained on COCO), sha256 {row.sha256}"
        assert f"Weights: {line}" in shown.stdout + shown.stderr
        assert line in (run / "weights" / "MODEL_CARD.md").read_text()
    assert served.asked == ["/yolo11n.pt"]
