"""Photos that a split must not tear apart: frames of a video, copies of an image that are augmented, equal or alike."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from watchme.data.bad_records import Source
from watchme.data.check.database import Facts
from watchme.data.check.duplicates import near_duplicates
from watchme.data.check.scan import scan_images
from watchme.data.prepare import splits
from watchme.data.prepare.yolo_writer import Photo

_ROBOFLOW = re.compile(r"\.rf\.[0-9a-zA-Z]{8,}$")
# Label Studio puts a part of a UUID before the name of each file (data_import/models.py: upload_name_generator).
_LABEL_STUDIO = re.compile(r"^[0-9a-f]{8}-(?=.)")
_BLOCKS = 20  # of a video that is divided
_BLOCK = " block "
_LEAST = 10  # groups of which splits can be made
_FEW = 50  # groups; a split of a few by their hashes may stay empty


def divide(
    photos: Sequence[Photo], group_by: str | None, shares: Mapping[str, float], source: Source
) -> dict[Path, str | None]:
    """Image -> split, with what belongs together in one."""
    groups = _groups(photos, group_by, source)
    together = set(groups.values())
    if len(together) < _FEW:
        places = splits.by_rank(together, shares["val"], shares["test"])
        return {image: places[group] for image, group in groups.items()}
    return {image: splits.by_hash(group, shares["val"], shares["test"]) for image, group in groups.items()}


def _groups(photos: Sequence[Photo], group_by: str | None, source: Source) -> dict[Path, str]:
    """Image -> what a split must not tear apart."""
    stems = {photo.image: _ROBOFLOW.sub("", Path(photo.name).stem) for photo in photos}
    if group_by is not None:
        rule = splits.grouping(group_by)
        groups = {image: rule(str(image.parent), stem) for image, stem in stems.items()}
    else:
        stems = {image: _LABEL_STUDIO.sub("", stem) for image, stem in stems.items()}
        groups = _videos(stems, source) if splits.look_like_video(stems.values()) else stems
    equal = list(_equal(groups))
    apart = _joined(groups, equal)
    # Neighbouring blocks of a video would all become one.
    alike = [] if any(_BLOCK in group for group in groups.values()) else list(_alike(photos))
    if not alike:
        return apart
    together = _joined(groups, [*equal, *alike])
    some = f"{len(alike):,} image{'s look' if len(alike) > 1 else ' looks'} all but like another one with people there"
    if len(set(together.values())) < _LEAST <= len(set(apart.values())):
        source.notes.append(f"warning: {some}, so that nothing could be divided: they are, and validation is too good")
        return apart
    source.notes.append(f"{some}: they are in one split with it")
    return together


def _equal(images: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Pairs of files of equal content."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for image in filter(Path.is_file, images):
        sizes[image.stat().st_size].append(image)
    first: dict[bytes, Path] = {}
    for image in (image for own in sizes.values() if len(own) > 1 for image in own):
        digest = hashlib.blake2b(image.read_bytes(), digest_size=16).digest()
        yield first.setdefault(digest, image), image


def _alike(photos: Sequence[Photo]) -> Iterator[tuple[Path, Path]]:
    """Pairs of images that a check would call near-duplicates: by their looks and the places of their people."""
    people = {str(photo.image): photo.people for photo in photos}
    with Facts() as facts:
        facts.list_images("", "train", 0, ((path, None, None, None) for path in people))
        scan_images(facts)
        rows = list(facts.rows("SELECT id, path, width, height FROM images WHERE fault = ''"))
        for image, path, width, height in rows:
            boxes = [
                (image, 0, 0, (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, high)
                for left, top, right, bottom in people[path]
                for high in ((bottom - top) / height,)
            ]
            facts.db.executemany("INSERT INTO boxes VALUES (?, ?, ?, ?, ?, ?, ?)", boxes)
            # Each is a side of its own, since here nobody knows yet which split it will be in.
            facts.db.execute("UPDATE images SET side = id, boxes = ? WHERE id = ?", (len(boxes), image))
        for one in near_duplicates(facts, with_boxes=True):
            yield Path(one.other), Path(one.file)


def _joined(groups: Mapping[Path, str], pairs: Iterable[tuple[Path, Path]]) -> dict[Path, str]:
    """Groups of images that belong together, as one."""
    leader: dict[str, str] = {}

    def lead(group: str) -> str:
        while group in leader:
            group = leader[group]
        return group

    for early, late in pairs:
        one, other = lead(groups[early]), lead(groups[late])
        if one != other:
            leader[other] = one
    return {image: lead(group) for image, group in groups.items()}


def _videos(stems: Mapping[Path, str], source: Source) -> dict[Path, str]:
    """Frames by their video, or by blocks of frames where there are too few videos to divide."""
    counted = {image: splits.numbered(stem) for image, stem in stems.items()}
    videos = {video for video, _ in counted.values()}
    if len(videos) >= 3:
        source.notes.append(f"names look like frames of {len(videos)} videos: each is in one split")
        return {image: video for image, (video, _) in counted.items()}
    groups: dict[Path, str] = {}
    for video in videos:
        own = sorted((number, image) for image, (name, number) in counted.items() if name == video)
        for place, (_, image) in enumerate(own):
            groups[image] = f"{video}{_BLOCK}{place * _BLOCKS // len(own):02d}"
    source.notes.append(
        f"names look like frames of {len(videos)} video{'s' * (len(videos) > 1)}: they are divided in blocks of "
        "neighbouring frames. The frames at the edges of blocks are all but equal: other videos test better"
    )
    return groups
