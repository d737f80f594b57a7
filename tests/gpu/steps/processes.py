"""Two processes that train one model: equal to one, and ended whichever of them is killed, stopped or fails.

There is one card, so the two share it and talk by gloo (see inject/). NCCL is started with a world of one.
"""

import os
import signal
import time
from functools import partial
from pathlib import Path

from gpu.commands import Command
from gpu.setting import PROJECT, Setting
from gpu.step import Step

_ENDS_WITHIN_S = 30.0
# So many epochs would be worth compiling for, which takes longer than the case may.
_ENDLESS = ("train.epochs=100000", "train.eval_every=100000", "train.compile=off")
# Each process normalises by its own share of a batch; frozen, two train as one does, but no faster than this.
# In TF32 half a batch is rounded otherwise than a whole one, which the choice of the hardest triplets multiplies.
_EQUAL = (
    "model.freeze=['*bn*','fc.1.*']",
    "optimizer=sgd",
    "optimizer.lr=0.000002",  # at ten times that, rounding grows by a thousand in two epochs
    "train.precision=fp32",
    "train.tf32=false",
    "train.epochs=2",
)


def run(step: Step) -> None:
    """Each case is a training of its own."""
    setting = step.setting
    hanging = [] if setting.tiny else [partial(_ends, step, "follower killed", signal.SIGKILL)]
    on_gpu = [partial(_refused, step, name, [f"train.device={each}"], {}) for name, each in _DEVICES.items()]
    on_gpu.append(partial(_nccl, step))
    step.cases(
        partial(_ends, step, "follower stopped", signal.SIGSTOP),
        partial(_ends, step, "leader terminated", signal.SIGTERM),
        *hanging,
        partial(_refused, step, "started by torchrun", [], _TORCHRUN),
        partial(_equal, step),
        *(on_gpu if setting.cuda else []),
    )


_TORCHRUN = {
    "WORLD_SIZE": "2",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29517",
}
_DEVICES = {"one card twice": "[0,0]", "a card that is not there, in quotes": "'0,7'"}


def _two(setting: Setting, name: str, *overrides: str) -> Command:
    options = setting.reid("train.workers=0", f"train.device={setting.device}", "train.processes=2", *overrides)
    if not setting.tiny:
        options += ["dataset.height=128", "dataset.width=64"]
    environment = {"PYTHONPATH": injected()} if setting.cuda else {}
    return Command(setting, f"processes-{name}", options, {**environment, **_one_card(setting)})


def injected() -> str:
    """PYTHONPATH with inject/ first."""
    paths = [str(Path(__file__).resolve().parent.parent / "inject"), str(PROJECT), os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(path for path in paths if path)


def _one_card(setting: Setting) -> dict[str, str]:
    return {"PROOF_ONE_CARD": "1"} if setting.cuda else {}


def _ends(step: Step, name: str, number: int) -> None:
    """The run ends soon, says why, and leaves no process."""
    command = _two(step.setting, name.replace(" ", "-"), *_ENDLESS)
    trains = command.wait_until(lambda: command.last_epoch() >= 1, 120 if step.setting.tiny else 60)
    step.check(f"{name}: two processes train", trains, "" if trains else command.output(500))
    if trains:
        target = command.process.pid if "leader" in name else _follower(command)
        os.kill(target, number)
        start = time.monotonic()
        status = command.wait(_ENDS_WITHIN_S + 15)
        seconds = time.monotonic() - start
        left = command.left_over(5)
        found = {"seconds": round(seconds, 1), "status": status, "left": left, "output": command.output(300)}
        step.fact(name, found | {"run_json": command.manifest().get("status")})
        step.check(f"{name}: the run ends within {_ENDS_WITHIN_S:.0f} s", status is not None, round(seconds, 1))
        step.check(f"{name}: no process is left", not left, left)
        closed = command.manifest().get("status")
        step.check(f"{name}: run.json is closed", closed in ("failed", "interrupted"), closed)
    command.kill()


def _follower(command: Command) -> int:
    """The second training process: the one that multiprocessing spawned."""
    for process in command.descendants():
        if "spawn_main" in " ".join(process.cmdline()):
            return int(process.pid)
    raise RuntimeError(f"no follower among {[process.cmdline() for process in command.descendants()]}")


def _refused(step: Step, name: str, overrides: list[str], environment: dict[str, str]) -> None:
    """A command that cannot work is refused with the key that helps, soon and without a process left."""
    device = [] if overrides else [f"train.device={step.setting.device}"]
    options = step.setting.reid(*device, "train.epochs=1", *overrides)
    command = Command(step.setting, f"refused-{name.replace(',', '').replace(' ', '-')}", options, environment)
    status = command.wait(60 if step.setting.tiny else 45)
    left = command.left_over(5)
    text = command.output(500)
    step.fact(f"refused {name}", {"status": status, "seconds": round(command.seconds, 1), "output": text})
    refused = status == 2 and "train.device" in text and "Unexpected" not in text
    step.check(f"{name}: refused, with the key that helps", refused, status)
    step.check(f"{name}: no process is left", not left, left)


def _equal(step: Step) -> None:
    setting = step.setting
    two = _two(setting, "equal-two", *_EQUAL)
    size = [] if setting.tiny else ["dataset.height=128", "dataset.width=64"]
    options = setting.reid("train.workers=0", f"train.device={setting.device}", *_EQUAL, *size)
    one = Command(setting, "processes-equal-one", options)
    statuses = [command.wait(200 if setting.tiny else 60) for command in (one, two)]
    losses = [[line["train/loss"] for line in command.epochs()] for command in (one, two)]
    step.fact("losses of one and two processes", losses)
    near = all(abs(a / b - 1) < 1e-3 for a, b in zip(*losses, strict=False)) and len(losses[0]) == len(losses[1]) == 2
    found = losses if statuses == [0, 0] else [command.output(500) for command in (one, two)]
    step.check("two processes train as one does", near and statuses == [0, 0], found)


def _nccl(step: Step) -> None:
    """A process group of one over NCCL: begun, used and ended, with the time of each."""
    import torch
    import torch.distributed as dist

    from watchme.engines.osnet import distributed

    device = torch.device("cuda:0")
    start = time.monotonic()
    store = distributed.open_store()
    with distributed.joined_group(0, 1, device, store.port, 1):
        value = torch.ones(4, device=device)
        dist.all_reduce(value)
        parts = [torch.empty_like(value)]
        dist.all_gather(parts, value)
        same = bool((parts[0] == 1).all())
    seconds = round(time.monotonic() - start, 2)
    step.check("NCCL: a group of one begins, exchanges and ends", same and not dist.is_initialized(), seconds)
