"""Untrained models that find somebody in every frame, for tests of speed, memory and order."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from inference.drawn import picture

CANDIDATES = 100  # boxes of a frame that non-maximum suppression gets


def write_detector(folder: Path, composed_config: Callable[..., DictConfig], people: int, size: int) -> Path:
    """The run folder of an untrained yolo11n that finds `people` in each frame of a film of `drawn`; its weights."""
    from watchme.engines.yolo.isolation import isolate

    isolate()
    import torch
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model = YOLO("yolo11n.yaml")
    net = model.model = DetectionModel("yolo11n.yaml", nc=1, verbose=False)
    net.names, net.args = {0: "person"}, model.overrides
    for module in net.modules():
        # By default the picture fades from layer to layer until all pictures are alike.
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    # Boxes of four cells of the feature map a side; confidences that lie as a trained model's: few above 0.5.
    for branch in net.model[-1].cv2:
        torch.nn.init.zeros_(branch[-1].weight)
        bins = torch.zeros(4, 16)
        bins[:, 2] = 20.0
        branch[-1].bias.data = bins.flatten()
    frame = torch.from_numpy(np.ascontiguousarray(picture(20, (size, size)))).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        confidences = net.eval()(frame)[0][0, 4].clamp(1e-30, 1 - 1e-7)
        shift = confidences.sort(descending=True).values[CANDIDATES].logit()
        for branch in net.model[-1].cv3:
            branch[-1].bias -= shift
    weights = folder / "weights" / "best.pt"
    weights.parent.mkdir(parents=True)
    model.save(str(weights))
    (folder / "run.json").write_text(json.dumps({"status": "finished"}))
    options = (f"evaluation.max_detections={people}", "evaluation.confidence=0.5", f"dataset.image_size={size}")
    OmegaConf.save(composed_config(*options), folder / "config.yaml", resolve=True)
    return weights


def write_embedder(path: Path, name: str) -> Path:
    """The state dict of an untrained OSNet."""
    import torch

    from watchme.engines.osnet.model import ReidNet

    torch.manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(ReidNet(name, 3).backbone.state_dict(), path)
    return path
