"""Metric losses against pytorch-metric-learning called directly; their parameters through training and resume."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from pytorch_metric_learning import losses as theirs
from torchreid.reid import losses as torchreids

from osnet.tiny import TINY
from watchme.core.interfaces import EpochEvent, Stop
from watchme.data.demo import DemoWorld
from watchme.engines.osnet.config import Config, ReidLoss
from watchme.engines.osnet.losses import CenterLoss, LossParts, ReidCriterion, batch_hard_triplet

CLASSES, DIM = 8, 16
LABELS = torch.arange(CLASSES).repeat_interleave(4)
REFERENCES: dict[str, Callable[[], Any]] = {
    "circle": lambda: theirs.CircleLoss(m=0.25, gamma=128),
    "arcface": lambda: theirs.ArcFaceLoss(CLASSES, DIM, margin=28.64788975654116, scale=64),
    "cosface": lambda: theirs.CosFaceLoss(CLASSES, DIM, margin=0.35, scale=64),
}


@pytest.fixture
def criterion(typed_config: Callable[..., Config]) -> Callable[..., ReidCriterion]:
    def build(*overrides: str) -> ReidCriterion:
        config: ReidLoss = typed_config("model=osnet_x0_25", "train.sampler=identity", *overrides).loss
        torch.manual_seed(0)
        return ReidCriterion(config, CLASSES, DIM)

    return build


@pytest.fixture
def batch() -> tuple[torch.Tensor, ...]:
    """Logits, embeddings, embeddings after a neck, class indices."""
    torch.manual_seed(1)
    parts = torch.randn(32, CLASSES), torch.randn(32, DIM), torch.randn(32, DIM)
    return (*(part.requires_grad_() for part in parts), LABELS)


@pytest.mark.parametrize("name", REFERENCES)
def test_value_and_gradient_are_the_librarys(
    name: str, criterion: Callable[..., ReidCriterion], batch: tuple[torch.Tensor, ...]
) -> None:
    ours, reference = criterion(f"loss={name}", "loss.weight_x=0", "loss.weight_m=0.5"), REFERENCES[name]()
    reference.load_state_dict(cast(Any, ours.metric).state_dict())
    # Pairs are made of what is compared; a head of its own classifies what the classifier sees.
    features = batch[1] if name == "circle" else batch[2]
    parts: LossParts = ours(*batch)
    expected = reference(features, LABELS)
    torch.testing.assert_close(parts.metric, expected.detach())
    (gradient,), (wanted,) = (torch.autograd.grad(loss, features) for loss in (parts.loss, 0.5 * expected))
    torch.testing.assert_close(gradient, wanted)
    assert parts.softmax.isnan()
    assert parts.triplet.isnan()


def test_losses_add_up_with_their_weights(
    criterion: Callable[..., ReidCriterion], batch: tuple[torch.Tensor, ...]
) -> None:
    ours = criterion("loss=circle", "loss.weight_x=2", "loss.weight_t=3", "loss.weight_m=0.5")
    parts: LossParts = ours(*batch)
    softmax = torch.nn.functional.cross_entropy(batch[0], LABELS, label_smoothing=0.1)
    triplet = batch_hard_triplet(batch[1], LABELS, 0.3)
    expected = 2 * softmax + 3 * triplet + 0.5 * REFERENCES["circle"]()(batch[1], LABELS)
    torch.testing.assert_close(parts.loss, expected)


@pytest.mark.parametrize("name", ["circle", "arcface", "cosface", "center", "reid"])
def test_half_precision_outputs_are_computed_in_float32(
    name: str, criterion: Callable[..., ReidCriterion], batch: tuple[torch.Tensor, ...]
) -> None:
    half = [part.detach().bfloat16() for part in batch[:3]]
    exact = criterion(f"loss={name}")(*(part.float() for part in half), LABELS)
    torch.testing.assert_close(criterion(f"loss={name}")(*half, LABELS).loss, exact.loss)


def test_center_loss_and_its_centers_follow_wen_et_al(
    criterion: Callable[..., ReidCriterion], batch: tuple[torch.Tensor, ...]
) -> None:
    """Equations 2 and 4 of the paper, by a loop; identity 7 is not in the batch, and its center stays."""
    ours = criterion("loss=center")
    assert isinstance(ours.metric, CenterLoss)
    centers = torch.randn(CLASSES, DIM)
    ours.metric.centers.copy_(centers)
    logits, embeddings, neck, labels = (part[:28] for part in batch)
    parts: LossParts = ours(logits, embeddings, neck, labels)
    rows = list(zip(embeddings.detach(), labels.tolist(), strict=True))
    expected = sum(0.5 * float((row - centers[label]).pow(2).sum()) for row, label in rows) / len(rows)
    assert float(parts.metric) == pytest.approx(expected, rel=1e-5)
    for identity in range(CLASSES):
        mine = [row for row, label in rows if label == identity]
        away = sum((centers[identity] - row for row in mine), torch.zeros(DIM)) / (1 + len(mine))
        torch.testing.assert_close(ours.metric.centers[identity], centers[identity] - 0.5 * away)
    moved = ours.metric.centers.clone()
    ours.eval()(logits, embeddings, neck, labels)
    assert torch.equal(ours.metric.centers, moved)


SHORT = (*TINY, "train.epochs=2", "optimizer.lr=0.001")


class KilledError(BaseException):
    """Stands for the kill: nothing in the engine handles it."""


@pytest.mark.parametrize(("name", "what"), [("arcface", "metric.W"), ("center", "metric.centers")])
def test_what_a_loss_learns_moves_is_saved_and_resumed_bit_for_bit(
    name: str, what: str, run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path
) -> None:
    options = (*SHORT, f"dataset.root={small_world.reid}", f"loss={name}", "train.clip_grad_norm=5", "train.seed=3")

    def training(folder: Path) -> Any:
        return torch.load(folder / "weights" / "last.pt", weights_only=True)["training"]

    whole = run_engine(tmp_path / "whole", *options)
    assert whole.events[-1].metrics[f"train/{name}_loss"] > 0

    def kill(event: EpochEvent) -> Stop | None:
        if event.epoch == 2:
            raise KilledError
        return None

    with pytest.raises(KilledError):
        run_engine(tmp_path / "cut", *options, emit=kill)
    early = training(tmp_path / "cut")["criterion"][what]
    run_engine(tmp_path / "cut", *options, f"train.resume={tmp_path}/cut")
    ours, reference = training(tmp_path / "cut"), training(tmp_path / "whole")
    assert not torch.equal(early, reference["criterion"][what])
    assert torch.equal(ours["criterion"][what], reference["criterion"][what])
    for key, value in reference["model"].items():
        assert torch.equal(ours["model"][key], value), key
    if name == "arcface":  # in the optimizer: a group of its own, with moments
        assert len(reference["optimizer"]["param_groups"]) == 2
        (place,) = reference["optimizer"]["param_groups"][1]["params"]
        assert torch.equal(
            ours["optimizer"]["state"][place]["exp_avg"], reference["optimizer"]["state"][place]["exp_avg"]
        )


class TestAgainstTorchreid:
    @pytest.mark.parametrize("margin", [0.0, 0.3, 5.0])
    def test_triplet_equals_torchreids(self, margin: float) -> None:
        torch.manual_seed(0)
        embeddings = torch.randn(32, 16, requires_grad=True)
        labels = torch.arange(8).repeat_interleave(4)
        ours = batch_hard_triplet(embeddings, labels, margin)
        (gradient,) = torch.autograd.grad(ours, embeddings)
        reference = torchreids.TripletLoss(margin)(embeddings, labels)
        (expected,) = torch.autograd.grad(reference, embeddings)
        torch.testing.assert_close(ours, reference)
        torch.testing.assert_close(gradient, expected)

    def test_label_smoothing_equals_torchreids(self) -> None:
        logits, labels = torch.randn(16, 10), torch.randint(0, 10, (16,))
        reference = torchreids.CrossEntropyLoss(10, use_gpu=False, label_smooth=True)(logits, labels)
        ours = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
        torch.testing.assert_close(ours, reference)
