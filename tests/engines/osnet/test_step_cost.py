"""What a training step asks of a GPU, counted on the CPU: no waits between steps, few kernels."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from watchme.engines.osnet.data.device_batches import DeviceBatch
from watchme.engines.osnet.learner import Learner
from watchme.engines.osnet.losses import batch_hard_triplet
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.train_metrics import EpochMetrics
from watchme.engines.osnet.trainer import Trainer

Make = Callable[..., Trainer]
CPU = torch.device("cpu")
# Each makes the host wait for the device.
WAITS = ("aten::item", "aten::_local_scalar_dense", "aten::nonzero")


def ops(work: Callable[[], Any]) -> Counter[str]:
    """Operations by name."""
    profiled: Any = profile(activities=[ProfilerActivity.CPU])
    with profiled:
        work()
    return Counter(event.name for event in profiled.events() if event.name.startswith("aten::"))


# pytorch-metric-learning's circle and arcface losses do wait: they look for pairs and targets by `nonzero`.
@pytest.mark.parametrize(("loss", "ema"), [("reid", "0.9"), ("softmax", "null"), ("center", "null")])
def test_no_step_of_an_epoch_waits_for_the_device(
    loss: str, ema: str, make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Adam's kernels read their step counters, which are on the device only where the kernels are; SGD has none.
    options = ("train.sampler=identity", "train.clip_grad_norm=5", "optimizer=sgd")
    trainer = make_trainer(f"loss={loss}", f"train.ema_decay={ema}", *options)
    count, done = len(trainer.batches), 0
    profiled: Any = profile(activities=[ProfilerActivity.CPU])
    real = Learner.step

    def step(self: Learner, *args: Any, **options: Any) -> None:
        nonlocal done
        done += 1
        if done == 2:
            profiled.start()
        real(self, *args, **options)
        if done == count - 1:
            profiled.stop()

    monkeypatch.setattr(Learner, "step", step)
    trainer.train_epoch(1)
    found = Counter(event.name for event in profiled.events())
    assert found["aten::conv2d"] > 0
    assert {name: found[name] for name in WAITS if found[name]} == {}


def test_a_moving_average_costs_few_operations(make_trainer: Make) -> None:
    """One for each kind of tensor, where a loop over the model's tensors took hundreds."""
    with_ema = make_trainer("train.ema_decay=0.9")
    assert with_ema.learner.ema is not None
    found = ops(lambda: with_ema.learner.ema.update(5))  # type: ignore[union-attr]
    top = found["aten::_foreach_lerp_"] + found["aten::_foreach_copy_"]
    assert top == 2
    assert found["aten::state_dict"] == 0


@pytest.mark.parametrize("name", ["osnet_x0_25", "osnet_ain_x1_0", "osnet_ibn_x1_0"])
def test_the_model_is_one_graph(name: str) -> None:
    """torch.compile finds no break in it, in training or evaluation."""
    torch._dynamo.reset()
    model = ReidNet(name, 5, bnneck=True)
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    for training in (True, False):
        model.train(training)
        logits, embeddings, _ = compiled(torch.rand(4, 3, 64, 32))
        assert logits.shape == (4, 5)
    loss: Any = torch.compile(batch_hard_triplet, backend="eager", fullgraph=True)
    labels = torch.tensor([0, 0, 1, 1])
    torch.testing.assert_close(loss(embeddings, labels, 0.3), batch_hard_triplet(embeddings, labels, 0.3))


def test_a_loss_that_is_not_finite_is_found_later_and_names_its_own_batch() -> None:
    from watchme.core.errors import TrainingError
    from watchme.engines.osnet.losses import LossParts

    metrics = EpochMetrics(["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    nothing, logits = torch.tensor(torch.nan), torch.zeros(2, 3)
    for loss, indices in ((1.0, [0, 1]), (torch.inf, [1, 2]), (torch.nan, [3, 0])):
        parts = LossParts(torch.tensor(loss), nothing, nothing, nothing)
        metrics.add(parts, logits, torch.zeros(2, dtype=torch.int64), torch.tensor(indices))
    with pytest.raises(TrainingError, match=r"(?s)the loss is inf.*b\.jpg, c\.jpg$"):
        metrics.read()


def test_out_of_memory_names_the_numbers_and_the_keys(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from watchme.core.errors import TrainingError

    def full(self: Learner, batch: DeviceBatch, *args: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Learner, "step", full)
    with pytest.raises(TrainingError, match=r"(?s)lower train\.batch_size=8.*precision=bf16.*allocate 2\.00 GiB"):
        make_trainer().run()
