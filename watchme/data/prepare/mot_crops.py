"""Tracks of people -> crops in Market-1501 naming: identity = track, camera = sequence. See mot.py for the rules."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from watchme.core.errors import DataError
from watchme.core.progress import Progress
from watchme.data.bad_records import Faults, Source
from watchme.data.formats.market1501 import FOLDERS
from watchme.data.formats.mot_challenge import Clip, Row, read_rows
from watchme.data.images import read_image
from watchme.data.pixel_boxes import pixels
from watchme.data.prepare import conversion_summary as summary
from watchme.data.prepare import options as sources
from watchme.data.prepare import splits
from watchme.data.prepare.output_dir import Folder, filling
from watchme.data.prepare.reid import counts_of

_TRAIN, _QUERY, _GALLERY = FOLDERS
_QUALITY = 95
_LATER = (
    "Nobody is seen by two cameras here: in test sequences the last third of each track counts as another camera. "
    "Compare models by it; it is easier than finding people in other cameras."
)


@dataclass(frozen=True)
class Crop:
    """One picture of one person."""

    clip: int  # number of the sequence, from 1, in the order of their names
    row: Row  # where the person is
    pid: int = 0  # identity, from 1
    camera: int = 0  # from 1
    part: int = 1  # the `s` of the name: 2 for what counts as a second camera
    folder: str = _TRAIN  # which of the three folders it belongs to

    @property
    def name(self) -> str:
        """Its path in the dataset."""
        return f"{self.folder}/{self.pid:04d}_c{self.camera}s{self.part}_{self.row.frame:06d}_01.jpg"


_Tracks = dict[tuple[str, int], list[Crop]]  # (sequence, or "" where ids are shared; track) -> its crops


def run(
    arguments: argparse.Namespace, clips: Sequence[Clip], source: Source, classes: set[int], visible: float, every: int
) -> int:
    """Make the dataset.

    Raises:
        DataError: If records are bad, or there are too few people to train or test on.
    """
    sources.refuse_inside(arguments.out, arguments.folders)
    shared = arguments.ids == "shared"
    least, height = arguments.min_crops or 4, arguments.min_height or 64
    rows = {
        clip.name: [
            row for row in read_rows(clip, source)[0] if _is_wanted(row, classes, visible, height, every, source)
        ]
        for clip in clips
    }
    source.faults.settle()
    tracks = _tracks(rows, source, max(least, 2), shared=shared)
    tested = _tested(arguments, [clip.name for clip in clips], tracks)
    crops = [crop for own in _named(tracks, tested, len(clips), shared) for crop in own]
    if middle := sum(map(len, tracks.values())) - len(crops):
        source.dropped["crops of the middle third of test tracks"] += middle
    _require(crops, shared)
    for crop in crops:
        path = clips[crop.clip - 1].frames[crop.row.frame]
        source.mark(clips[crop.clip - 1].name, path.name, path.stat().st_size if path.is_file() else 0)
    if not shared:
        source.notes.append(_LATER)
    options = {
        "to": "reid",
        "classes": sorted(classes),
        "min_visibility": visible,
        "every": every,
        "ids": "shared" if shared else "own",
        "min_height": height,
        "min_crops": max(least, 2),
        "test": sorted(str(key[1]) for key in tested) if shared else sorted({key[0] for key in tested}),
    }
    with filling(
        arguments.out, "mot", options, source.fingerprint, copy=arguments.copy, sources=sources.named(arguments)
    ) as folder:
        expected = {crop.name for crop in crops}
        folder.refuse_strangers(expected, _TRAIN, _QUERY, _GALLERY)
        written = _write(crops, clips, folder, source)
        folder.write("identities.csv", _table(tracks, tested))
        manifest = folder.finish(
            splits=counts_of(crop.name for crop in written),
            cameras=_cameras(written, clips),
            **summary.left_out(source),
            notes=source.notes,
        )
    columns = {name: name for name in ("images", "identities", "cameras")}
    summary.print_summary(folder, manifest, source, columns)
    summary.print_next_commands("market1501", folder.root, model="osnet_ibn")
    return 0


def _tracks(rows: Mapping[str, Sequence[Row]], source: Source, least: int, *, shared: bool) -> _Tracks:
    """The crops of each identity, of those that have at least `least`."""
    found: _Tracks = {}
    for number, (name, own) in enumerate(rows.items(), 1):
        for row in own:
            found.setdefault(("" if shared else name, row.track), []).append(Crop(number, row))
    kept = {key: crops for key, crops in sorted(found.items()) if len(crops) >= least}
    if short := len(found) - len(kept):
        source.dropped[f"identities with fewer than {least} crops"] += short
    return kept


def _is_wanted(row: Row, classes: set[int], visible: float, height: int, every: int, source: Source) -> bool:
    """Whether a row becomes a crop; counts why not."""
    reason = ""
    if row.kind not in classes:
        reason = "boxes of other classes"
    elif row.ignored:
        reason = "pedestrians flagged as ignored"
    elif (row.frame - 1) % every:
        reason = f"boxes in frames between each {every}. one"
    elif row.visibility < visible:
        reason = f"people less visible than {visible:g}"
    elif row.box[3] - row.box[1] < height:
        reason = f"people less tall than {height} px"
    if reason:
        source.dropped[reason] += 1
    return not reason


def _tested(arguments: argparse.Namespace, names: Sequence[str], tracks: _Tracks) -> set[tuple[str, int]]:
    """The identities that are tested on: those of test sequences, or some of them where ids are shared."""
    share = 0.3 if arguments.test_share is None else arguments.test_share
    if not share and not arguments.test_sequences:
        raise DataError("re-identification needs people to test on: give --test-share above 0, or --test-sequences")
    if arguments.ids == "shared":
        if arguments.test_sequences:
            raise DataError("with --ids shared people are divided, not sequences; give --test-share")
        if len(names) < 2:
            raise DataError("--ids shared needs two sequences at least: a sequence is a camera")
        return {key for key in tracks if splits.hashed(f"identity {key[1]}") < share}
    if arguments.test_sequences and arguments.test_share:
        raise DataError("--test-sequences and --test-share both make the test split; give one of them")
    if arguments.test_sequences:
        places: Mapping[str, str] = splits.by_name(names, (), arguments.test_sequences)
    else:
        places = splits.by_rank(names, 0.0, share)
    return {key for key in tracks if places[key[0]] == "test"}


def _named(tracks: _Tracks, tested: set[tuple[str, int]], cameras: int, shared: bool) -> Iterable[list[Crop]]:
    """The crops of each identity with their identity, camera and folder."""
    for pid, (key, crops) in enumerate(tracks.items(), 1):
        own = [
            replace(crop, pid=pid, camera=crop.clip)
            for crop in sorted(crops, key=lambda one: (one.clip, one.row.frame))
        ]
        if key not in tested:
            yield own
        elif shared:
            yield _across(own)
        else:
            yield _later(own, cameras)


def _later(crops: list[Crop], cameras: int) -> list[Crop]:
    """A track's first third, one of it as the query, and its last third as if another camera had seen it."""
    third = max(1, len(crops) // 3)
    first = [replace(crop, folder=_GALLERY) for crop in crops[:third]]
    last = [replace(crop, folder=_GALLERY, part=2, camera=crop.camera + cameras) for crop in crops[-third:]]
    first[third // 2] = replace(first[third // 2], folder=_QUERY)
    return first + last


def _across(crops: list[Crop]) -> list[Crop]:
    """One query of each camera for which another camera's picture stays in the gallery."""
    views: dict[int, list[Crop]] = {}
    for crop in crops:
        views.setdefault(crop.camera, []).append(replace(crop, folder=_GALLERY))
    for camera, view in views.items():
        # The other camera keeps one beside its own query.
        if any(other != camera and len(found) > 1 for other, found in views.items()):
            view[len(view) // 2] = replace(view[len(view) // 2], folder=_QUERY)
    return [crop for view in views.values() for crop in view]


def _require(crops: Sequence[Crop], shared: bool) -> None:
    """Raise a DataError if nobody could be trained or tested on."""
    people = len({crop.pid for crop in crops if crop.folder == _TRAIN})
    if people < 2:
        raise DataError(
            f"{people} identities are left to train on, two are needed at least; lower --min-visibility, --min-height, "
            "--min-crops, --every or --test-share"
        )
    if not any(crop.folder == _QUERY for crop in crops):
        hint = "nobody of the test split is seen by two cameras" if shared else "nobody is left in the test sequences"
        raise DataError(f"there is nobody to search for: {hint}; lower --min-visibility, --min-crops or --every")


def _write(crops: Sequence[Crop], clips: Sequence[Clip], folder: Folder, source: Source) -> list[Crop]:
    """Cut out what is not there yet; each frame is decoded once. Returns the crops that exist."""
    frames: dict[tuple[int, int], list[Crop]] = {}
    for crop in crops:
        frames.setdefault((crop.clip, crop.row.frame), []).append(crop)
    late = Faults(source.faults.skip)
    written = []
    for (number, frame), own in Progress("frames", len(frames), "frame").over(sorted(frames.items())):
        path = clips[number - 1].frames[frame]
        missing = [crop for crop in own if not folder.has(crop.name)]
        if missing:
            try:
                image = read_image(path)
            except DataError as error:
                if not late.skip:
                    raise DataError(f"{error}\n--skip-bad leaves it out and counts it") from None
                late.found.append(str(error))
                continue
            for crop in missing:
                area = pixels(crop.row.box, image.size)
                if area is None:
                    source.dropped["boxes without area in the image"] += 1
                    own.remove(crop)
                    continue
                cut = image.crop(area)
                folder.make(crop.name, partial(cut.save, format="JPEG", quality=_QUALITY))
        written += own
    source.faults.found += late.found
    return written


def _cameras(crops: Sequence[Crop], clips: Sequence[Clip]) -> dict[str, str]:
    """What each camera number stands for."""
    found = {crop.camera: clips[crop.clip - 1].name + ", last third of each track" * (crop.part - 1) for crop in crops}
    return {f"c{camera}": found[camera] for camera in sorted(found)}


def _table(tracks: _Tracks, tested: set[tuple[str, int]]) -> str:
    """Which track an identity is, as csv."""
    lines = ["identity,sequence,track,split,boxes"]
    for pid, (key, crops) in enumerate(tracks.items(), 1):
        lines.append(f"{pid},{key[0]},{key[1]},{'test' if key in tested else 'train'},{len(crops)}")
    return "\n".join(lines) + "\n"
