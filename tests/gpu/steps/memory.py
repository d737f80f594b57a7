"""OSNet out of memory, the batch that fits, a device by its number, and an export of weights that a GPU trained."""

from functools import partial

from gpu.commands import Command
from gpu.step import Step
from gpu.steps.processes import injected

_LIMIT_S = 100.0


def run(step: Step) -> None:
    """Each case is a training of its own."""
    step.cases(partial(_out_of_memory, step), partial(_automatic_batch, step), partial(_by_number, step))


def _out_of_memory(step: Step) -> None:
    """2.4 GB for one batch of the whole training set."""
    more = ["model.name=osnet_x1_0", "model.weights=null", "loss=softmax", "train.sampler=random", "train.epochs=1"]
    more.append("train.batch_size=8192")
    options = step.setting.reid(*more, "train.device=cuda", "dataset.height=256", "dataset.width=128", weights=False)
    environment = {"PYTHONPATH": injected(), "PROOF_MEMORY_FRACTION": "0.03"}
    command = Command(step.setting, "memory-osnet", options, environment)
    status = command.wait(_LIMIT_S)
    text = command.output()
    step.fact("out of memory", {"status": status, "output": text[-600:]})
    explained = status == 1 and "train.batch_size" in text and "Unexpected" not in text
    step.check("out of memory: an error that names train.batch_size", explained, status)


def _automatic_batch(step: Step) -> None:
    """Here the small training set is the bound."""
    more = ["model.name=osnet_x1_0", "model.weights=null", "train.batch_size=-1", "train.epochs=1"]
    more += ["train.sampler=random", "loss=softmax", "dataset.height=256", "dataset.width=128"]
    options = step.setting.reid(*more, "train.device=cuda", weights=False)
    command = Command(step.setting, "memory-batch", options)
    status = command.wait(_LIMIT_S)
    found = command.manifest().get("batch_size")
    step.fact("train.batch_size=-1", {"found": found, "output": command.output(400)})
    step.check("train.batch_size=-1 finds a batch, records it and trains", status == 0 and bool(found), found)


def _by_number(step: Step) -> None:
    command = Command(step.setting, "memory-number", step.setting.reid("train.device=0", "train.epochs=1"))
    status = command.wait(_LIMIT_S)
    devices = (command.manifest().get("device") or {}).get("devices")
    step.check("train.device=0 trains on cuda:0", status == 0 and devices == ["cuda:0"], devices)
    options = ["mode=export", f"checkpoint={command.folder / 'weights' / 'best.pt'}"]
    export = Command(step.setting, "memory-export", options)
    status = export.wait(_LIMIT_S)
    step.check("weights of a GPU are exported", status == 0, "" if status == 0 else export.output(500))
