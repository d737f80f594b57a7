"""Checkpoints of other people: whatever wraps the tensors of an OSNet, the same tensors are found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from watchme.core.errors import CheckpointError
from watchme.engines.osnet.initial_weights import load_weights
from watchme.engines.osnet.model import CLASSIFIER, ReidNet

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(1)
    backbone: nn.Module = ReidNet("osnet_x0_25", 5).backbone
    return backbone


def prefixed(prefix: str) -> Callable[[State], dict[str, Any]]:
    return lambda state: {prefix + name: value for name, value in state.items()}


def fast_reid(state: State) -> dict[str, Any]:
    """Its backbone has no embedding layer; heads and normalisation stand beside it."""
    body = {f"backbone.{name}": value for name, value in state.items() if not name.startswith(("fc.", CLASSIFIER))}
    heads = {"heads.bottleneck.0.weight": torch.ones(512), "heads.weight": torch.ones(9, 512)}
    return {"model": {**body, **heads, "pixel_mean": torch.zeros(1, 3, 1, 1)}, "iteration": 7}


LAYOUTS: dict[str, Callable[[State], dict[str, Any]]] = {
    "plain": dict,
    "torchreid, DataParallel": lambda state: {"state_dict": prefixed("module.")(state), "epoch": 3, "rank1": 0.5},
    "boxmot": prefixed("module."),
    "torch.compile": prefixed("_orig_mod."),
    "compiled within DDP": lambda state: {"model": prefixed("module._orig_mod.")(state)},
    "Lightning": lambda state: {"state_dict": prefixed("model.")(state), "hyper_parameters": {"lr": 1.0}},
    "net": lambda state: {"net": state, "acc": 0.1},
    "nested": lambda state: {"model": {"state_dict": prefixed("net.")(state)}},
    "timm's average alone": lambda state: {"state_dict_ema": state},
    "fast-reid": fast_reid,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_loads(layout: str, net: nn.Module, tmp_path: Path) -> None:
    own = net.state_dict()
    torch.save(LAYOUTS[layout](own), tmp_path / "w.pth")
    fresh = ReidNet("osnet_x0_25", 5).backbone
    before = fresh.state_dict()["fc.0.weight"].clone()
    match = load_weights(fresh, tmp_path / "w.pth", keep_classifier=False, min_matched=0.9)
    lost = {name for name in own if name.startswith("fc.")} if layout == "fast-reid" else set()
    assert set(match.missing) == lost
    for name, value in fresh.state_dict().items():
        if name not in lost and not name.startswith(CLASSIFIER):
            assert torch.equal(value, own[name]), name
    assert torch.equal(fresh.state_dict()["fc.0.weight"], before) == bool(lost)


def test_the_weights_are_taken_before_their_average(net: nn.Module, tmp_path: Path) -> None:
    own = net.state_dict()
    average = {name: torch.zeros_like(value) for name, value in own.items()}
    torch.save({"state_dict_ema": average, "state_dict": own}, tmp_path / "w.pth")
    fresh = ReidNet("osnet_x0_25", 5).backbone
    load_weights(fresh, tmp_path / "w.pth", keep_classifier=False, min_matched=1.0)
    assert torch.equal(fresh.state_dict()["conv1.conv.weight"], own["conv1.conv.weight"])


def test_an_unknown_wrapper_is_named_with_what_it_would_match(net: nn.Module, tmp_path: Path) -> None:
    own = net.state_dict()
    student = {name: value for name, value in own.items() if not name.startswith("conv5.")}
    torch.save({"teacher": prefixed("ours.body.")(own), "student": student, "step": 1}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"100% match under the key teacher behind the prefix ours\.body\.:"):
        load_weights(ReidNet("osnet_x0_25", 5).backbone, tmp_path / "w.pth", keep_classifier=False, min_matched=0.9)


def test_another_architecture_is_doubted_only_where_nothing_matches_better(net: nn.Module, tmp_path: Path) -> None:
    torch.save(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="Is model=<architecture> the one"):
        load_weights(ReidNet("osnet_x0_5", 5).backbone, tmp_path / "w.pth", keep_classifier=False, min_matched=0.9)
