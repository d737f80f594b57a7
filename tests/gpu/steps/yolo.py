"""The detector on a GPU: equal evaluation, batch=-1, out of memory, SIGTERM."""

import json
import os
import signal
from functools import partial

from gpu.commands import Command
from gpu.setting import Setting
from gpu.step import Step
from gpu.steps.processes import injected


def run(step: Step) -> None:
    """Each case is a training of its own."""
    cuda = step.setting.cuda
    on_gpu = [partial(_out_of_memory, step), partial(_automatic_batch, step)]
    step.cases(*(on_gpu if cuda else []), partial(_train_and_evaluate, step), partial(_terminated, step))


def _command(setting: Setting, name: str, *overrides: str, **environment: str) -> Command:
    options = setting.detection(f"train.device={setting.device}", *overrides)
    return Command(setting, f"yolo-{name}", options, environment)


def _limit(setting: Setting) -> float:
    return 400.0 if setting.tiny else 75.0


def _train_and_evaluate(step: Step) -> None:
    setting = step.setting
    epochs, batch = (1, 8) if setting.tiny else (2, 16)
    command = _command(setting, "auto", f"train.epochs={epochs}", f"train.batch_size={batch}", "optimizer=adamw")
    status = command.wait(_limit(setting))
    speeds = [line.get("perf/images_per_s") for line in command.epochs()]
    step.fact("images_per_s", speeds)
    step.fact("device", command.manifest().get("device"))
    step.check("training finishes", status == 0, "" if status == 0 else command.output(500))
    checkpoint = command.folder / "weights" / "best.pt"
    if status != 0 or not checkpoint.is_file():
        return
    expected = command.summary().get("val/map50_95")
    devices = ["cuda", "cpu"] if setting.cuda else ["cpu"]
    options = setting.detection("mode=evaluate", f"checkpoint={checkpoint}", "evaluation.split=val")
    for device in devices:
        found = Command(setting, f"yolo-evaluate-{device}", [*options, f"train.device={device}"])
        found.wait(_limit(setting))
        value = found.summary().get("val/map50_95")
        step.fact(f"val/map50_95 ({device})", [expected, value])
        near = expected is not None and value is not None and abs(value - expected) < 1e-3
        step.check(f"mode=evaluate ({device}) gives the training's mAP", near, [expected, value])


def _automatic_batch(step: Step) -> None:
    command = _command(step.setting, "batch", "train.epochs=1", "train.batch_size=-1")
    status = command.wait(_limit(step.setting))
    step.check("train.batch_size=-1 trains", status == 0, "" if status == 0 else command.output(500))
    recorded = {key: value for key, value in command.manifest().items() if "batch" in key}
    step.check("the batch that was found is in run.json", bool(recorded), recorded)


def _out_of_memory(step: Step) -> None:
    """4 GB of the card: 64 images of 640 pixels do not fit; ultralytics halves the batch up to three times."""
    options = ["train.epochs=1", "train.batch_size=64", "dataset.image_size=640"]
    environment = {"PYTHONPATH": injected(), "PROOF_MEMORY_FRACTION": "0.05"}
    command = _command(step.setting, "memory", *options, **environment)
    status = command.wait(_limit(step.setting))
    manifest = command.manifest()
    fallbacks = manifest.get("fallbacks")
    step.fact("out of memory", {"status": status, "fallbacks": fallbacks, "output": command.output(600)})
    said = "batch" in json.dumps(fallbacks) if status == 0 else "train.batch_size" in command.output()
    step.check("out of memory: what was done instead, or the key that helps, is said", said, status)


def _terminated(step: Step) -> None:
    command = _command(step.setting, "terminated", "train.epochs=1000", "train.batch_size=8")
    trains = command.wait_until(lambda: command.last_epoch() >= 1, _limit(step.setting))
    step.check("SIGTERM: the run trains", trains, "" if trains else command.output(500))
    os.kill(command.process.pid, signal.SIGTERM)
    status = command.wait(45)
    left = command.left_over(5)
    found = [status, command.manifest().get("status")]
    step.check("SIGTERM: ends within 45 s, as interrupted", status is not None and found[1] == "interrupted", found)
    step.check("SIGTERM: no process is left", not left, left)
