"""MOTChallenge sequences as a person-search set: tracks are identities, sequences are cameras.

An identity belongs to its sequence unless `shared_ids` says that numbers are the same in all. Pedestrians who count
are the people; pedestrians who are flagged or hidden, and what MOT's own evaluation ignores, are neither right nor
wrong: persons on vehicles, static persons, distractors, reflections, crowds.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

from watchme.data.bad_records import Faults, Source
from watchme.data.formats.mot_challenge import CROWD, PEDESTRIAN, Clip, Row, find_clips, read_rows
from watchme.data.person_search.search_set import Frame, SearchSet, choose_queries, validated

_IGNORED = (2, 7, 8, 12, CROWD)
_MOT20_VEHICLE = 6  # which MOT20's own evaluation ignores, too


def read(root: Path, *, frame_step: int | None, min_visibility: float, shared_ids: bool) -> SearchSet:
    """Read all sequences in `root`. See `read_search_set`.

    Raises:
        DataError: If there is no sequence, or records are bad: all of them are named.
    """
    source = Source(Faults(fix="repair these records, or move their sequences elsewhere"))
    clips = find_clips([root], source)
    rows = {clip.name: read_rows(clip, source)[0] for clip in clips}
    source.faults.settle()
    assumed = [*source.notes, *(f"left out: {count} {reason}" for reason, count in sorted(source.dropped.items()))]
    names: dict[int, str] = {}
    # 0 stands for unknown people, so a set that counts from 0 is moved by one.
    first = min(row.track for own in rows.values() for row in own)
    frames: list[Frame] = []
    for camera, clip in enumerate(clips, 1):
        offset = (0 if first else 1) if shared_ids else camera * 1_000_000
        for row in rows[clip.name]:
            if not shared_ids:
                names[row.track + offset] = f"{clip.name}/{row.track}"
            elif offset:
                names[row.track + offset] = str(row.track)
        if frame_step is None and clip.frame_rate is None:
            assumed.append(f"{clip.name} has no seqinfo.ini with a frameRate: 25 frames a second are assumed")
        step = frame_step or max(1, round(clip.frame_rate or 25))
        frames += _frames(clip, rows[clip.name], camera, step, min_visibility, offset)
    return validated(SearchSet(root, "mot", frames, choose_queries(frames), names=names, assumed=tuple(assumed)))


def _frames(clip: Clip, rows: list[Row], camera: int, step: int, min_visibility: float, offset: int) -> list[Frame]:
    neither = (*_IGNORED, _MOT20_VEHICLE) if clip.name.startswith("MOT20-") else _IGNORED
    people: dict[int, list[Row]] = defaultdict(list)
    ignored: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row.box[2] <= row.box[0] or row.box[3] <= row.box[1]:
            continue
        if row.kind == PEDESTRIAN and not row.ignored and row.visibility >= min_visibility:
            people[row.frame].append(row)
        elif row.kind == PEDESTRIAN or row.kind in neither:
            ignored[row.frame].append(row)
    return [
        Frame(
            clip.frames[number],
            np.array([row.box for row in people[number]], np.float64).reshape(-1, 4),
            np.array([row.track + offset for row in people[number]], np.int64),
            camera,
            np.array([row.box for row in ignored[number]], np.float64).reshape(-1, 4),
        )
        for number in sorted(clip.frames)[::step]
    ]
