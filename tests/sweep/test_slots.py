"""Slots: no barrier between trials, one GPU each, trials in processes of their own."""

import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from sweep.conftest import Swept
from watchme.core.errors import ConfigError, TrainingError
from watchme.sweep import gpus
from watchme.sweep.gpus import assign, environment, visible_gpus
from watchme.sweep.settings import SweepConfig
from watchme.sweep.slot_setup import make_slots
from watchme.sweep.slots import InProcess, WorkerProcess

Sweep = Callable[..., Swept]
PLAIN = ("hydra.sweeper.report=false", "train.epochs=2")


def test_each_slot_sees_its_own_gpu(sweep: Sweep, project: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("class cuda:\n    is_available = staticmethod(lambda: True)\n")
    done = sweep(
        tmp_path / "s",
        *("optimizer.lr=0.01,0.02,0.03,0.04", "train.device=auto", "hydra.sweeper.n_jobs=2", *PLAIN),
        CUDA_VISIBLE_DEVICES="3,5",
        PYTHONPATH=f"{project}:{tmp_path}",
    )
    assert done.code == 0, done.stderr
    seen = {done.manifest(number)["visible_gpus"] for number in range(4)}
    assert seen == {"3", "5"}


def test_gpus_are_assigned_round_robin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert assign(["0", "1"], 3) == ["0", "1", "0"]
    assert assign([], 2) == [None, None]
    assert visible_gpus([2, 3]) == ["2", "3"]
    assert visible_gpus("none") == []


def test_gpus_of_an_allotment_are_counted_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert visible_gpus("auto") == ["4", "5"]
    assert visible_gpus([1, 0]) == ["5", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")  # Slurm's, in a job that was given none
    assert visible_gpus("auto") == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert environment("5") == {"CUDA_VISIBLE_DEVICES": "5"}, "their order is that of the variable"
    with pytest.raises(ConfigError, match=r"4,5 has 2 GPUs"):
        visible_gpus([4])


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`nvidia_smi(text)`: a machine whose `nvidia-smi -L` prints this."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def install(text: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n[ \"$1\" = -L ] && cat <<'END'\n{text}\nEND\n")
        program.chmod(0o755)

    return install


def test_slices_of_a_gpu_are_slots_of_their_own(nvidia_smi: Callable[[str], None]) -> None:
    nvidia_smi(
        "GPU 0: NVIDIA H100 (UUID: GPU-aa)\n  MIG 1g.10gb Device  0: (UUID: MIG-11)\n"
        "  MIG 1g.10gb Device  1: (UUID: MIG-22)\nGPU 1: NVIDIA H100 (UUID: GPU-bb)"
    )
    assert visible_gpus("auto") == ["MIG-11", "MIG-22", "1"]
    assert environment("1") == {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert environment("MIG-11") == {"CUDA_VISIBLE_DEVICES": "MIG-11"}
    assert environment(None) == {}


def test_gpus_that_torch_cannot_use_are_no_slots(
    nvidia_smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nvidia_smi("GPU 0: NVIDIA V100 (UUID: GPU-aa)")
    monkeypatch.setattr(gpus, "_torch_has_cuda", lambda: False)
    assert gpus.usable_gpus("auto") == []
    assert "torch cannot use them" in caplog.text
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)  # as Slurm grants them
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    shared = {"OMP_NUM_THREADS": "3"}
    assert variables_of(planned("auto", "basic")) == [shared, shared], "they share the cores"
    monkeypatch.setattr(gpus, "_torch_has_cuda", lambda: True)
    assert gpus.usable_gpus("auto") == ["0"]
    assert variables_of(planned("auto", "basic")) == [environment("0"), environment("1")]
    assert variables_of(planned("cpu", "basic")) == [shared, shared]


def variables_of(plan: Any) -> list[Any]:
    launcher: Any = None
    return [slot.variables for slot in make_slots(plan, launcher) if isinstance(slot, WorkerProcess)]


def planned(device: str, launcher: str, gpus: str | list[int] | None = None, **sections: object) -> Any:
    """As much of a plan as slots look at."""
    hydra = {"runtime": {"choices": {"hydra/launcher": launcher}}, "launcher": sections}
    return SimpleNamespace(
        folder=Path(),
        settings=SweepConfig(n_jobs=2, gpus=[0, 1] if gpus is None else gpus),
        config=OmegaConf.create({"hydra": hydra}),
        typed=SimpleNamespace(train=SimpleNamespace(device=device)),
    )


def test_launchers_that_cannot_assign_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    joblib: Any = type("JoblibLauncher", (), {})()
    with pytest.raises(ConfigError, match=r"every trial would be on GPU 0"):
        make_slots(planned("auto", "joblib"), joblib)
    assert len(make_slots(planned("cpu", "joblib"), joblib)) == 2
    ray: Any = type("RayLauncher", (), {})()
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.ray\.remote\.num_gpus"):
        make_slots(planned("auto", "ray", ray={"init": {"address": None}, "remote": {"num_gpus": None}}), ray)
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.ray\.remote\.num_gpus"):  # the cluster may have some
        make_slots(planned("auto", "ray", "none", ray={"init": {"address": "auto"}, "remote": {"num_gpus": None}}), ray)
    given = planned("auto", "ray", ray={"init": {"address": None}, "remote": {"num_gpus": 1}})
    assert len(make_slots(given, ray)) == 2


def test_a_trial_leaves_no_gpu_memory_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied = []
    cuda = SimpleNamespace(is_initialized=lambda: True, empty_cache=lambda: emptied.append(1))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    launcher: Any = SimpleNamespace(launch=lambda *_, **__: [SimpleNamespace(return_value=0.5)])
    slot = InProcess(launcher, OmegaConf.create(), capture=False)
    assert slot.run(0, Path(), []).values == [0.5]
    assert emptied == [1]


def test_a_failed_trial_leaves_no_gpu_memory_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error's traceback holds the frames that hold model and batches; the cache is emptied once they are gone."""
    alive: list[weakref.ref[Any]] = []
    found = []
    cuda = SimpleNamespace(is_initialized=lambda: True, empty_cache=lambda: found.append(alive[0]()))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))

    def train() -> float:
        batch = set[int]()
        alive.append(weakref.ref(batch))
        kept = None
        try:
            raise TrainingError("out of memory on cuda")
        except TrainingError as error:
            kept = error  # as the runner does, which makes a cycle
            raise
        finally:
            assert kept

    class Failed:  # as Hydra's JobReturn: the error is raised where the value is asked for
        def __init__(self) -> None:
            try:
                train()
            except TrainingError as error:
                self.error = error

        @property
        def return_value(self) -> float:
            raise self.error

    launcher: Any = SimpleNamespace(launch=lambda *_, **__: [Failed()])
    outcome = InProcess(launcher, OmegaConf.create(), capture=False).run(0, Path(), [])
    assert "out of memory" in outcome.reason
    assert found == [None]


def test_a_slow_trial_does_not_delay_others(sweep: Sweep, tmp_path: Path) -> None:
    """While one slot is busy with a long trial, the other runs all the rest."""
    done = sweep(
        tmp_path / "s",
        *("train.epochs=60,2,2,2,2,2", "model.waits_for=5", "hydra.sweeper.n_jobs=2", "hydra.sweeper.report=false"),
    )
    assert done.states == {"COMPLETE": 6}
    slow, *quick = done.trials
    assert slow.params["train.epochs"] == 60
    assert all(trial.datetime_complete < slow.datetime_complete for trial in quick)
    assert {done.manifest(trial.number)["pid"] for trial in quick} != {done.manifest(0)["pid"]}


def test_a_trial_killed_by_the_system_does_not_take_the_sweep_along(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(
        tmp_path / "s",
        "optimizer.lr=0.01,0.02,0.03",
        "hydra.sweeper.processes=true",
        "model.fault=sigkill",
        "model.fault_trials=[1]",
        *PLAIN,
    )
    assert done.code == 0, done.stderr
    assert [trial.state.name for trial in done.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "SIGKILL" in done.trials[1].user_attrs["reason"]
    assert done.manifest(1)["status"] == "failed"
    assert "SIGKILL" in (done.folder / "1" / "traceback.txt").read_text()
    assert done.manifest(2)["pid"] != done.manifest(0)["pid"]


def test_two_trials_in_one_process_are_refused(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(tmp_path / "s", "optimizer.lr=0.01,0.02", "hydra.sweeper.processes=false", "hydra.sweeper.n_jobs=2")
    assert done.code == 2
    assert "hydra.sweeper.processes" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_sweep_that_ends_closes_the_pipes_of_a_trial_that_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between a worker's answer and its reading ended in a traceback of `readline of closed file`."""
    slot = WorkerProcess(tmp_path, "worker", {})
    job_end, job_start = os.pipe()
    answer_end, answer_start = os.pipe()
    slot._process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=job_end)
    os.close(job_end)
    slot._jobs, slot._answers = os.fdopen(job_start, "wb"), os.fdopen(answer_end, "rb")

    def closed_meanwhile(*_: object) -> tuple[list[object], list[object], list[object]]:
        slot.close()
        return [slot._answers], [], []

    monkeypatch.setattr("watchme.sweep.slots.select.select", closed_meanwhile)
    assert slot.run(0, tmp_path, []).reason == "its process ended with status 0"
    os.close(answer_start)
