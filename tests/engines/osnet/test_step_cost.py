"""What a training step asks of a GPU, counted on the CPU: no waits between steps, few kernels."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from watchme.core.errors import TrainingError
from watchme.engines.osnet import trainer as trainer_module
from watchme.engines.osnet.data.device_batches import DeviceBatch, to_device
from watchme.engines.osnet.data.loader import Batch
from watchme.engines.osnet.distributed import ProcessGroup
from watchme.engines.osnet.learner import Learner
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


class Launches(TorchDispatchMode):
    """Counts the kernels that operations would launch on a GPU, by name.

    Below autograd an operation launches one, but for views and allocations (none), the backward of a convolution (one
    for each gradient), and lists of tensors: as many tensors a launch as torch's MultiTensorApply.cuh packs. The real
    number differs by what a library adds, such as the layouts of cuDNN.
    """

    PACKED = (110, 64, 48, 36, 30)  # tensors a launch, by how many lists there are
    NOTHING = ("empty", "new_empty", "detach", "set_", "resize_", "item", "_local_scalar_dense", "lift_fresh")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        lists = [len(each) for each in args if isinstance(each, (list, tuple)) and each and torch.is_tensor(each[0])]
        if name.startswith(("_foreach", "_fused")):
            depth = len(lists) + (not name.endswith("_"))
            self.found[name] += math.ceil(lists[0] / self.PACKED[min(depth, 5) - 1])
        elif name == "convolution_backward":
            self.found[name] += sum(args[-1])
        elif func.namespace == "aten" and not func.is_view and not name.startswith(self.NOTHING):
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


# Of one step of the recipe at commit 140230e, counted in this way: the moving average's 567 tensors one by one, Adam in
# lists, each stream's gate and each batch normalisation's counter alone. torch's profiler recorded 19,111 events then.
BEFORE = {"fp32": 2184, "bf16": 2524}


@pytest.mark.parametrize("precision", BEFORE)
def test_a_step_of_reid_modern_launches_40_percent_fewer_kernels(
    precision: str, typed_config: Callable[..., Any]
) -> None:
    recipe = ("experiment=reid_modern", "model.pretrained=false", "dataset=demo_reid", "train.device=cpu")
    config = typed_config(*recipe, "train.batch_size=8", "dataset.height=64", "dataset.width=32")
    model = ReidNet(config.model.name, 50, bnneck=True)
    learner = Learner(config, model, CPU, precision, ProcessGroup())
    for group in learner.optimizer.param_groups:
        group["fused"] = True  # as on a GPU
    learner.start_epoch(None)
    loaded = Batch(torch.zeros(8, 64, 32, 3, dtype=torch.uint8), torch.arange(8) // 4, torch.arange(8))
    loaded = loaded._replace(erased=torch.zeros(8, 4, dtype=torch.int64))
    metrics = EpochMetrics([])

    def step() -> None:
        (batch,) = to_device([loaded], CPU, normalize=True, channels_last=learner.channels_last)
        learner.step(batch, metrics)

    step()  # makes the optimizer's state
    with Launches() as launches:
        step()
    count = sum(launches.found.values())
    print(f"\n{precision}: {count} kernels, {BEFORE[precision]} before; {launches.found.most_common(12)}")
    assert count <= 0.6 * BEFORE[precision]
    counters = {name: int(value) for name, value in learner.model.state_dict().items() if name.endswith("_tracked")}
    assert len(counters) > 50
    assert set(counters.values()) == {2}, "each batch normalisation has counted both steps"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_loss_that_is_not_finite_is_found_later_and_names_its_own_batch(precision: str) -> None:
    from watchme.engines.osnet.losses import LossParts

    metrics = EpochMetrics(["a.jpg", "b.jpg", "c.jpg", "d.jpg"], precision)
    nothing, logits = torch.tensor(torch.nan), torch.zeros(2, 3)
    for loss, indices in ((1.0, [0, 1]), (torch.inf, [1, 2]), (torch.nan, [3, 0])):
        parts = LossParts(torch.tensor(loss), nothing, nothing, nothing)
        metrics.add(parts, logits, torch.zeros(2, dtype=torch.int64), torch.tensor(indices))
    with pytest.raises(TrainingError, match=r"(?s)the loss is inf.*b\.jpg, c\.jpg$") as found:
        metrics.read()
    assert ("train.precision=fp32" in str(found.value)) == (precision != "fp32")


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    # Only CUDA has an error of its own.
    RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB). Tried to allocate 2.00 GiB on private pool."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 2.00 GiB"),
]


@pytest.mark.parametrize("error", FULL)
def test_out_of_memory_names_the_keys(error: RuntimeError, make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Learner, batch: DeviceBatch, *args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(Learner, "step", full)
    with pytest.raises(
        TrainingError, match=r"(?s)lower train\.batch_size=8.*precision=bf16.*allocate 2\.00 GiB"
    ) as found:
        make_trainer().run()
    assert "batch_size=-1" not in str(found.value), "which the CPU refuses"


@pytest.mark.parametrize(
    ("part", "advice"), [("Learner", "another train.device"), ("GpuCache", "use dataset.cache=ram")]
)
def test_a_device_that_is_full_before_the_first_step_is_explained(
    part: str, advice: str, make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise FULL[0]

    monkeypatch.setattr(trainer_module, part, full)
    monkeypatch.setattr(
        Trainer,
        "_gpu_cache",
        lambda self: trainer_module.GpuCache(self.dataset, CPU, normalize=True, channels_last=False),
    )
    with pytest.raises(TrainingError, match=advice):
        make_trainer("dataset.cache=gpu", "train.device=auto", "augmentation.color_jitter=0")
