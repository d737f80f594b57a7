"""The settings files of a hand-off, read by settings classes like the backend's: each refuses fields of another one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from watchme.engines.osnet.export_formats import Trained
from watchme.engines.osnet.handoff_text import OsnetHandoffText
from watchme.engines.osnet.model import ReidNet
from watchme.engines.yolo.handoff_text import YoloHandoffText
from watchme.export import handoff
from watchme.export.handoff_text import HandoffText


class Settings(BaseSettings):
    """Its configuration but for the name of the file, which a test puts into its own folder."""

    model_config = SettingsConfigDict(env_file_encoding="utf-8", extra="forbid")


class KeySetting(Settings):
    ENCRYPTION_KEY: str = "Insert Key"


class YOLOSettings(Settings):
    YOLO_MODEL_PATH: str = "src/infrastructure/yolo/client/best.pt"
    YOLO_EPOCHS: int = 50
    YOLO_BATCH_SIZE: int = 16
    YOLO_LEARNING_RATE: float = 0.001
    YOLO_DROPOUT: float = 0.0
    YOLO_LOSS_FUNC: str = "AdamW"
    YOLO_DEVICE: int | str = 0
    YOLO_DATASET_PATH: str = "src/dataset/yolo/dataset.yml"
    YOLO_PROJECT_PATH: str = "src/dataset/yolo/runs/detect"


class OSNetSettings(Settings):
    OSNET_EPOCHS: int = 150
    OSNET_LEARNING_RATE: float = 0.0003
    OSNET_WEIGHT_DECAY: float = 5e-4
    OSNET_BATCH_SIZE: int = 64
    OSNET_OPTIMIZER: str = "adam"
    OSNET_NUM_CLASSES: int = 751
    OSNET_IMG_HEIGHT: int = 256
    OSNET_IMG_WIDTH: int = 128
    OSNET_NUM_INSTANCES: int = 4
    OSNET_MARGIN: float = 0.3
    OSNET_STEPSIZE: int = 20
    OSNET_EVAL_FREQ: int = 30
    OSNET_PRINT_FREQ: int = 10
    OSNET_DATASET_NAME: str = "dukemtmcreid"
    OSNET_ROOT_DIR: str = "src/dataset/osnet"
    OSNET_SAVE_DIR: str = "src/dataset/osnet/saved_results"


READERS: dict[str, type[Settings]] = {".env": KeySetting, ".env.yolo": YOLOSettings, ".env.osnet": OSNetSettings}


@pytest.fixture
def backend(tmp_path: Path, typed_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A backend's folder with the lines of both hand-offs appended as their READMEs say."""
    for name in (*YOLOSettings.model_fields, *OSNetSettings.model_fields):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "backend"
    root.mkdir()
    (root / ".env").write_text("ENCRYPTION_KEY=c2VjcmV0\n")
    (root / ".env.yolo").write_text("YOLO_EPOCHS=9\nYOLO_MODEL_PATH=old.pt\n")
    (root / ".env.osnet").write_text("OSNET_EPOCHS=9\n")
    yolo, osnet = typed_config("model=yolo11n"), typed_config("model=osnet_ibn")
    trained = Trained(ReidNet("osnet_x0_25", 5).eval(), "osnet_x0_25", 5, None, False, True)
    texts: list[HandoffText] = [
        YoloHandoffText(yolo, {0: "person"}, Path("best.pt"), 640),
        OsnetHandoffText(osnet, trained, Path("best.pt")),
    ]
    for number, text in enumerate(texts):
        run = tmp_path / f"run{number}"
        run.mkdir()
        with handoff.staged(run, "src/place") as made:
            made.env, made.env_file = text.env(), text.env_file
            made.write("Models", text.sections(), text.preprocessing(), "# card\n")
        readme = (run / "handoff" / "README.md").read_text()
        assert f"cat {text.env_file} >> <backend>/{text.env_file}" in readme
        with (root / text.env_file).open("a") as file:
            file.write((run / "handoff" / text.env_file).read_text())
    assert torch.is_tensor(trained.net.backbone.fc[0].weight)
    return root


def test_each_settings_class_reads_its_own_file(backend: Path) -> None:
    settings = {name: reader(_env_file=backend / name) for name, reader in READERS.items()}  # type: ignore[call-arg]
    assert settings[".env.yolo"].YOLO_MODEL_PATH.endswith("/best.pt")  # type: ignore[attr-defined]
    assert settings[".env.yolo"].YOLO_EPOCHS == 9  # type: ignore[attr-defined]
    assert settings[".env.osnet"].OSNET_NUM_CLASSES == 5  # type: ignore[attr-defined]
    assert settings[".env.osnet"].OSNET_SAVE_DIR == "src/infrastructure/osnet/client"  # type: ignore[attr-defined]


def test_one_file_for_all_would_break_the_backend_at_import(backend: Path) -> None:
    everything = "".join((backend / name).read_text() for name in READERS)
    (backend / ".env").write_text(everything)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        KeySetting(_env_file=backend / ".env")  # type: ignore[call-arg]
