"""ultralytics kept to itself: `train.py` in a process of its own, every write and every connection watched."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from yolo.conftest import Tiny
from yolo.world import Recorder, Trained, draw_dataset, train

HERE = Path(__file__).resolve().parent
USERS_SETTINGS = {"settings_version": "0.0.8", "sync": True, "mlflow": True, "wandb": True, "tensorboard": True}


@dataclass
class Watched:
    root: Path
    process: "subprocess.CompletedProcess[str]"

    def notes(self, *events: str) -> list[str]:
        lines = [line.split("\t") for line in (self.root / "notes").read_text().splitlines()]
        return [note for event, note in lines if event in events]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """One epoch and the evaluations of a user who has settings and keys of his own, on an empty machine."""
    root = tmp_path_factory.mktemp("watched")
    for name in ("home", "cwd", "tmp"):
        (root / name).mkdir()
    draw_dataset(root / "data", {"train": 8, "val": 4, "test": 4})
    settings = root / "home" / ".config" / "Ultralytics" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(USERS_SETTINGS))
    (root / "cwd" / "mark").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "YOLO_", "MPL"))}
    environment |= {
        "HOME": str(root / "home"),
        "TMPDIR": str(root / "tmp"),
        "WATCHME_CACHE": str(root / "cache"),
        "ULTRALYTICS_API_KEY": "ul_" + "0" * 40,
        "COMET_API_KEY": "none",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    arguments = (
        f"dataset=person_detection dataset.root={root / 'data'} dataset.image_size=64 train.epochs=1 "
        f"train.batch_size=4 train.device=cpu model.weights=null hydra.run.dir={root / 'run'}"
    )
    process = subprocess.run(
        [sys.executable, str(HERE / "watched.py"), str(root / "notes"), *arguments.split()],
        cwd=root / "cwd",
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return Watched(root, process)


def test_no_connection_is_made_nor_looked_up(watched: Watched) -> None:
    assert watched.notes("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request") == []
    assert watched.notes("socket.sendto") == []


def test_nothing_is_written_outside_the_run_folder_and_the_cache(watched: Watched) -> None:
    own = (watched.root / "run", watched.root / "cache", watched.root / "tmp", Path("/dev"))
    written = watched.notes("open", "os.mkdir", "os.rename", "os.symlink", "os.link", "os.remove", "shutil.copyfile")
    assert len(written) > 20, "the watch works"
    assert [path for path in written if not Path(path).is_relative_to("/dev") and not _below(path, own)] == []
    assert list((watched.root / "tmp").iterdir()) == [], "what was in the system's temporary folder is gone"
    assert [path.name for path in (watched.root / "cwd").iterdir()] == ["mark"]


def _below(path: str, folders: tuple[Path, ...]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def test_users_settings_and_dataset_are_as_they_were(watched: Watched) -> None:
    settings = watched.root / "home" / ".config" / "Ultralytics" / "settings.json"
    assert json.loads(settings.read_text()) == USERS_SETTINGS
    assert [path for path in (watched.root / "home").rglob("*") if path.is_file()] == [settings]
    suffixes = {path.suffix for path in (watched.root / "data").rglob("*") if path.is_file()}
    assert suffixes == {".jpg", ".txt", ".yaml"}


def test_no_pip_and_no_other_tracker(watched: Watched) -> None:
    assert [command for command in watched.notes("subprocess.Popen") if "pip" in command] == []
    names = {path.name for path in (watched.root / "run").rglob("*")}
    assert names.isdisjoint({"mlruns", "runs", "wandb", "dvclive"})
    assert not [name for name in names if name.startswith("events.out.tfevents")]


def test_output_without_a_terminal_is_plain_lines(watched: Watched) -> None:
    out = watched.process.stdout
    assert "\r" not in out
    assert "\x1b" not in out
    assert "%|" not in out, "no bar"
    assert "epoch   1/1  loss" in out
    assert len(out.splitlines()) < 40
    assert out.splitlines()[-1].endswith("run")


def test_what_ultralytics_says_is_in_the_log(watched: Watched) -> None:
    log = (watched.root / "run" / "train.log").read_text()
    assert "YOLO11n summary" in log
    assert "\x1b" not in log


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_of_ultralytics_are_for_terminals(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.utils.tqdm import TQDM

    from watchme.engines.yolo.isolation import isolate

    with monkeypatch.context() as patch:
        patch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
        isolate()
        assert TQDM(total=3).disable == (not terminal)
    isolate()


def test_a_font_is_listed_once(tmp_path: Path) -> None:
    """Where ultralytics was imported before, as by somebody's notebook, runs of one process share matplotlib's list."""
    from matplotlib.font_manager import fontManager

    from watchme.engines.yolo.isolation import _provide_fonts

    kept = list(fontManager.ttflist)
    try:
        for _ in range(2):
            _provide_fonts(tmp_path, Path("of the user"))
        added = [Path(entry.fname).name for entry in fontManager.ttflist if entry not in kept]
        assert added == ["Arial.ttf", "Arial.Unicode.ttf"]
    finally:
        fontManager.ttflist[:] = kept


def test_runs_in_one_process_leave_no_state_to_each_other(
    short: Trained, tiny: Tiny, typed_config: object, tmp_path: Path
) -> None:
    """YOLO, OSNet, YOLO: the second YOLO run is the first once more."""
    import torch

    from watchme.engines.osnet.train import train as train_osnet

    assert callable(typed_config)
    state = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), Path.cwd())
    variables = set(os.environ)
    world = "dataset.demo.identities=8 dataset.demo.cameras=2 dataset.demo.frame_size=96 dataset.demo.walk_length=2"
    sizes = "dataset.height=64 dataset.width=32 train.batch_size=4 train.num_instances=2 train.epochs=1 train.workers=0"
    config = typed_config("model=osnet_x0_25", *world.split(), *sizes.split(), "train.device=cpu")
    (tmp_path / "osnet").mkdir()
    train_osnet(Recorder(tmp_path / "osnet").job(config))
    torch.use_deterministic_algorithms(state[1])
    again = train(tiny("train.epochs=3"), Recorder(tmp_path / "yolo"))
    assert repr(again.recorder.metrics()) == repr(short.recorder.metrics())
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), Path.cwd()) == state
    assert {name for name in set(os.environ) - variables if name.startswith(("WATCHME", "YOLO"))} == set()


def test_the_choice_of_gpus_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it sets CUDA_VISIBLE_DEVICES after torch has looked, as before 8.4.87, `train.device=1` is GPU 0."""
    from ultralytics.utils.torch_utils import select_device

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    select_device("cpu", verbose=False)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"
