"""train.compile=cudagraphs, with CUDA played by a function: what is recorded when, and what it leaves behind."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from watchme.engines.osnet import trainer as trainer_module
from watchme.engines.osnet.trainer import Trainer

Make = Callable[..., Trainer]


class Graphs:
    """`torch.cuda.make_graphed_callables` as far as a model notices it: three passes, then one function for all."""

    def __init__(self) -> None:
        self.recorded: list[tuple[int, ...]] = []
        self.learning: list[int] = []
        self.replays = 0
        self.full = False

    def __call__(self, model: nn.Module, samples: tuple[Tensor], *, allow_unused_input: bool) -> Callable[..., Any]:
        assert allow_unused_input
        (images,) = samples
        if self.full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.recorded.append(tuple(images.shape))
        self.learning.append(sum(each.requires_grad for each in model.parameters()))
        for _ in range(3):
            model(images)

        def replay(batch: Tensor) -> Any:
            self.replays += 1
            return model(batch)

        return replay


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Graphs:
    found = Graphs()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", found)
    monkeypatch.setattr(trainer_module, "choose_compile_mode", lambda *_: "cudagraphs")
    return found


def test_a_training_by_graphs_is_the_same(make_trainer: Make, graphs: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warming up leaves the statistics of batch normalisation, and the count of its batches, as they were."""
    trainer = make_trainer()
    trainer.run()
    assert graphs.recorded == [(8, 3, 64, 32)]
    assert graphs.replays == trainer.learner.steps == 2 * len(trainer.batches)
    monkeypatch.setattr(trainer_module, "choose_compile_mode", lambda *_: None)
    plain = make_trainer()
    plain.run()
    ours, theirs = (each.learner.model.state_dict() for each in (trainer, plain))
    torch.testing.assert_close(dict(ours), dict(theirs), rtol=0, atol=0)


def test_graphs_are_recorded_again_when_other_layers_learn(make_trainer: Make, graphs: Graphs) -> None:
    trainer = make_trainer("train.epochs=3", "train.fixbase_epochs=1", "train.open_layers=[classifier]")
    graphs.recorded.clear()
    graphs.learning.clear()
    trainer.run()
    assert len(graphs.recorded) == 2
    assert graphs.learning[0] == 2 < graphs.learning[1]


def test_a_batch_of_another_size_is_computed_without_graphs(make_trainer: Make, graphs: Graphs) -> None:
    learner: Any = make_trainer().learner
    learner.start_epoch(None)
    for count in (8, 6):
        logits, _, _ = learner._forward(torch.rand(count, 3, 64, 32))
        assert len(logits) == count
    assert graphs.replays == 1


def test_the_images_of_all_views_count(make_trainer: Make, graphs: Graphs) -> None:
    make_trainer("dataset.k_tfm=2").learner.start_epoch(None)
    assert graphs.recorded == [(16, 3, 64, 32)]


def test_a_gpu_too_full_for_graphs_trains_without(
    make_trainer: Make, graphs: Graphs, caplog: pytest.LogCaptureFixture
) -> None:
    graphs.full = True
    trainer = make_trainer()
    trainer.run()
    assert trainer.learner.steps == 2 * len(trainer.batches)
    assert caplog.text.count("train.compile=off: CUDA graphs could not be recorded (CUDA out of memory") == 1


def test_graphs_that_were_asked_for_are_not_left_out(make_trainer: Make, graphs: Graphs) -> None:
    graphs.full = True
    with pytest.raises(torch.OutOfMemoryError):
        make_trainer("train.compile=cudagraphs", "train.device=auto").learner.start_epoch(None)
