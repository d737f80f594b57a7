"""Each option of training, by its effect on the steps and epochs of a small trainer."""

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from watchme.core.interfaces import EpochEvent, StepEvent
from watchme.core.seed import seed_everything
from watchme.core.step_meter import StepMeter
from watchme.engines.osnet.data.device_batches import DeviceBatch, to_device
from watchme.engines.osnet.train_metrics import EpochMetrics
from watchme.engines.osnet.trainer import Trainer

Make = Callable[..., Trainer]
CPU = torch.device("cpu")


def batches(trainer: Trainer, count: int) -> list[DeviceBatch]:
    made = (trainer.dataset.__getitems__(draws) for draws, _ in zip(trainer.batches, range(count), strict=False))
    return list(to_device(made, CPU, normalize=True, channels_last=trainer.learner.channels_last))


def step(trainer: Trainer, batch: DeviceBatch, **options: Any) -> None:
    trainer.learner.step(batch, EpochMetrics([]), **options)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.learner.model.state_dict().items()}


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6, msg=name)


class TestSteps:
    def test_accumulated_batches_step_as_one_large_batch(self, make_trainer: Make) -> None:
        """With batch normalisation frozen, as its statistics are a batch's own."""
        patterns = ("*bn*", "fc.1.*")
        small = make_trainer("train.accumulate=2", patterns=patterns)
        large = make_trainer("train.batch_size=16", patterns=patterns)
        first, second = batches(small, 2)
        step(small, first, update=False, summed=2)
        assert_close(weights(small), weights(large))  # nothing has moved yet
        step(small, second, summed=2)
        both = first._replace(
            images=torch.cat((first.images, second.images)), labels=torch.cat((first.labels, second.labels))
        )
        step(large, both)
        assert_close(weights(small), weights(large))

    def test_a_last_sum_of_fewer_batches_is_their_mean(self, make_trainer: Make) -> None:
        """More batches wanted than an epoch has: one step, by the mean of what there is."""
        patterns = ("*bn*", "fc.1.*")
        trainer = make_trainer("train.accumulate=100", patterns=patterns)
        reference = make_trainer(patterns=patterns)
        everything = batches(trainer, 100)
        start = weights(reference)
        losses = []
        for batch in everything:
            logits = reference.learner.model(batch.images)[0]
            losses.append(nn.functional.cross_entropy(logits, batch.labels, label_smoothing=0.1))
        torch.autograd.backward(torch.stack(losses).mean())
        trainer.train_epoch(1)
        rate = trainer.learner.optimizer.optimizer.param_groups[0]["lr"]
        assert trainer.learner.steps == 1
        for name, value in reference.learner.model.named_parameters():
            expected = start[name] if value.grad is None else start[name] - rate * value.grad
            torch.testing.assert_close(weights(trainer)[name], expected, rtol=1e-4, atol=1e-6, msg=name)

    def test_moving_average_is_that_of_a_naive_loop(self, make_trainer: Make) -> None:
        """Its decay rises to the one asked for: min(decay, (1 + t) / (10 + t))."""
        trainer = make_trainer("train.ema_decay=0.2")
        average = weights(trainer)
        for number, batch in enumerate(batches(trainer, 3), start=1):
            step(trainer, batch)
            decay = min(0.2, (1 + number) / (10 + number))
            for name, value in weights(trainer).items():
                if value.dtype.is_floating_point:
                    average[name] = decay * average[name] + (1 - decay) * value
                else:
                    average[name] = value
        assert trainer.learner.ema is not None
        assert trainer.learner.evaluated is trainer.learner.ema.module
        assert_close(dict(trainer.learner.ema.module.state_dict()), average)
        assert not torch.equal(average["backbone.classifier.weight"], weights(trainer)["backbone.classifier.weight"])

    @pytest.mark.parametrize("loss", ["softmax", "arcface"])
    def test_gradients_are_clipped_to_the_norm_asked_for(self, loss: str, make_trainer: Make) -> None:
        """Those of a loss's own parameters with them."""
        trainer = make_trainer(f"loss={loss}", "train.clip_grad_norm=0.01", "optimizer.lr=1")
        learning = [*trainer.learner.model.parameters(), *trainer.learner.criterion.parameters()]
        before = [value.detach().clone() for value in learning]
        step(trainer, batches(trainer, 1)[0])
        moved = torch.stack([(value.detach() - old).norm() for value, old in zip(learning, before, strict=True)]).norm()
        assert float(moved) == pytest.approx(0.01, rel=1e-2)

    def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32(self, make_trainer: Make) -> None:
        seen: list[torch.dtype] = []
        trainer = make_trainer(precision="bf16")
        trainer.learner.model.backbone.conv1.conv.register_forward_hook(
            lambda module, inputs, output: seen.append(output.dtype)
        )
        step(trainer, batches(trainer, 1)[0])
        assert seen == [torch.bfloat16]
        assert {value.dtype for value in trainer.learner.model.parameters()} == {torch.float32}

    @pytest.mark.parametrize("wanted", [True, False])
    def test_channels_last_is_the_layout_of_weights_and_images(self, wanted: bool, make_trainer: Make) -> None:
        layouts: list[bool] = []
        trainer = make_trainer(f"train.channels_last={str(wanted).lower()}")
        kernel = trainer.learner.model.backbone.conv1.conv.weight
        assert kernel.is_contiguous(memory_format=torch.channels_last) == wanted
        trainer.learner.model.backbone.conv1.register_forward_pre_hook(
            lambda _, inputs: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
        step(trainer, batches(trainer, 1)[0])
        assert layouts == [wanted]

    def test_compile_trains_what_torch_compile_returns(
        self, make_trainer: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Compiling itself takes minutes."""
        passes: list[int] = []

        class Compiled(nn.Module):
            def __init__(self, model: nn.Module, **options: Any) -> None:
                super().__init__()
                self.model = model

            def forward(self, images: torch.Tensor) -> Any:
                passes.append(len(images))
                return self.model(images)

        monkeypatch.setattr(torch, "compile", Compiled)
        trainer = make_trainer("train.compile=default")
        step(trainer, batches(trainer, 1)[0])
        assert passes == [8]

    def test_bnneck_is_between_embedding_and_classifier(self, make_trainer: Make) -> None:
        trainer = make_trainer("model.bnneck=true", "loss=reid", "train.sampler=identity")
        assert trainer.learner.model.neck is not None
        scale = trainer.learner.model.neck.weight.detach().clone()
        step(trainer, batches(trainer, 1)[0])
        assert not torch.equal(trainer.learner.model.neck.weight, scale)
        assert not trainer.learner.model.neck.bias.any()
        net = trainer.learner.model.eval()
        images = batches(trainer, 1)[0].images
        logits, embeddings, neck = net(images)
        torch.testing.assert_close(neck, net.neck(embeddings))  # type: ignore[misc]
        torch.testing.assert_close(logits, net.backbone.classifier(neck))
        torch.testing.assert_close(net.embed(images), embeddings)


class TestEpochs:
    def test_validates_every_so_many_epochs_and_after_the_last(self, make_trainer: Make) -> None:
        events: list[EpochEvent] = []
        asked: list[int] = []

        def evaluate(model: nn.Module, epoch: int) -> dict[str, float]:
            asked.append(epoch)
            return {"val/map": 0.5}

        make_trainer(
            "train.epochs=5", "train.eval_every=2", "train.batch_size=64", validate=evaluate, emit=events.append
        ).run()
        assert asked == [0, 2, 4, 5]
        assert [event.epoch for event in events if "val/map" in event.metrics] == asked
        assert [event.epoch for event in events] == [0, 1, 2, 3, 4, 5]

    def test_points_within_epochs_have_the_epochs_mean_loss(self, make_trainer: Make) -> None:
        points: list[StepEvent] = []
        trainer = make_trainer(steps=StepMeter(1, points.append))
        first, second = (trainer.train_epoch(epoch)[0] for epoch in (1, 2))
        count = len(trainer.batches)
        assert [point.step for point in points] == list(range(1, 2 * count + 1))
        for metrics, epoch in ((first, points[:count]), (second, points[count:])):
            losses = [point.metrics["step/loss"] for point in epoch]
            assert min(losses) <= metrics["train/loss"] <= max(losses)
            assert epoch[-1].metrics["step/lr"] == pytest.approx(metrics["train/lr"])
        sizes = [len(batch) for batch in trainer.batches]
        weighted = sum(a * b for a, b in zip((p.metrics["step/loss"] for p in points[count:]), sizes, strict=True))
        assert weighted / sum(sizes) == pytest.approx(second["train/loss"], rel=1e-5)

    def test_log_every_logs_batches(self, make_trainer: Make, caplog: pytest.LogCaptureFixture) -> None:
        trainer = make_trainer("train.log_every=2")
        with caplog.at_level(logging.INFO):
            trainer.train_epoch(1)
        lines = [text for text in caplog.messages if "batch" in text]
        assert [text.split("batch ")[1].split("/")[0] for text in lines] == [
            str(number) for number in range(2, len(trainer.batches) + 1, 2)
        ]
        caplog.clear()
        with caplog.at_level(logging.INFO):
            make_trainer().train_epoch(1)
        assert not caplog.messages

    def test_warm_up_and_schedule_set_the_rate_of_the_optimizer(self, make_trainer: Make) -> None:
        trainer = make_trainer("scheduler=single_step", "scheduler.step_size=1", "scheduler.warmup_epochs=1")
        first, second = (trainer.train_epoch(epoch)[0]["train/lr"] for epoch in (1, 2))
        assert first == pytest.approx(0.01)  # warm-up has ended with the epoch
        assert second == pytest.approx(0.001)

    def test_fixed_base_learns_from_the_epoch_after(self, make_trainer: Make) -> None:
        trainer = make_trainer("train.fixbase_epochs=1", "train.open_layers=[classifier,fc]")
        start = weights(trainer)
        trainer.train_epoch(1)
        moved = {name.split(".")[1] for name, value in weights(trainer).items() if not torch.equal(value, start[name])}
        assert moved == {"classifier", "fc"}
        trainer.train_epoch(2)
        assert not torch.equal(weights(trainer)["backbone.conv1.conv.weight"], start["backbone.conv1.conv.weight"])

    def test_new_layers_take_the_larger_steps(self, make_trainer: Make) -> None:
        plain, staged = make_trainer(), make_trainer("train.new_layers=[classifier]", "train.base_lr_mult=0.5")
        start = weights(plain)
        for trainer in (plain, staged):
            seed_everything(0, deterministic=True)
            rate = trainer.config.optimizer.lr
            for group in trainer.learner.optimizer.optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            step(trainer, batches(trainer, 1)[0])
        for name, share in (("backbone.classifier.weight", 1.0), ("backbone.conv1.conv.weight", 0.5)):
            moved = weights(plain)[name] - start[name]
            torch.testing.assert_close(weights(staged)[name] - start[name], share * moved, rtol=1e-3, atol=1e-7)


def test_in_a_file_a_long_epoch_tells_how_far_it_is(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("watchme.core.progress.LOG_EVERY", 0.0)
    trainer = make_trainer("train.epochs=3", "train.limit_batches=2")
    with caplog.at_level(logging.INFO):
        trainer.train_epoch(1)
    lines = [record.getMessage() for record in caplog.records]
    total = len(trainer.batches)
    assert len(lines) == total
    assert re.fullmatch(rf"epoch 1/3  batch 1/{total}  loss \d\.\d+  \d+ images/s  \d\d:\d\d left", lines[0]), lines
