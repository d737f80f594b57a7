"""Several gloo processes on the CPU against one process with the same global batch."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from osnet.tiny import TINY
from watchme.core import device as runtime
from watchme.core.errors import ConfigError
from watchme.data.demo import DemoWorld
from watchme.engines.osnet.ddp_processes import spawn_followers
from watchme.engines.osnet.distributed import ProcessGroup, joined_group, open_store

CPU = torch.device("cpu")


def _exchange(group: ProcessGroup, device: torch.device) -> None:
    """The follower's part in `test_exchanges`."""
    group.sum(torch.tensor([1.0 * group.rank], dtype=torch.float64))
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, 5.0])
    group.average_gradients([parameter])
    group.gather(torch.full((2, 1), float(group.rank)))
    assert group.broadcast("own") == "leader's"


def test_one_device_starts_no_process() -> None:
    with spawn_followers([CPU], _exchange) as group:
        assert (group.rank, group.size, group.is_leader) == (0, 1, True)
        assert group.broadcast("said") == "said"


def test_exchanges() -> None:
    """Sum, mean of gradients, gather with the gradient of one's own part, broadcast."""
    own = torch.full((2, 1), 5.0, requires_grad=True)
    with spawn_followers([CPU, CPU], _exchange) as group:
        assert group.sum(torch.tensor([2.0], dtype=torch.float64)).tolist() == [3.0]
        parameter = torch.nn.Parameter(torch.zeros(2))
        parameter.grad = torch.tensor([3.0, 1.0])
        group.average_gradients([parameter])
        assert parameter.grad.tolist() == [2.0, 3.0]
        everyone = group.gather(own)
        assert everyone.flatten().tolist() == [5.0, 5.0, 1.0, 1.0]
        torch.autograd.backward(everyone.sum())
        assert group.broadcast("leader's") == "leader's"
    assert own.grad is not None
    # Times the number of processes, as DistributedDataParallel takes the mean.
    assert own.grad.flatten().tolist() == [2.0, 2.0]
    assert not torch.distributed.is_initialized()
    assert "WORLD_SIZE" not in os.environ


def test_who_waits_for_the_leader_waits_apart_from_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a socket, and as long as an evaluation takes; an exchange of a step that NCCL never ends, ends in minutes."""
    limits: list[timedelta] = []
    used: list[object] = []
    for name in ("init_process_group", "new_group"):
        real = getattr(dist, name)

        def noted(*args: Any, real: Callable[..., Any] = real, **options: Any) -> Any:
            limits.append(options["timeout"])
            return real(*args, **options)

        monkeypatch.setattr(dist, name, noted)
    store = open_store()
    with joined_group(0, 1, CPU, store.port, 1) as alone:
        for name in ("broadcast_object_list", "all_gather", "all_reduce"):
            monkeypatch.setattr(dist, name, lambda *_, group=None, **options: used.append(group))
        two, parameter = ProcessGroup(0, 2, alone.control), torch.nn.Parameter(torch.zeros(1))
        parameter.grad = torch.zeros(1)
        two.broadcast("said")
        two.sum(torch.zeros(1, dtype=torch.float64))
        two.gather(torch.zeros(1))
        two.average_gradients([parameter])
    assert alone.control is not None
    assert used == [alone.control, alone.control, None, None]
    step, control = limits
    assert step <= timedelta(minutes=30)
    assert control >= timedelta(days=1)


SHORT = (
    *TINY,
    "train.epochs=2",
    "train.device=cpu",
    "train.precision=fp32",
    # Each process normalises by its own share of a batch, as DDP does everywhere; frozen, the two must agree.
    "model.freeze=['*bn*','fc.1.*']",
    "optimizer=sgd",
    "optimizer.lr=0.01",
)
# The order of a sum is another one, which the circle loss multiplies on some processors (3e-5 on a Zen 4).
ATOL = 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["reid", "triplet", "softmax", "circle", "arcface", "center"])
def test_two_processes_train_as_one_does(
    loss: str, run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path
) -> None:
    options = (*SHORT, f"dataset.root={small_world.reid}", f"loss={loss}", "train.accumulate=2")
    one = run_engine(tmp_path / "one", *options)
    two = run_engine(tmp_path / "two", *options, "train.processes=2")
    assert [event.epoch for event in two.events] == [0, 1, 2]
    for left, right in zip(one.events, two.events, strict=True):
        assert right.metrics == pytest.approx(dict(left.metrics), rel=1e-4, abs=1e-4)
    states = [torch.load(done.folder / "weights" / "last.pt", weights_only=True)["state_dict"] for done in (one, two)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=ATOL, msg=name)
    trained = [
        torch.load(done.folder / "weights" / "last.pt", weights_only=True)["training"]["criterion"]
        for done in (one, two)
    ]
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, rtol=1e-3, atol=ATOL, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler",
    [
        ("loss=softmax", "train.sampler=random"),
        ("loss=softmax", "train.sampler=domain", "train.num_cams=2"),
        ("loss=softmax", "train.sampler=dataset", "train.num_datasets=2"),
        ("loss=reid", "dataset.tracklets=true", "dataset.seq_len=2", "dataset.sample_method=random"),
        ("loss=reid", "dataset.k_tfm=2"),
    ],
    ids=["random", "domain", "dataset", "tracklets", "views"],
)
def test_two_processes_draw_as_one_does(
    sampler: tuple[str, ...], run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path
) -> None:
    options = (*SHORT, f"dataset.root={small_world.reid}", "train.epochs=1", *sampler)
    if "train.sampler=dataset" in sampler:
        again = tmp_path / "again"
        again.symlink_to(small_world.reid)
        options = (*options, "dataset=several", "dataset.sources=[market1501,again]", "dataset.targets=[market1501]")
        options = (*options, f"+dataset.roots.again={again}")
    one = run_engine(tmp_path / "one", *options)
    two = run_engine(tmp_path / "two", *options, "train.processes=2")
    assert two.events[-1].metrics == pytest.approx(dict(one.events[-1].metrics), rel=1e-4, abs=1e-4)
    states = [torch.load(done.folder / "weights" / "last.pt", weights_only=True)["state_dict"] for done in (one, two)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=ATOL, msg=name)


class TestDevices:
    def test_cpu_is_shared(self) -> None:
        assert runtime.choose_devices("cpu", 3) == [CPU] * 3
        assert runtime.choose_devices("cpu", None) == [CPU]

    @pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of a machine without CUDA")
    def test_gpus_that_are_not_there_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="no CUDA device that torch can use; use auto or cpu"):
            runtime.choose_devices([0, 1], None)

    def test_more_processes_than_gpus_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runtime, "choose_device", lambda wanted, fallback=None: torch.device("cuda"))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        with pytest.raises(ConfigError, match=r"(?s)train\.processes = 4.*this\s+machine\s+has\s+1"):
            runtime.choose_devices("auto", 4)

    def test_fp16_is_refused_on_a_cpu(self) -> None:
        for key in ("train.precision", "evaluation.precision"):
            with pytest.raises(ConfigError, match=rf"(?s){key}.*fp16 needs a GPU"):
                runtime.choose_precision("fp16", CPU, key)


def test_a_port_that_torch_cannot_find_again_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It remembers the ports of stores that are closed; one that is given again was "address already in use"."""
    asked: list[int] = []

    class Store:
        def __init__(self, host: str, port: int, **_: object) -> None:
            asked.append(port)
            self.port = port or 1000 + len(asked)
            if port == 1001:
                raise torch.distributed.DistNetworkError("address already in use")

    monkeypatch.setattr(torch.distributed, "TCPStore", Store)
    assert open_store().port == 1003
    assert asked == [0, 1001, 0, 1003]
