"""Checks of a re-ID dataset: identities, cameras, queries, image sizes, duplicates."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from watchme.data.check.database import Facts, Finding
from watchme.data.check.duplicates import equal_files, near_duplicates
from watchme.data.check.scan import scan_images

# Pixels; smaller crops show no person. Height over width of a person upright, seated or on a bicycle, with a margin.
_LEAST_SIDE = 12
_SHAPES = (0.8, 8.0)


def check_people(facts: Facts) -> None:
    """Probe every image listed by `dataset`, `role` and `side` (0 for train, 1 for test), and record what is wrong."""
    scan_images(facts)
    facts.add(
        Finding("unreadable image", *row)
        for row in facts.rows("SELECT split, path, '', fault FROM images WHERE fault <> ''")
    )
    check_names(facts)
    facts.add(_sizes(facts))
    facts.add(_same_files(facts))
    facts.add(near_duplicates(facts))


def check_names(facts: Facts) -> None:
    """The short form: identities, cameras and splits alone; no image is opened."""
    facts.db.execute("CREATE INDEX by_person ON images (dataset, role, pid, cam)")
    facts.add(_both_sides(facts))
    facts.add(_trained(facts))
    facts.add(_queries(facts))


def _both_sides(facts: Facts) -> Iterator[Finding]:
    """One finding a person. Where identities of train and test are numbered apart, there is none by construction."""
    for dataset, pid, trained in facts.rows(
        "SELECT dataset, pid, COUNT(*) FROM images WHERE role = 'train' AND pid > 0 GROUP BY dataset, pid "
        "HAVING EXISTS (SELECT 1 FROM images AS test WHERE test.dataset = images.dataset "
        "AND test.role IN ('query', 'gallery') AND test.pid = images.pid)"
    ):
        place = "FROM images WHERE dataset = ? AND pid = ? AND side = ?"
        tested = facts.scalar(f"SELECT COUNT(*) {place}", dataset, pid, 1)
        (split, path), (other_split, other) = (
            next(facts.rows(f"SELECT split, path {place} ORDER BY id LIMIT 1", dataset, pid, side)) for side in (1, 0)
        )
        detail = f"identity {pid} has {trained} images in train and {tested} in query and gallery"
        yield Finding("identity in train and test", split, path, "", detail, other, other_split)


def _trained(facts: Facts) -> Iterator[Finding]:
    for dataset, people in facts.rows(
        "SELECT dataset, COUNT(DISTINCT CASE WHEN pid > 0 THEN pid END) FROM images WHERE role = 'train' "
        "GROUP BY dataset"
    ):
        if people < 2:
            split = facts.scalar("SELECT split FROM images WHERE dataset = ? AND role = 'train'", dataset)
            yield Finding("too few identities", split, detail=f"{people} in the training set")
    for split, path, pid, images, cam in facts.rows(
        "SELECT split, MIN(path), pid, COUNT(*), MIN(cam) FROM images WHERE role = 'train' AND pid > 0 "
        "GROUP BY dataset, pid HAVING COUNT(*) = 1 OR COUNT(DISTINCT cam) = 1"
    ):
        if images == 1:
            yield Finding("identity with one image", split, path, "", f"identity {pid}")
        else:
            yield Finding(
                "identity with one camera", split, path, "", f"identity {pid}: {images} images, camera {cam + 1}"
            )


def _queries(facts: Facts) -> Iterator[Finding]:
    unmatched = (
        "FROM images AS query WHERE role = 'query' AND dataset = ? AND NOT EXISTS (SELECT 1 FROM images AS other WHERE "
        "other.dataset = query.dataset AND other.role = 'gallery' AND other.pid = query.pid AND other.cam <> query.cam)"
    )
    for dataset, split, queries in facts.rows(
        "SELECT dataset, MIN(split), COUNT(*) FROM images WHERE role = 'query' GROUP BY dataset"
    ):
        if facts.scalar(f"SELECT COUNT(*) {unmatched}", dataset) == queries:
            yield Finding("no query has a match", split, detail=f"none of {queries} queries")
            continue
        for path, pid, cam in facts.rows(f"SELECT path, pid, cam {unmatched} ORDER BY id", dataset):
            detail = f"identity {pid} is in the gallery by no camera but {cam + 1}"
            yield Finding("query without a match", split, path, "", detail)


def _sizes(facts: Facts) -> Iterator[Finding]:
    for split, path, width, height in facts.rows(
        "SELECT split, path, width, height FROM images WHERE fault = '' "
        "AND (MIN(width, height) < ? OR height < ? * width OR height > ? * width) ORDER BY id",
        _LEAST_SIDE,
        *_SHAPES,
    ):
        yield Finding("odd size", split, path, "", f"{width} x {height} pixels")


def _same_files(facts: Facts) -> Iterator[Finding]:
    for group in equal_files(facts):
        for place, one in enumerate(group[1:], 1):
            if (found := _same_file(one, group[:place])) is not None:
                yield found


def _same_file(one: dict[str, Any], earlier: list[dict[str, Any]]) -> Finding | None:
    """What is wrong with one file that has the content of others: the worst that holds."""

    def finding(kind: str, other: dict[str, Any], detail: str) -> Finding:
        return Finding(kind, one["split"], one["path"], "", detail, other["path"], other["split"])

    for other in earlier:
        if other["side"] != one["side"]:
            return finding(
                "image in two splits", other, f"the same file content as {other['split']}/{Path(other['path']).name}"
            )
    for other in earlier:
        if other["dataset"] == one["dataset"] and other["pid"] != one["pid"]:
            detail = (
                f"identity {one['pid']} here, identity {other['pid']} in {other['split']}/{Path(other['path']).name}"
            )
            return finding("one picture, two identities", other, detail)
    for other in earlier:
        if other["split"] != one["split"] and other["cam"] != one["cam"] and other["dataset"] == one["dataset"]:
            where = f"{other['split']}/{Path(other['path']).name}"
            detail = f"camera {one['cam'] + 1} here, camera {other['cam'] + 1} in {where}"
            return finding("query in gallery by another camera", other, detail)
    for other in earlier:
        # A query that is in the gallery by its own camera is left out of its ranking, by the protocol.
        if other["split"] == one["split"] or other["dataset"] != one["dataset"]:
            return finding("duplicate image", other, f"the same file content as {Path(other['path']).name}")
    return None
