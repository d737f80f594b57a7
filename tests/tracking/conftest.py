"""Runs of a made-up training, tracked for real: W&B offline, TensorBoard, metrics.jsonl."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tracking.made_up import Tracked, make_config, make_trial
from watchme.core.interfaces import Embedding, Table
from watchme.tracking import process


@pytest.fixture(scope="session", autouse=True)
def patience() -> Iterator[None]:
    """What a tracker logs is read back when it has finished, which may take a while on a machine that is busy."""
    with pytest.MonkeyPatch.context() as patch:
        for mode in process.WAIT_S:
            patch.setitem(process.WAIT_S, mode, 180.0)
        yield


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """A whole run with everything shown, by `tracker=all` offline, as a trial of a study."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    config = make_config(tensorboard=True, wandb=True, mode="offline", tags=["people"], notes="a note", images=2)
    trial = make_trial(folder.parent / "study.db", "yolo_tune", 4)
    run = Tracked.begin(folder, replace(config, trial=trial), ["optimizer.lr=0.001", "+trial.number=4"])
    run.epochs()
    run.picture("test/ranked", boxes=())
    (folder / "train.log").write_text("first line of the log\n")
    points = tuple((at / 10, (4 + at) / 10, (10 - at) / 10, "person", 20) for at in range(6))
    pr = ("confidence", "precision", "recall", "class", "boxes")
    run.session.show(Table("test/pr", pr, points, chart="precision_recall"))
    counts = (("person", "person", 7), ("person", "nothing", 2), ("nothing", "person", 1))
    run.session.show(Table("test/confusion", ("actual", "predicted", "count"), counts, chart="confusion"))
    run.session.show(Table("test/cmc_curve", ("rank", "share"), ((1, 0.5), (2, 0.75)), chart="cmc"))
    crops = (folder / "a.png", folder / "b.png", folder / "missing.png")
    for path, shade in zip(crops[:2], (50, 150), strict=True):
        Image.new("RGB", (20, 40), (shade, shade, shade)).save(path)
    vectors = np.array([[1, 0], [0, 1], [0.5, -0.25]], np.float32)
    about = ("identity", "camera"), ((7, 1), (7, 2), (9, 1))
    run.session.show(Embedding("test/embedding", vectors, *about, crops))
    run.session.show(Table("test/per_image", ("image", "ap"), (("a.jpg", 0.5), ("b.jpg", 0.25))))
    run.end("finished", run.result())
    return run


@pytest.fixture(scope="session")
def resumed_run(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """A run that was interrupted after epoch 4 while its checkpoint held epoch 3, and went on."""
    folder = tmp_path_factory.mktemp("resumed") / "run"
    config = make_config(tensorboard=True, wandb=True, mode="offline")
    first = Tracked.begin(folder, config)
    first.epochs(1, 3, pictures=False)
    first.epochs(4, 4, pictures=False, saved=False)
    first.end("interrupted")
    second = Tracked.begin(folder, replace(config, train=replace(config.train, resume=str(folder))))
    second.session.resumed(3)
    second.epochs(4, 5, pictures=False)
    second.end("finished", second.result())
    return second
