"""Losses of each precision against the CPU's, and the mAP of one checkpoint on both."""

import math
from pathlib import Path

from gpu.commands import Command, run_all
from gpu.step import Step
from gpu.steps.resume import weight_difference

# Of shared/people's README: torchreid's own functions on the published weights, squared Euclidean distance.
_PUBLISHED_MAP = 0.697909
_LOSS_TOLERANCE = 0.05
# The gradient scaler starts at 65536 and skips steps until it fits: some of the dozen of these two epochs.
_FP16_LOSS_TOLERANCE = 0.25
_MAP_TOLERANCE = 1e-4
_COMPILE_MODES = ("off", "cudagraphs")


def run(step: Step) -> None:
    """Train on both devices side by side, then evaluate the CPU's best weights on both."""
    trained = _train(step)
    checkpoint = step.setting.weights or trained
    if checkpoint is not None and checkpoint.is_file():
        _evaluate(step, checkpoint)


def _train(step: Step) -> Path | None:
    setting = step.setting
    small = [] if setting.tiny else ["dataset.height=128", "dataset.width=64"]
    epochs = "train.epochs=2"

    def command(name: str, *overrides: str) -> Command:
        return Command(setting, f"correctness-{name}", setting.reid(epochs, *small, *overrides))

    commands = {"cpu": command("cpu", "train.device=cpu", "train.precision=fp32")}
    if setting.cuda:
        for precision in ("fp32", "fp16", "auto"):
            device = f"train.device={'auto' if precision == 'auto' else 'cuda'}"
            commands[precision] = command(precision, device, f"train.precision={precision}")
        cached = ["train.device=cuda", "train.precision=bf16", "dataset.cache=gpu"]
        commands["cache=gpu"] = command("cache", *cached)
        exact = ["train.device=cuda", "train.precision=bf16", "train.deterministic=true"]
        for mode in _COMPILE_MODES:
            commands[f"compile={mode}"] = command(mode, *exact, f"train.compile={mode}")
    else:
        commands["again"] = command("again", "train.device=cpu", "train.precision=fp32")
    statuses = run_all(commands, 600 if setting.tiny else 80)
    reference = [line["train/loss"] for line in commands["cpu"].epochs()]
    step.fact("losses_cpu", reference)
    step.check("training on the CPU finishes", statuses["cpu"] == 0, statuses["cpu"] or commands["cpu"].output(200))
    for name, done in commands.items():
        if name == "cpu":
            continue
        lines = done.epochs()
        losses = [line["train/loss"] for line in lines]
        step.fact(f"losses_{name}", losses)
        step.fact(f"device_{name}", done.manifest().get("device"))
        good = statuses[name] == 0 and len(losses) == len(reference)
        step.check(f"training ({name}) finishes", good, statuses[name] if good else done.output(400))
        worst = max((abs(a / b - 1) for a, b in zip(losses, reference, strict=False)), default=math.nan)
        tolerance = _FP16_LOSS_TOLERANCE if name == "fp16" else _LOSS_TOLERANCE
        step.check(f"losses ({name}) are the CPU's within {tolerance:.0%}", worst < tolerance, worst)
        if setting.cuda:
            devices = (done.manifest().get("device") or {}).get("devices", [])
            step.check(f"run.json ({name}) names the GPU", any("cuda" in each for each in devices), devices)
    if setting.cuda:
        one, other = (commands[f"compile={mode}"].folder for mode in _COMPILE_MODES)
        difference = weight_difference(one, other)
        step.check("CUDA graphs train to the same weights, bit for bit", difference == 0, difference)
        # A run of seconds may end before the first sample; any of them is enough.
        used = [line.get("perf/gpu_memory_gb") for done in commands.values() for line in done.epochs()]
        step.check("GPU use is sampled", any(each is not None for each in used), used)
    best = commands["cpu"].folder / "weights" / "best.pt"
    return best if best.is_file() else None


def _evaluate(step: Step, checkpoint: Path) -> None:
    setting = step.setting
    base = setting.reid("mode=evaluate", f"checkpoint={checkpoint}", weights=False)
    commands = {"cpu": Command(setting, "evaluate-cpu", [*base, "train.device=cpu"])}
    if setting.cuda:
        commands["cuda"] = Command(setting, "evaluate-cuda", [*base, "train.device=cuda"])
        bf16 = [*base, "train.device=cuda", "evaluation.precision=bf16"]
        commands["cuda bf16"] = Command(setting, "evaluate-bf16", bf16)
    else:
        commands["again"] = Command(setting, "evaluate-again", [*base, "train.device=cpu"])
    run_all(commands, 300 if setting.tiny else 60)
    maps = {name: done.summary().get("test/map") for name, done in commands.items()}
    step.fact("map", maps)
    step.fact("rank1", {name: done.summary().get("test/rank1") for name, done in commands.items()})
    reference = maps["cpu"]
    for name, value in maps.items():
        if name == "cpu":
            continue
        if value is None or reference is None:
            step.check(f"mAP ({name}) is the CPU's", False, commands[name].output(400))
            continue
        difference = abs(value - reference)
        step.fact(f"map_difference_{name}", difference)
        if "bf16" not in name:  # how far bf16 moves it is a fact, not a fault
            step.check(f"mAP ({name}) is the CPU's within {_MAP_TOLERANCE}", difference <= _MAP_TOLERANCE, difference)
    if setting.weights and not setting.tiny and reference is not None:
        difference = abs(reference - _PUBLISHED_MAP)
        step.check("mAP on the CPU is torchreid's within 1e-5", difference < 1e-5, difference)
