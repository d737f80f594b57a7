"""mode=predict, find and search with both models: what the device sees is what the CPU sees."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from gpu.commands import Command, run_all
from gpu.setting import DEMO
from gpu.step import Step

# The device's convolutions round otherwise than the CPU's; boxes are in pixels of 320 and 640.
_BOX_TOLERANCE = 0.5
_COSINE = 0.999
# One box beside the limit of confidence, or of overlap, may be seen by one device alone.
_SHARE = 0.98


def run(step: Step) -> None:
    """Train a detector on drawn people, then look at drawn pictures by both devices."""
    setting = step.setting
    limit = 400.0 if setting.tiny else 70.0
    world = [f"dataset.demo.{each}" for each in DEMO] if setting.tiny else []
    epochs = 1 if setting.tiny else 4
    options = [
        f"train.workers={0 if setting.tiny else 4}",
        f"train.device={setting.device}",
        "evaluation.plots=false",
        *world,
    ]
    size = f"dataset.image_size={96 if setting.tiny else 320}"
    trained = {"detector": Command(setting, "inference-detector", [*options, size, f"train.epochs={epochs}"])}
    if setting.weights is None:
        reid = ["model=osnet_x0_25", *options[:2], *world, "train.epochs=1"]
        trained["reid"] = Command(setting, "inference-reid", reid)
    statuses = run_all(trained, limit)
    for name, command in trained.items():
        step.check(f"the {name} trains", statuses[name] == 0, command.output(400) if statuses[name] else "")
    reid_weights = setting.weights or trained["reid"].folder
    models = [f"detector={trained['detector'].folder}", f"reid={reid_weights}"]
    pictures = next((setting.work / "cache").glob("**/images/test"))
    query = next(pictures.glob("*.jpg"))
    confidence = "predict.confidence=0.001" if setting.tiny else "predict.confidence=0.25"
    modes = {
        "predict": ["mode=predict", f"source={pictures}", confidence, *models],
        "find": ["mode=find", f"query={query}", f"source={pictures}", confidence, *models],
        "search": ["mode=search", *models, *([f"dataset.demo.{each}" for each in DEMO] if setting.tiny else [])],
    }
    devices = ["cpu", "cuda"] if setting.cuda else ["cpu"]
    commands = {
        f"{mode} on {device}": Command(setting, f"inference-{mode}-{device}", [*overrides, f"train.device={device}"])
        for mode, overrides in modes.items()
        for device in devices
    }
    for name, status in run_all(commands, limit).items():
        step.check(f"mode={name}", status == 0, commands[name].output(400) if status else "")
        step.fact(name, {"seconds": round(commands[name].seconds, 1), **commands[name].summary()})
    if setting.cuda:
        _compare(step, commands["predict on cpu"].folder, commands["predict on cuda"].folder)
        values = [commands[f"search on {device}"].summary().get("test/map", math.nan) for device in devices]
        near = abs(values[0] - values[1]) < 0.02
        step.check("mode=search gives both devices one mAP", near, values)


def _compare(step: Step, cpu: Path, cuda: Path) -> None:
    with step.part("what both devices see"):
        one, other = (np.load(folder / "embeddings.npz") for folder in (cpu, cuda))
        found = _pairs(one, other)
        step.fact("predict: sightings", {"cpu": len(one["frame"]), "cuda": len(other["frame"]), **found})
        share = found["pairs"] / max(1, len(one["frame"]), len(other["frame"]))
        step.check(f"both devices see the same people, {_SHARE:.0%}", share >= _SHARE, share)
        step.check(f"embeddings are alike, {_COSINE}", found["cosine"] >= _COSINE, found["cosine"])


def _pairs(one: Any, other: Any) -> dict[str, float]:
    """Boxes of one file that the other has, too, and the least cosine of their embeddings."""
    pairs, cosine = 0, 1.0
    for frame, box, embedding in zip(one["frame"], one["box"], one["embedding"], strict=True):
        rows = np.flatnonzero(other["frame"] == frame)
        if len(rows) == 0:
            continue
        nearest = rows[np.abs(other["box"][rows] - box).max(1).argmin()]
        if np.abs(other["box"][nearest] - box).max() <= _BOX_TOLERANCE:
            pairs += 1
            cosine = min(cosine, float(other["embedding"][nearest] @ embedding))
    return {"pairs": pairs, "cosine": cosine}
