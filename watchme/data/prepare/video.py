"""Videos -> frames."""

import argparse
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from watchme.core.errors import DataError
from watchme.core.progress import Progress
from watchme.data.bad_records import Faults, Source
from watchme.data.prepare import conversion_summary as summary
from watchme.data.prepare import options as sources
from watchme.data.prepare.output_dir import Folder, filling

HELP = "videos to frames, to be labelled"
USAGE = "VIDEO ... [--fps F | --every N] --out FOLDER [options]"
DESCRIPTION = """\
Write frames of videos as images, named by the video and the frame's number from 0, a thousand numbers a folder:
out/shop/000/shop_000250.jpg. Frames have no labels: this is what a labelling tool takes.

Frames in a row are all but equal: take few of them, and keep those of a video in one split when labels come back,
e.g. by `prepare coco labels.json --group-by '^(.+)_\\d+$'`."""
EXAMPLES = """\
examples:
    python -m watchme.data.prepare video shop.mp4 door.mp4 --fps 1 --out frames
    python -m watchme.data.prepare video shop.mp4 --every 50 \\
        --format png --out frames"""
_SHARD = 1000


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "videos", type=Path, nargs="+", metavar="VIDEO", help="any that OpenCV reads: mp4, avi, mkv, ..."
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--every", type=sources.whole, metavar="N", help="take each N-th frame")
    pace.add_argument("--fps", type=_rate, metavar="F", help="take F frames a second, 0.2 is one in 5 s (default: 1)")
    parser.add_argument("--format", choices=("jpg", "png"), default="jpg", help="of the images (default: jpg)")
    parser.add_argument("--quality", type=sources.whole, default=95, metavar="Q", help="of jpg, to 100 (default: 95)")
    sources.add_common(parser, copy=False)


def run(arguments: argparse.Namespace) -> int:
    if arguments.quality > 100:
        raise DataError(f"--quality {arguments.quality}: expected 1 to 100")
    source = Source(Faults(arguments.skip_bad))
    names: dict[str, Path] = {}
    for video in arguments.videos:
        if not video.is_file():
            raise DataError(f"there is no video {video}")
        if (other := names.setdefault(video.stem, video)) is not video:
            raise DataError(f"{other} and {video} have one name, and so would their frames; rename one")
        source.mark(video.name, video.stat().st_size, video.stat().st_mtime_ns)
    every = arguments.every
    fps = None if every else arguments.fps or 1.0
    options = {
        "every": every,
        "fps": fps,
        "format": arguments.format,
        "quality": arguments.quality if arguments.format == "jpg" else None,
    }
    with filling(arguments.out, "video", options, source.fingerprint, sources=sources.named(arguments)) as folder:
        done: dict[str, Any] = folder.before.get("splits", {}) if folder.same_source else {}
        counts = {}
        for name, video in names.items():
            counts[name] = _cut(name, video, every, fps, arguments, folder, source, done.get(name))
        manifest = folder.finish(splits=counts, **summary.left_out(source))
    summary.print_summary(folder, manifest, source, {"images": "images", "frames": "frames"}, heading="video")
    images = shlex.quote(str(folder.root))
    print(
        "next: label the frames, export them as COCO json, and keep each video in one split\n"
        f"    python -m watchme.data.prepare coco <labels.json> --images {images} --out <out> \\\n"
        "        --group-by '^(.+)_\\d+$'"
    )
    return 0


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"expected frames a second above 0, found {text!r}")
    return value


def _cut(
    name: str,
    video: Path,
    every: int | None,
    fps: float | None,
    arguments: argparse.Namespace,
    folder: Folder,
    source: Source,
    done: dict[str, int] | None,
) -> dict[str, int]:
    """Write the frames of one video; returns how many it has, and how many were taken."""
    import cv2

    if done and sum(1 for _ in (folder.root / name).rglob(f"{name}_*.{arguments.format}")) == done["images"]:
        folder.kept += done["images"]
        return done
    capture = cv2.VideoCapture(str(video))
    counts: Counter[str] = Counter(images=0, frames=0)
    try:
        if not capture.isOpened():
            raise DataError(f"{video} cannot be read as a video")
        rate, announced = float(capture.get(cv2.CAP_PROP_FPS)), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if fps is not None and not 0 < rate < 1e4:
            raise DataError(f"{video} does not say how many frames a second it has; give --every N instead of --fps")
        quality = [cv2.IMWRITE_JPEG_QUALITY, arguments.quality] if arguments.format == "jpg" else []
        progress = Progress(name, max(announced, 0) or None, "frame")
        # Seeking is inexact in many formats; going through frame by frame is not.
        for number, _ in enumerate(progress.over(iter(capture.grab, False))):
            counts["frames"] += 1
            wanted = number % every == 0 if every else _is_due(number, rate, fps or 1.0)
            if not wanted:
                continue
            target = f"{name}/{number // _SHARD:03d}/{name}_{number:06d}.{arguments.format}"
            if not folder.has(target):
                good, pixels = capture.retrieve()
                good, data = cv2.imencode(f".{arguments.format}", pixels, quality) if good else (False, None)
                if not good or data is None:
                    source.faults.add(video, f"frame {number} cannot be decoded")
                    source.faults.settle()
                    continue
                folder.write(target, data.tobytes())
            counts["images"] += 1
    finally:
        capture.release()
    # Containers announce a few frames more than they hold; a file that was cut off lacks many.
    if counts["frames"] < max(1, 0.95 * announced):
        source.faults.add(video, f"ends after {counts['frames']} frames, {announced} are announced: it may be cut off")
        if source.faults.found and not source.faults.skip:
            raise DataError(f"{source.faults.found[-1]}\n--skip-bad keeps what it has")
    return dict(counts)


def _is_due(number: int, rate: float, fps: float) -> bool:
    """Whether a frame is the first one at or after a multiple of 1 / fps seconds."""
    return number == 0 or int(number * fps / rate + 1e-9) > int((number - 1) * fps / rate + 1e-9)
