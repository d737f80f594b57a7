"""Photos that a split must not tear apart: frames of a video, augmented copies of one image, files of equal content."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from watchme.data.bad_records import Source
from watchme.data.prepare import splits
from watchme.data.prepare.yolo_writer import Photo

_ROBOFLOW = re.compile(r"\.rf\.[0-9a-zA-Z]{8,}$")
_BLOCKS = 20  # of a video that is divided
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
    elif splits.look_like_video(stems.values()):
        groups = _videos(stems, source)
    else:
        groups = stems
    return _joined(groups)


def _joined(groups: Mapping[Path, str]) -> dict[Path, str]:
    """Groups that share a file's content, as one."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for image in groups:
        sizes[image.stat().st_size].append(image)
    leader: dict[str, str] = {}

    def lead(group: str) -> str:
        while group in leader:
            group = leader[group]
        return group

    first: dict[bytes, str] = {}
    for image in (image for images in sizes.values() if len(images) > 1 for image in images):
        digest = hashlib.blake2b(image.read_bytes(), digest_size=16).digest()
        one, other = lead(first.setdefault(digest, groups[image])), lead(groups[image])
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
            groups[image] = f"{video} block {place * _BLOCKS // len(own):02d}"
    source.notes.append(
        f"names look like frames of {len(videos)} video{'s' * (len(videos) > 1)}: they are divided in blocks of "
        "neighbouring frames. The frames at the edges of blocks are all but equal: other videos test better"
    )
    return groups
