"""What the backend does with the hand-off of an OSNet, re-enacted: its loader, its preprocessing, its embeddings.

The backend builds osnet_ibn_x1_0 with loss='triplet', drops keys by their beginnings, skips unknown ones and leaves
missing ones as they were initialised. It feeds 256x128 crops with ImageNet normalisation and divides embeddings by
their L2 norm.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms

from watchme.engines.osnet.model import models

pytestmark = pytest.mark.real
PEOPLE = 8
PLACE = Path("handoff/src/infrastructure/osnet/client")
PREPARE = transforms.Compose(
    [
        transforms.Resize((256, 128)),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


@dataclass
class Loaded:
    """What the backend's loader made of a file."""

    model: Any
    skipped: list[str]
    missing: list[str]


def load_as_backend(path: Path, dropped: tuple[str, ...], seed: int) -> Loaded:
    """The backend's loader."""
    torch.manual_seed(seed)
    model = models.build_model("osnet_ibn_x1_0", num_classes=1, loss="triplet", pretrained=False)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    state = checkpoint.get("state_dict", checkpoint)
    own = model.state_dict()
    wanted = {name: value for name, value in state.items() if not name.startswith(dropped)}
    kept = {name: value for name, value in wanted.items() if name in own and own[name].shape == value.shape}
    model.load_state_dict({**own, **kept})
    missing = [name for name in own if not name.startswith(dropped) and name not in kept]
    return Loaded(model.eval(), [name for name in wanted if name not in kept], missing)


@torch.no_grad()
def embed(model: Any, crops: torch.Tensor) -> NDArray[np.float32]:
    return unit(model(crops).numpy())


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def dataset(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few people of market1501_mini, by links."""
    root = tmp_path_factory.mktemp("people")
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (root / name).mkdir()
        files = sorted((real_data / "market1501_mini" / name).glob("*.jpg"))
        people = sorted({path.name.split("_")[0] for path in files if not path.name.startswith(("0000", "-1"))})
        for path in files:
            if path.name.split("_")[0] in people[:PEOPLE]:
                (root / name / path.name).symlink_to(path)
    return root


@pytest.fixture(scope="module")
def run(run_engine: Callable[..., Any], dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training of the backend's architecture with a BNNeck, at a size that takes no time."""
    return run_engine(
        tmp_path_factory.mktemp("run"),
        "model=osnet_ibn",
        "model.bnneck=true",
        "dataset=market1501",
        "model.weights=null",
        f"dataset.root={dataset}",
        "dataset.height=64",
        "dataset.width=32",
        "dataset.val_identities=2",
        "train.epochs=1",
        "train.batch_size=16",
        "train.workers=0",
        "evaluation.visrank=0",
    )


@pytest.fixture(scope="module")
def handed(run: Any, run_engine: Callable[..., Any], dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The place of the weights in its hand-off, for crops of 256x128."""
    made = run_engine(
        tmp_path_factory.mktemp("export"),
        "mode=export",
        "model=osnet_ibn",
        "model.bnneck=true",
        "dataset=market1501",
        "model.weights=null",
        f"dataset.root={dataset}",
        "dataset.val_identities=2",
        f"checkpoint={run.folder}/weights/best.pt",
        "export.latency_batches=[]",
        "export.fc_seeds=0",
        "export.images=4",
        "train.workers=0",
    )
    assert made.result.refused == ""
    assert made.fallbacks == []
    return Path(made.folder) / PLACE


@pytest.fixture(scope="module")
def crops(real_data: Path) -> torch.Tensor:
    """20 real crops, prepared as the backend does."""
    files = sorted((real_data / "market1501_mini" / "query").glob("*.jpg"))[::5][:20]
    assert len(files) == 20
    return torch.stack([PREPARE(Image.open(path).convert("RGB")) for path in files])


@pytest.fixture(scope="module")
def wanted(run: Any, crops: torch.Tensor) -> NDArray[np.float32]:
    """Embeddings by the run's own best.pt, in torchreid's model, loaded by torch alone."""
    content = torch.load(run.folder / "weights" / "best.pt", weights_only=True)
    model = models.build_model("osnet_ibn_x1_0", content["num_classes"], loss="triplet", pretrained=False)
    model.load_state_dict(content["state_dict"])
    return embed(model.eval(), crops)


def test_a_loader_that_drops_the_classifier_loads_everything_else(
    handed: Path, crops: torch.Tensor, wanted: NDArray[np.float32]
) -> None:
    loaded = load_as_backend(handed / "model.pth.tar", ("classifier",), seed=1)
    assert loaded.skipped == []
    assert loaded.missing == []
    assert np.abs(embed(loaded.model, crops) - wanted).max() < 1e-5


def test_a_loader_that_drops_fc_too_has_a_random_embedding_layer(
    handed: Path, crops: torch.Tensor, wanted: NDArray[np.float32]
) -> None:
    """All else is loaded. No state dict can mend it: what this loader makes of one depends on the seed."""
    first, second = (load_as_backend(handed / "model.pth.tar", ("classifier", "fc"), seed=seed) for seed in (1, 2))
    assert first.skipped == []
    assert first.missing == []
    found = [embed(loaded.model, crops) for loaded in (first, second)]
    assert np.abs(found[0] - wanted).max() > 0.01
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_the_line_of_the_readme_mends_such_a_loader(
    handed: Path, crops: torch.Tensor, wanted: NDArray[np.float32]
) -> None:
    readme = next(parent / "README.md" for parent in handed.parents if (parent / "README.md").is_file())
    line = re.search(r"`(model\.fc\.load_state_dict\(.*\))`", readme.read_text(encoding="utf-8"))
    assert line is not None
    model = load_as_backend(handed / "model.pth.tar", ("classifier", "fc"), seed=3).model
    exec(line[1], {"model": model, "checkpoint": torch.load(handed / "model.pth.tar", weights_only=True)})
    assert np.abs(embed(model, crops) - wanted).max() < 1e-5


def test_the_shipped_file_mends_such_a_loader_and_loads_without_one(
    handed: Path, crops: torch.Tensor, wanted: NDArray[np.float32], tmp_path: Path
) -> None:
    """In a process that has no watchme, from another working directory."""
    torch.save(crops, tmp_path / "crops.pt")
    script = f"""
import sys
sys.modules["watchme"] = None
sys.path.insert(0, {str(handed)!r})
import numpy, torch
from load_reid import build_model, load_reid, restore_embedding
path, crops = {str(handed / "model.pth.tar")!r}, torch.load("crops.pt", weights_only=True)
state = torch.load(path, weights_only=True)["state_dict"]
dropped = build_model("osnet_ibn_x1_0", 1, loss="triplet", pretrained=False).eval()
dropped.load_state_dict({{k: v for k, v in state.items() if not k.startswith(("classifier", "fc"))}}, strict=False)
restore_embedding(dropped, path)
with torch.no_grad():
    numpy.save("found.npy", numpy.stack([dropped(crops).numpy(), load_reid(path)(crops).numpy()]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for found in np.load(tmp_path / "found.npy"):
        assert np.abs(unit(found) - wanted).max() < 1e-5


def test_the_formats_that_carry_their_own_weights_need_no_loader(
    handed: Path, crops: torch.Tensor, wanted: NDArray[np.float32]
) -> None:
    module: Any = torch.jit.load(str(handed / "model.torchscript"))  # type: ignore[no-untyped-call]
    assert np.abs(embed(module, crops) - wanted).max() < 1e-5
    session = onnxruntime.InferenceSession(str(handed / "model.onnx"))
    assert np.abs(unit(session.run(None, {"images": crops.numpy()})[0]) - wanted).max() < 1e-5


def test_the_guide_s_evaluation_loads_it_whole(handed: Path) -> None:
    """`model.load_state_dict(checkpoint['state_dict'])` with OSNET_NUM_CLASSES outputs, as the training guide does."""
    env = next(parent / ".env.osnet" for parent in handed.parents if (parent / ".env.osnet").is_file())
    values = dict(line.split("=") for line in env.read_text(encoding="utf-8").splitlines())
    assert handed.as_posix().endswith(values["OSNET_SAVE_DIR"])
    model = models.build_model("osnet_ibn_x1_0", int(values["OSNET_NUM_CLASSES"]), pretrained=False)
    model.load_state_dict(torch.load(handed / "model.pth.tar", weights_only=True)["state_dict"])
