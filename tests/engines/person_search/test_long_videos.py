"""Videos of any length: memory does not grow with them, and a run that is killed goes on where it was."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig
from PIL import Image

from inference.drawn import film, picture
from inference.untrained import write_detector, write_embedder

Composed = Callable[..., DictConfig]
PROJECT = Path(__file__).resolve().parents[3]
SIZE = (360, 640)

# The most memory that a process has taken; getrusage would count that of the process that started it, too.
PEAK = """
import atexit
peak = lambda: next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
atexit.register(lambda: print(int(peak()) / 1024))
"""
PIECES = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from inference.drawn import Knowing, Sighted
from watchme.inference.multi_object_tracking import find_persons, find_tracks
from watchme.inference.pipeline import Settings
from watchme.inference.record import record_sightings
from watchme.inference.visualization import Wanted, show
from watchme.inference.sightings import SightingsWriter, load, merge
from watchme.inference.sources import open_source
source, folder = open_source(sys.argv[1]), Path(sys.argv[2])
writer = SightingsWriter(folder, {{"source": "x"}})
record_sightings(source, Sighted(), Knowing(), writer, Settings())
tracks = find_tracks(writer.chunks())
merge(folder, tracks.of, find_persons(tracks, 0.65)[tracks.of - 1])
show(source, load(folder), folder, Wanted(True, False, "mp4", 8, 1))
"""
COMMAND = "import runpy; runpy.run_path({script!r}, run_name='__main__')"

on_linux = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells the most memory taken")


def peak_mb(code: str, *arguments: str) -> float:
    """The most memory that a process of its own takes."""
    done = subprocess.run([sys.executable, "-c", PEAK + code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return float(done.stdout.split()[-1])


@on_linux
def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    """Ten times the frames; kept in memory, those of 600 more would take 35 MB."""
    code = PIECES.format(tests=str(PROJECT / "tests"))
    peaks = []
    for count in (60, 660):
        source = film(tmp_path / f"{count}.avi", count, (120, 160))
        peaks.append(peak_mb(code, str(source), str(tmp_path / str(count))))
    assert peaks[1] - peaks[0] < 15


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, composed_config: Composed) -> list[str]:
    """Untrained models that find two people in a frame."""
    root = tmp_path_factory.mktemp("untrained")
    detector = write_detector(root / "detector", composed_config, people=2, size=96)
    reid = write_embedder(root / "reid.pth", "osnet_x0_25")
    Image.fromarray(picture(20)).save(root / "query.png")
    return [
        f"detector={detector}",
        f"reid={reid}",
        f"query={root / 'query.png'}",
        "train.device=cpu",
        "find.threshold=0.5",
    ]


def command(mode: str, models: list[str], source: Path, folder: Path, *overrides: str) -> list[str]:
    """Arguments of train.py."""
    own = [each for each in models if mode == "find" or not each.startswith(("query=", "find."))]
    return [f"mode={mode}", f"source={source}", *own, f"hydra.run.dir={folder}", *overrides]


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["predict", "find"])
def test_memory_does_not_grow_from_one_minute_to_five(
    mode: str, tmp_path: Path, own_cache: Path, models: list[str]
) -> None:
    """train.py over 640x360 at 10 frames a second; 2,400 more frames would take 1.7 GB if they were kept."""
    code = COMMAND.format(script=str(PROJECT / "train.py"))
    peaks = {}
    for minutes in (1, 5):
        source = film(tmp_path / f"{minutes}.mp4", 600 * minutes, SIZE, fps=10)
        arguments = command(mode, models, source, tmp_path / f"run{minutes}")
        peaks[minutes] = peak_mb(code, *arguments)
    print(f"\nmode={mode}: " + ", ".join(f"{minutes} min {peak:.0f} MB" for minutes, peak in peaks.items()))
    # An untrained detector makes thousands of tracks, which are compared in pairs, up to 3,000 of them: 150 MB.
    assert peaks[5] - peaks[1] < 300


# ---- Killed


def contents(folder: Path) -> dict[str, bytes]:
    """What a run has found."""
    kinds = ("predictions.jsonl", "matches.json", "matches.csv", "embeddings.npz", "drawn.mp4", "*.jpg")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().replace(str(folder).encode(), b"")
        for kind in kinds
        for path in sorted(folder.rglob(kind))
    }


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("mode", ["predict", "find"])
def test_killed_at_any_moment_it_goes_on_where_it_was(
    mode: str, tmp_path: Path, own_cache: Path, models: list[str]
) -> None:
    """train.py killed twice and run again, by the same command and by train.resume=<folder>; as without a kill."""
    source = film(tmp_path / "street.avi", 1200, SIZE)
    script = str(PROJECT / "train.py")

    def start(*arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    first = command(mode, models, source, killed)
    again = [f"train.resume={killed}"] if mode == "predict" else first
    for arguments in (first, again):
        process = start(*arguments)
        known = len(list(killed.glob("sightings/chunk_*.npz")))
        while process.poll() is None and len(list(killed.glob("sightings/chunk_*.npz"))) <= known:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not list(killed.glob("embeddings.npz"))
    assert start(*again).wait() == 0
    assert start(*command(mode, models, source, whole)).wait() == 0
    assert contents(killed) == contents(whole) != {}
    if mode == "predict":
        assert start(*again).wait() == 0  # has finished; nothing is changed
