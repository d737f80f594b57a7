"""Initial weights: frozen layers, and checkpoints of other classifiers and architectures."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from watchme.core.errors import CheckpointError, ConfigError
from watchme.engines.osnet.initial_weights import freeze, load_weights
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.trainer import Trainer

from .test_trainer import batches, step, weights


class TestTransfer:
    def test_frozen_patterns_do_not_move_nor_do_their_statistics(self, make_trainer: Callable[..., Trainer]) -> None:
        trainer = make_trainer(patterns=("conv1*", "conv2*"))
        start = weights(trainer)
        step(trainer, batches(trainer, 1)[0])
        moved = {name.split(".")[1] for name, value in weights(trainer).items() if not torch.equal(value, start[name])}
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
        told = {"kept": "", "dropped": "2 tensors classifier, dropped", "other": "2 tensors other shape or type"}
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

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_of_a_training_that_diverged_are_refused(self, value: float, tmp_path: Path) -> None:
        state = ReidNet("osnet_x0_25", 5).backbone.state_dict()
        state["conv1.conv.weight"][0, 0, 0, 0] = value
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(CheckpointError, match=r"w.pth holds NaN or infinity in conv1.conv.weight: the training"):
            load_weights(ReidNet("osnet_x0_25", 5).backbone, tmp_path / "w.pth", keep_classifier=False, min_matched=0.9)

    @pytest.mark.parametrize("kind", ["codes", "no values"])
    def test_tensors_without_their_values_are_not_loaded(self, kind: str, tmp_path: Path) -> None:
        """Codes of a quantised model were taken for weights."""
        state = ReidNet("osnet_x0_25", 5).backbone.state_dict()
        spoilt = {
            name: (value * 10).to(torch.int8) if kind == "codes" else value.to("meta") for name, value in state.items()
        }
        torch.save(spoilt, tmp_path / "w.pth")
        with pytest.raises(CheckpointError, match=r"does not fit the model: .*\n(.*\n)*.*other shape or type"):
            load_weights(ReidNet("osnet_x0_25", 5).backbone, tmp_path / "w.pth", keep_classifier=False, min_matched=0.9)
