"""Several gloo processes on the CPU against one process with the same global batch."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from watchme.core.device import choose_devices, choose_precision
from watchme.core.errors import ConfigError, DataError, TrainingError
from watchme.data.demo import DemoWorld
from watchme.engines.osnet.distributed import Team, led

CPU = torch.device("cpu")


def _total(team: Team, device: torch.device) -> None:
    team.total(torch.tensor([1.0 * team.rank], dtype=torch.float64))


def _mean(team: Team, device: torch.device) -> None:
    team.mean(torch.tensor([1.0, 5.0]))


def _gather(team: Team, device: torch.device) -> None:
    team.gather(torch.full((2, 1), float(team.rank)))


def _fail(team: Team, device: torch.device) -> None:
    raise DataError("crop.jpg is broken")


def _die(team: Team, device: torch.device) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class TestTeam:
    def test_one_device_starts_nobody(self) -> None:
        with led([CPU], _fail) as team:
            assert (team.rank, team.size, team.leads) == (0, 1, True)
            assert team.agree("said") == "said"

    def test_sums_over_all(self) -> None:
        with led([CPU, CPU], _total) as team:
            assert team.total(torch.tensor([2.0], dtype=torch.float64)).tolist() == [3.0]
        assert not torch.distributed.is_initialized()
        assert "WORLD_SIZE" not in os.environ

    def test_means_over_all(self) -> None:
        with led([CPU, CPU], _mean) as team:
            assert team.mean(torch.tensor([3.0, 1.0])).tolist() == [2.0, 3.0]

    def test_gathers_in_order_and_keeps_its_own_gradient(self) -> None:
        own = torch.full((2, 1), 5.0, requires_grad=True)
        with led([CPU, CPU], _gather) as team:
            everyone = team.gather(own)
            assert everyone.flatten().tolist() == [5.0, 5.0, 1.0, 1.0]
            torch.autograd.backward(everyone.sum())
        assert own.grad is not None
        assert own.grad.flatten().tolist() == [1.0, 1.0]

    def test_what_a_follower_raises_ends_the_leader(self) -> None:
        with pytest.raises(DataError, match=r"crop\.jpg is broken"), led([CPU, CPU], _fail) as team:
            team.total(torch.zeros(1, dtype=torch.float64))

    def test_a_killed_follower_ends_the_leader(self) -> None:
        with pytest.raises(TrainingError, match="osnet-1 ended with status -9"), led([CPU, CPU], _die) as team:
            team.total(torch.zeros(1, dtype=torch.float64))

    def test_an_error_of_the_leader_ends_the_followers(self) -> None:
        start = time.monotonic()
        with pytest.raises(KeyError), led([CPU, CPU], _gather):
            raise KeyError
        assert time.monotonic() - start < 60


TINY = (
    "model=osnet_x0_25",
    "dataset=market1501",
    "model.weights=null",
    "dataset.height=64",
    "dataset.width=32",
    "dataset.val_identities=3",
    "train.batch_size=8",
    "train.num_instances=2",
    "train.workers=0",
    "train.epochs=2",
    "train.device=cpu",
    "evaluation.visrank=0",
    # Each process normalises by its own share of a batch, as DDP does everywhere; frozen, the two must agree.
    "model.freeze=['*bn*','fc.1.*']",
    "optimizer=sgd",
    "optimizer.lr=0.01",
)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["reid", "triplet", "softmax", "circle", "arcface", "center"])
def test_two_processes_train_as_one_does(
    loss: str, run_engine: Callable[..., Any], small_world: DemoWorld, tmp_path: Path
) -> None:
    options = (*TINY, f"dataset.root={small_world.reid}", f"loss={loss}", "train.accumulate=2")
    one = run_engine(tmp_path / "one", *options)
    two = run_engine(tmp_path / "two", *options, "train.processes=2")
    assert [event.epoch for event in two.events] == [0, 1, 2]
    for left, right in zip(one.events, two.events, strict=True):
        assert right.metrics == pytest.approx(dict(left.metrics), rel=1e-4, abs=1e-4)
    states = [torch.load(done.folder / "weights" / "last.pt", weights_only=True)["state_dict"] for done in (one, two)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5, msg=name)
    trained = [
        torch.load(done.folder / "weights" / "last.pt", weights_only=True)["training"]["criterion"]
        for done in (one, two)
    ]
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


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
    options = (*TINY, f"dataset.root={small_world.reid}", "train.epochs=1", *sampler)
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
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


class TestDevices:
    def test_cpu_is_shared(self) -> None:
        assert choose_devices("cpu", 3) == [CPU] * 3
        assert choose_devices("cpu", None) == [CPU]

    @pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of a machine without CUDA")
    def test_gpus_that_are_not_there_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="0 CUDA devices"):
            choose_devices([0, 1], None)

    def test_fp16_is_refused_on_a_cpu(self) -> None:
        with pytest.raises(ConfigError, match="fp16 needs a GPU"):
            choose_precision("fp16", CPU)
