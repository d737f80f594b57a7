"""A run that is killed goes on to the same weights; a checkpoint of one device goes on on the other."""

import shutil
from pathlib import Path

import torch

from gpu.commands import Command, run_all
from gpu.step import Step

_EPOCHS = 4


def run(step: Step) -> None:
    """Kill a run after its second epoch, resume it, and compare with one that was left alone."""
    setting = step.setting
    limit = 600.0 if setting.tiny else 45.0
    # fp16 has one more state to resume, that of its gradient scaler.
    precision = "fp16" if setting.cuda else "fp32"
    size = [] if setting.tiny else ["dataset.height=128", "dataset.width=64"]
    base = setting.reid(f"train.epochs={_EPOCHS}", "train.deterministic=true", *size)
    own = [*base, f"train.device={setting.device}", f"train.precision={precision}"]
    own += ["train.compile=cudagraphs"] if setting.cuda else []
    straight = Command(setting, "resume-straight", own)
    killed = Command(setting, "resume-killed", own)
    crossing = Command(setting, "resume-cpu", [*base, "train.device=cpu", "train.precision=fp32"])
    for command in (killed, crossing):
        reached = command.wait_until(lambda each=command: each.last_epoch() >= 2, limit)  # type: ignore[misc]
        command.kill()
        step.check(f"{command.folder.name} reaches its second epoch", reached, command.output(300))
    copy = setting.work / "runs" / "resume-to-cpu"
    shutil.copytree(killed.folder, copy)
    resumed = {
        "killed": _resume(step, killed.folder, own),
        "to-cpu": _resume(step, copy, [*base, "train.device=cpu", "train.precision=fp32", "train.compile=auto"]),
        "to-device": _resume(step, crossing.folder, own),
    }
    statuses = run_all({"straight": straight, **resumed}, limit)
    for name, status in statuses.items():
        text = "resume-straight" if name == "straight" else f"resumed run ({name})"
        output = (straight if name == "straight" else resumed[name]).output(400)
        step.check(f"{text} finishes", status == 0, "" if status == 0 else output)
    difference = weight_difference(straight.folder, killed.folder)
    step.check("a killed and resumed run has the weights of one left alone", difference == 0, difference)
    final = _last_loss(straight)
    for name in ("to-cpu", "to-device"):
        loss = _last_loss(resumed[name])
        near = final is not None and loss is not None and abs(loss / final - 1) < 0.05
        step.check(f"last loss ({name}) is that of one device within 5%", near, [loss, final])


def _resume(step: Step, folder: Path, overrides: list[str]) -> Command:
    return Command(step.setting, f"{folder.name}-resumed", [*overrides, f"train.resume={folder}"], folder=folder)


def _last_loss(command: Command) -> float | None:
    lines = [line for line in command.epochs() if line["epoch"] == _EPOCHS]
    return lines[-1]["train/loss"] if lines else None


def weight_difference(one: Path, other: Path) -> float | str:
    """Largest difference of two runs' last weights."""
    try:
        states = [
            torch.load(folder / "weights" / "last.pt", map_location="cpu", weights_only=True)["state_dict"]
            for folder in (one, other)
        ]
    except (OSError, KeyError) as error:
        return str(error)
    return max(float((states[0][name].double() - value.double()).abs().max()) for name, value in states[1].items())
