"""Each option of the loop and of transfer learning, by its effect on a small loop's steps."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from watchme.core.errors import CheckpointError, ConfigError
from watchme.core.interfaces import EpochEvent
from watchme.core.seed import seed_everything
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import read_market
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.loader import Batch, Images, TrainSet
from watchme.engines.osnet.distributed import Team
from watchme.engines.osnet.initial_weights import freeze, load_weights, set_trainable
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.trainer import Loop

CPU = torch.device("cpu")
BASE = (
    "model=osnet_x0_25",
    "dataset.height=64",
    "dataset.width=32",
    "loss=softmax",
    "optimizer=sgd",
    "optimizer.lr=0.01",
    "optimizer.momentum=0",
    "optimizer.weight_decay=0",
    "train.batch_size=8",
    "train.sampler=random",
    "train.device=cpu",
    "train.epochs=2",
)
Make = Callable[..., Loop]


@pytest.fixture
def make(typed_config: Callable[..., Config], small_world: DemoWorld, tmp_path: Path) -> Make:
    """`make(*overrides)`: a loop with the same initial weights each time."""
    train = read_market(small_world.reid).train
    classes = {pid: place for place, pid in enumerate(sorted({crop.pid for crop in train}))}

    def build(*overrides: str, patterns: tuple[str, ...] = (), precision: str = "fp32", **options: Any) -> Loop:
        config = typed_config(*BASE, *overrides)
        seed_everything(0, deterministic=True)
        model = ReidNet(config.model.name, len(classes), bnneck=config.model.bnneck)
        freeze(model.backbone, patterns)
        images = Images(train, (config.dataset.height, config.dataset.width), "ram")
        dataset = TrainSet(images, classes, config.augmentation)
        evaluate, emit = options.get("evaluate"), options.get("emit", lambda event: None)
        loop = Loop(config, model, dataset, evaluate, emit, tmp_path / "weights", CPU, precision, Team())
        loop.model.train()
        set_trainable(loop.plain, loop.frozen, None)
        for group in loop.optimizer.optimizer.param_groups:
            group["lr"] = config.optimizer.lr
        return loop

    return build


def batches(loop: Loop, count: int) -> list[Batch]:
    return [loop.dataset.__getitems__(draws) for draws, _ in zip(loop.batches, range(count), strict=False)]


def weights(loop: Loop) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in loop.plain.state_dict().items()}


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6, msg=name)


class TestSteps:
    def test_accumulated_batches_step_as_one_large_batch(self, make: Make) -> None:
        """With batch normalisation frozen, as its statistics are a batch's own."""
        patterns = ("*bn*", "fc.1.*")
        small = make("train.accumulate=2", patterns=patterns)
        large = make("train.batch_size=16", patterns=patterns)
        first, second = batches(small, 2)
        small._step(first, step=False, summed=2)
        assert_close(weights(small), weights(large))  # nothing has moved yet
        small._step(second, step=True, summed=2)
        both = first._replace(
            images=torch.cat((first.images, second.images)), labels=torch.cat((first.labels, second.labels))
        )
        large._step(both, step=True)
        assert_close(weights(small), weights(large))

    def test_a_last_sum_of_fewer_batches_is_their_mean(self, make: Make) -> None:
        """More batches wanted than an epoch has: one step, by the mean of what there is."""
        patterns = ("*bn*", "fc.1.*")
        loop = make("train.accumulate=100", patterns=patterns)
        reference = make(patterns=patterns)
        everything = batches(loop, 100)
        start = weights(reference)
        losses = []
        for batch in everything:
            logits = reference.plain(batch.images)[0]
            losses.append(nn.functional.cross_entropy(logits, batch.labels, label_smoothing=0.1))
        torch.autograd.backward(torch.stack(losses).mean())
        loop._epoch(1)
        rate = loop.optimizer.optimizer.param_groups[0]["lr"]
        assert loop.steps == 1
        for name, value in reference.plain.named_parameters():
            expected = start[name] if value.grad is None else start[name] - rate * value.grad
            torch.testing.assert_close(weights(loop)[name], expected, rtol=1e-4, atol=1e-6, msg=name)

    def test_moving_average_is_that_of_a_naive_loop(self, make: Make) -> None:
        """Its decay rises to the one asked for: min(decay, (1 + t) / (10 + t))."""
        loop = make("train.ema_decay=0.2")
        average = weights(loop)
        for number, batch in enumerate(batches(loop, 3), start=1):
            loop._step(batch, step=True)
            decay = min(0.2, (1 + number) / (10 + number))
            for name, value in weights(loop).items():
                if value.dtype.is_floating_point:
                    average[name] = decay * average[name] + (1 - decay) * value
                else:
                    average[name] = value
        assert loop.ema is not None
        assert loop.evaluated is loop.ema
        assert_close(dict(loop.ema.state_dict()), average)
        assert not torch.equal(average["backbone.classifier.weight"], weights(loop)["backbone.classifier.weight"])

    @pytest.mark.parametrize("loss", ["softmax", "arcface"])
    def test_gradients_are_clipped_to_the_norm_asked_for(self, loss: str, make: Make) -> None:
        """Those of a loss's own parameters with them."""
        loop = make(f"loss={loss}", "train.clip_grad_norm=0.01", "optimizer.lr=1")
        learning = [*loop.plain.parameters(), *loop.criterion.parameters()]
        before = [value.detach().clone() for value in learning]
        loop._step(batches(loop, 1)[0], step=True)
        moved = torch.stack([(value.detach() - old).norm() for value, old in zip(learning, before, strict=True)]).norm()
        assert float(moved) == pytest.approx(0.01, rel=1e-2)

    def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32(self, make: Make) -> None:
        seen: list[torch.dtype] = []
        loop = make(precision="bf16")
        loop.plain.backbone.conv1.conv.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
        loop._step(batches(loop, 1)[0], step=True)
        assert seen == [torch.bfloat16]
        assert {value.dtype for value in loop.plain.parameters()} == {torch.float32}

    @pytest.mark.parametrize("wanted", [True, False])
    def test_channels_last_is_the_layout_of_weights_and_images(self, wanted: bool, make: Make) -> None:
        layouts: list[bool] = []
        loop = make(f"train.channels_last={str(wanted).lower()}")
        kernel = loop.plain.backbone.conv1.conv.weight
        assert kernel.is_contiguous(memory_format=torch.channels_last) == wanted
        loop.plain.backbone.conv1.register_forward_pre_hook(
            lambda _, inputs: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
        loop._step(batches(loop, 1)[0], step=True)
        assert layouts == [wanted]

    def test_compile_trains_what_torch_compile_returns(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """Compiling itself takes minutes."""
        passes: list[int] = []

        class Compiled(nn.Module):
            def __init__(self, model: nn.Module) -> None:
                super().__init__()
                self.model = model

            def forward(self, images: torch.Tensor) -> Any:
                passes.append(len(images))
                return self.model(images)

        monkeypatch.setattr(torch, "compile", Compiled)
        loop = make("train.compile=true")
        loop._step(batches(loop, 1)[0], step=True)
        assert passes == [8]

    def test_bnneck_lies_between_embedding_and_classifier(self, make: Make) -> None:
        loop = make("model.bnneck=true", "loss=reid", "train.sampler=identity")
        assert loop.plain.neck is not None
        scale = loop.plain.neck.weight.detach().clone()
        loop._step(batches(loop, 1)[0], step=True)
        assert not torch.equal(loop.plain.neck.weight, scale)
        assert not loop.plain.neck.bias.any()
        net = loop.plain.eval()
        images = batches(loop, 1)[0].images
        logits, embeddings, neck = net(images)
        torch.testing.assert_close(neck, net.neck(embeddings))  # type: ignore[misc]
        torch.testing.assert_close(logits, net.backbone.classifier(neck))
        torch.testing.assert_close(net.embed(images), embeddings)


class TestEpochs:
    def test_validates_every_so_many_epochs_and_after_the_last(self, make: Make) -> None:
        events: list[EpochEvent] = []
        asked: list[int] = []

        def evaluate(model: nn.Module, epoch: int) -> dict[str, float]:
            asked.append(epoch)
            return {"val/map": 0.5}

        make("train.epochs=5", "train.eval_every=2", "train.batch_size=64", evaluate=evaluate, emit=events.append).run()
        assert asked == [0, 2, 4, 5]
        assert [event.epoch for event in events if "val/map" in event.metrics] == asked
        assert [event.epoch for event in events] == [0, 1, 2, 3, 4, 5]

    def test_log_every_tells_of_batches(self, make: Make, caplog: pytest.LogCaptureFixture) -> None:
        loop = make("train.log_every=2")
        with caplog.at_level(logging.INFO):
            loop._epoch(1)
        lines = [text for text in caplog.messages if "batch" in text]
        assert [text.split("batch ")[1].split("/")[0] for text in lines] == [
            str(number) for number in range(2, len(loop.batches) + 1, 2)
        ]
        caplog.clear()
        with caplog.at_level(logging.INFO):
            make()._epoch(1)
        assert not caplog.messages

    def test_warm_up_and_schedule_set_the_rate_of_the_optimizer(self, make: Make) -> None:
        loop = make("scheduler=single_step", "scheduler.step_size=1", "scheduler.warmup_epochs=1")
        first, second = (loop._epoch(epoch)[0]["train/lr"] for epoch in (1, 2))
        assert first == pytest.approx(0.01)  # warm-up has ended with the epoch
        assert second == pytest.approx(0.001)

    def test_fixed_base_learns_from_the_epoch_after(self, make: Make) -> None:
        loop = make("train.fixbase_epochs=1", "train.open_layers=[classifier,fc]")
        start = weights(loop)
        loop._epoch(1)
        moved = {name.split(".")[1] for name, value in weights(loop).items() if not torch.equal(value, start[name])}
        assert moved == {"classifier", "fc"}
        loop._epoch(2)
        assert not torch.equal(weights(loop)["backbone.conv1.conv.weight"], start["backbone.conv1.conv.weight"])

    def test_new_layers_take_the_larger_steps(self, make: Make) -> None:
        plain, staged = make(), make("train.new_layers=[classifier]", "train.base_lr_mult=0.5")
        start = weights(plain)
        for loop in (plain, staged):
            seed_everything(0, deterministic=True)
            rate = loop.config.optimizer.lr
            for group in loop.optimizer.optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            loop._step(batches(loop, 1)[0], step=True)
        for name, share in (("backbone.classifier.weight", 1.0), ("backbone.conv1.conv.weight", 0.5)):
            step = weights(plain)[name] - start[name]
            torch.testing.assert_close(weights(staged)[name] - start[name], share * step, rtol=1e-3, atol=1e-7)


class TestTransfer:
    def test_frozen_patterns_do_not_move_nor_do_their_statistics(self, make: Make) -> None:
        loop = make(patterns=("conv1*", "conv2*"))
        start = weights(loop)
        loop._step(batches(loop, 1)[0], step=True)
        moved = {name.split(".")[1] for name, value in weights(loop).items() if not torch.equal(value, start[name])}
        assert moved == {"conv3", "conv4", "conv5", "fc", "classifier"}

    @pytest.mark.parametrize(
        ("patterns", "message"),
        [(("conv9*",), "matches no parameter; the model has conv1"), (("*",), "nothing to train")],
    )
    def test_patterns_that_make_no_sense_are_refused(self, patterns: tuple[str, ...], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            freeze(ReidNet("osnet_x0_25", 5).backbone, patterns)

    @pytest.mark.parametrize(("classes", "keep"), [(5, True), (5, False), (9, True)])
    def test_classifier_is_kept_only_where_asked_for_and_of_the_same_size(
        self, classes: int, keep: bool, tmp_path: Path
    ) -> None:
        source, net = ReidNet("osnet_x0_25", 5).backbone, ReidNet("osnet_x0_25", classes).backbone
        torch.save(source.state_dict(), tmp_path / "w.pth")
        fresh = copy.deepcopy(net.state_dict())
        match = load_weights(net, tmp_path / "w.pth", keep_classifier=keep, min_matched=1.0)
        kept = keep and classes == 5
        wanted = source.state_dict() if kept else fresh
        assert torch.equal(net.state_dict()["classifier.weight"], wanted["classifier.weight"])
        assert torch.equal(net.state_dict()["conv1.conv.weight"], source.state_dict()["conv1.conv.weight"])
        told = {"kept": "", "dropped": "2 tensors classifier, dropped", "other": "2 tensors other shape, not loaded"}
        assert told["kept" if kept else "other" if keep else "dropped"] in match.table()

    def test_table_tells_what_became_of_each_tensor_and_too_few_end_the_run(self, tmp_path: Path) -> None:
        source = ReidNet("osnet_x0_25", 5).backbone.state_dict()
        state = {name: value for name, value in source.items() if not name.startswith("conv5")}
        state["fc.0.weight"] = torch.zeros(3, 3)
        state["extra.weight"] = torch.zeros(1)
        torch.save({"state_dict": state}, tmp_path / "w.pth")
        net = ReidNet("osnet_x0_25", 7).backbone
        match = load_weights(net, tmp_path / "w.pth", keep_classifier=False, min_matched=0.5)
        missing = [name for name in source if name.startswith("conv5")]
        assert (match.missing, match.unknown, match.other_shape) == (missing, ["extra.weight"], ["fc.0.weight"])
        body = sum(not name.startswith("classifier") for name in source)
        assert len(match.loaded) == body - len(missing) - 1
        for text in (f"{len(match.loaded)} tensors loaded", "not in the model: extra.weight", "kept as initialised"):
            assert text in match.table()
        share = len(match.loaded) / body
        with pytest.raises(CheckpointError, match=rf"{share:.0%} of its tensors match.*model\.min_matched"):
            load_weights(net, tmp_path / "w.pth", keep_classifier=False, min_matched=share + 0.001)
