"""Runs of a made-up training, tracked for real: W&B offline, TensorBoard, metrics.jsonl."""

from dataclasses import replace

import pytest

from tracking.made_up import Tracked, make_config, make_trial
from watchme.core.interfaces import Table


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """A whole run with everything shown, by `tracker=all` offline, as a trial of a study."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    config = make_config(tensorboard=True, wandb=True, mode="offline", tags=["people"], notes="a note", images=2)
    trial = make_trial(folder.parent / "study.db", "yolo_tune", 4)
    run = Tracked.begin(folder, replace(config, trial=trial), ["optimizer.lr=0.001", "+trial.number=4"])
    run.epochs()
    run.picture("test/ranked", boxes=())
    run.session.show(Table("test/per_image", ("image", "ap"), (("a.jpg", 0.5), ("b.jpg", 0.25))))
    run.end("finished", run.result())
    return run


@pytest.fixture(scope="session")
def resumed_run(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """A run that was interrupted after epoch 4 while its checkpoint held epoch 3, and went on."""
    folder = tmp_path_factory.mktemp("resumed") / "run"
    config = make_config(tensorboard=True, wandb=True, mode="offline")
    first = Tracked.begin(folder, config)
    first.epochs(1, 4, pictures=False)
    first.end("interrupted")
    second = Tracked.begin(folder, replace(config, train=replace(config.train, resume=str(folder))))
    second.session.resumed(3)
    second.epochs(4, 5, pictures=False)
    second.end("finished", second.result())
    return second
