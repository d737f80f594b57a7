"""torch.compile and several GPUs' batch normalisation, as far as a CPU can show."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from watchme.core.errors import ConfigError
from watchme.data.demo import DemoWorld
from watchme.engines.osnet import trainer as trainer_module
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.losses import ReidCriterion
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.trainer import Trainer

Make = Callable[..., Trainer]
Typed = Callable[..., Config]
TINY = (
    "model=osnet_x0_25",
    "dataset=market1501",
    "model.weights=null",
    "dataset.height=64",
    "dataset.width=32",
    "dataset.val_identities=3",
    "train.workers=0",
    "evaluation.visrank=0",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["osnet_ain_x1_0", "osnet_ibn_x1_0"])
def test_the_other_kinds_of_model_are_one_graph(name: str) -> None:
    """torch.compile finds no break in them, in training or evaluation."""
    torch._dynamo.reset()
    model = ReidNet(name, 5, bnneck=True)
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    for training in (True, False):
        logits, _, _ = compiled.train(training)(torch.rand(4, 3, 64, 32))
        assert logits.shape == (4, 5)


# The losses of pytorch-metric-learning (circle, arcface, cosface) look for pairs by `nonzero`, which breaks a graph.
@pytest.mark.parametrize(
    "loss", ["reid", *(pytest.param(name, marks=pytest.mark.slow) for name in ("triplet", "softmax", "center"))]
)
def test_model_and_loss_of_a_step_are_one_graph(loss: str, typed_config: Typed) -> None:
    config = typed_config("model=osnet_x0_25", f"loss={loss}", "train.sampler=identity")
    torch.manual_seed(0)
    model = ReidNet("osnet_x0_25", 5, bnneck=True).train()
    criterion = ReidCriterion(config.loss, 5, model.feature_dim)
    images, labels = torch.rand(8, 3, 64, 32), torch.arange(8) // 2
    state = {**model.state_dict(), **criterion.state_dict()}
    kept = {name: value.clone() for name, value in state.items()}

    def step(work: Callable[..., torch.Tensor]) -> torch.Tensor:
        for name, value in state.items():
            value.copy_(kept[name])
        model.zero_grad()
        loss = work(images)
        torch.autograd.backward(loss)
        return loss.detach()

    def forward(images: torch.Tensor) -> torch.Tensor:
        return criterion(*model(images), labels).loss  # type: ignore[no-any-return]

    results = []
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    for work in (forward, torch.compile(forward, backend=counter, fullgraph=True)):
        found = step(work)
        results.append((found, [None if each.grad is None else each.grad.clone() for each in model.parameters()]))
    assert counter.frame_count == 1
    (expected, their_gradients), (found, our_gradients) = results
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(our_gradients, their_gradients)


def test_evaluation_is_compiled_where_training_is_told_to_be(
    run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one graph for one size of batch, and with the same metrics."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile
    asked: list[dict[str, Any]] = []

    def compile_eagerly(function: Any, **options: Any) -> Any:
        asked.append(options)
        return compiled(function, backend=counter, fullgraph=True, dynamic=options["dynamic"])

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    # A size that leaves an incomplete last batch of queries and of gallery.
    more = ("mode=evaluate", "checkpoint=random", "evaluation.batch_size=7", "evaluation.flip_test=true")
    options = (*TINY, f"dataset.root={small_world.reid}", *more)
    eager = run_engine(tmp_path / "eager", *options)
    assert not asked
    found = run_engine(tmp_path / "compiled", *options, "train.compile=default")
    assert asked == [{"dynamic": False}]
    assert counter.frame_count == 1
    assert found.result.metrics == pytest.approx(dict(eager.result.metrics), abs=1e-6)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("train.accumulate=2",), "train.accumulate"),
        (("train.device=[0,1]",), "train.device"),
        (("train.device=cpu",), "train.device"),
        (("train.device=mps",), "train.device"),
        (("train.processes=2",), "train.processes"),
        (("train.detect_anomaly=true",), "train.detect_anomaly"),
        (("dataset.tracklets=true", "dataset.sample_method=all"), "dataset.sample_method=all"),
        (("train.device=0",), None),
    ],
)
def test_graphs_that_cannot_be_are_refused_before_torch(
    overrides: tuple[str, ...], key: str | None, typed_config: Typed
) -> None:
    options = ("model=osnet_x0_25", "train.compile=cudagraphs", *overrides)
    if key is None:
        assert typed_config(*options).train.compile == "cudagraphs"
        return
    with pytest.raises(ConfigError) as caught:
        typed_config(*options)
    (expected,) = [each.expected for each in caught.value.problems if each.key == "train.compile"]
    assert f"which {key} forbids" in expected


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        ((), 2),
        (("train.batch_size=512", "train.sampler=random", "loss=softmax"), 0),
        (("train.accumulate=2",), 0),
        (("dataset.tracklets=true", "dataset.sample_method=all"), 0),
    ],
)
def test_auto_counts_the_steps_that_cuda_graphs_can_take(
    overrides: tuple[str, ...], steps: int, make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []

    def choose(wanted: object, device: torch.device, steps: int) -> None:
        counted.append((wanted, steps))

    monkeypatch.setattr(trainer_module, "choose_compile_mode", choose)
    trainer = make_trainer(*overrides)
    assert counted == [("auto", steps * len(trainer.batches))]  # 2 epochs


class TestSynchronisedBatchNorm:
    """torch's SyncBatchNorm computes between GPUs only, so that here the conversion is looked at."""

    def test_every_layer_is_converted_and_the_names_stay(self, make_trainer: Make) -> None:
        options = ("model.bnneck=true", "train.ema_decay=0.9")
        plain = make_trainer(*options).learner
        learner = make_trainer(*options, "train.sync_bn=true", "train.device=[0,1]").learner
        kinds = [
            type(layer)
            for net in (learner.model, learner.evaluated)
            for layer in net.modules()
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
        ]
        assert len(kinds) > 50
        assert set(kinds) == {torch.nn.SyncBatchNorm}
        states = learner.model.state_dict(), plain.model.state_dict()
        torch.testing.assert_close(*(dict(state) for state in states), rtol=0, atol=0)
        # Learned by the optimizer, under names that torchreid and the backend know.
        optimised = {id(each) for group in learner.optimizer.param_groups for each in group["params"]}
        assert {id(each) for each in learner.model.parameters()} == optimised
        images = torch.rand(4, 3, 64, 32)
        with torch.no_grad():
            torch.testing.assert_close(
                learner.evaluated.eval().embed(images), plain.evaluated.eval().embed(images), rtol=0, atol=1e-6
            )

    def test_a_validation_that_adapts_is_refused(self, typed_config: Typed) -> None:
        """The leader alone would wait for the others in each layer."""
        adapts = ("dataset.val_identities=0", "dataset.select_on_test=true", "dataset.load_train_targets=true")
        with pytest.raises(ConfigError) as caught:
            typed_config("model=osnet_x0_25", "train.device=[0,1]", "train.sync_bn=true", "objective=test/map", *adapts)
        assert ["one process alone" in each.expected for each in caught.value.problems if "sync_bn" in each.key] == [
            True
        ]

    def test_a_run_that_ends_up_on_the_cpu_is_refused(
        self, run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        options = (*TINY, f"dataset.root={small_world.reid}", "train.processes=2", "train.sync_bn=true")
        with pytest.raises(ConfigError, match=r"(?s)train\.sync_bn.*between GPUs only, and this run is on cpu"):
            run_engine(tmp_path / "run", *options)
