"""Division into train, val and test: photos by a hash of their name, sequences and identities as a whole."""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from watchme.core.errors import DataError

SPLITS = ("train", "val", "test")
# Names that end in a counter behind letters, as those of a video's frames: frame_000123, cam2-0007.
_COUNTED = re.compile(r"^(?P<stem>.*[A-Za-z].*?)[_\-. ]?(?P<number>\d{3,})$")


def hashed(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def by_hash(group: str, val: float, test: float) -> str:
    """The split of a group of photos: always the same one, whatever is added to the dataset."""
    place = hashed(group)
    return "test" if place < test else "val" if place < test + val else "train"


def by_rank(groups: Iterable[str], val: float, test: float) -> dict[str, str]:
    """Splits of a few groups (sequences), in the order of their hashes; a share above 0 gets at least one.

    Raises:
        DataError: If there are fewer groups than splits.
    """
    ordered = sorted(set(groups), key=hashed)
    counts = {
        name: max(1, round(share * len(ordered))) if share else 0 for name, share in (("test", test), ("val", val))
    }
    if sum(counts.values()) >= len(ordered):
        raise DataError(
            f"{len(ordered)} sequence{'s' * (len(ordered) != 1)} cannot be divided into train"
            f"{', val' * bool(val)}{', test' * bool(test)}: a sequence is never torn apart, since neighbouring frames "
            "are all but equal.\n    A share of 0 does without a split"
        )
    names = ["test"] * counts["test"] + ["val"] * counts["val"]
    return {group: names[place] if place < len(names) else "train" for place, group in enumerate(ordered)}


def by_name(groups: Sequence[str], val: Sequence[str], test: Sequence[str]) -> dict[str, str]:
    """Splits of sequences of which those of val and test are named; all others are for training.

    Raises:
        DataError: If one is named that is not there, or twice, or none is left to train on.
    """
    known = set(groups)
    for name in (*val, *test):
        if name not in known:
            raise DataError(f"there is no sequence {name}; the source has {', '.join(sorted(known))}")
    if both := sorted(set(val) & set(test)):
        raise DataError(f"{', '.join(both)} cannot be both in val and in test")
    if not known - set(val) - set(test):
        raise DataError("no sequence is left to train on; name fewer in --val-sequences and --test-sequences")
    return {group: "test" if group in test else "val" if group in val else "train" for group in groups}


def grouping(rule: str | None) -> Callable[[str, str], str]:
    """`group(folder, stem)` -> the group that an image belongs to, by `--group-by`.

    None: each image is its own; `folder`: images of a folder belong together; else a regular expression that is
    searched in the name: what it matches (its first group, if it has one) is the group.

    Raises:
        DataError: If it is not a regular expression.
    """

    def path(folder: str, stem: str) -> str:
        return stem if folder in ("", ".") else f"{folder}/{stem}"

    if rule is None:
        return path
    if rule == "folder":
        return lambda folder, stem: "" if folder == "." else folder
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise DataError(f"--group-by: {rule!r} is not a regular expression: {error}") from None

    def group(folder: str, stem: str) -> str:
        name = path(folder, stem)
        match = pattern.search(name)
        if match is None:
            return name
        return match[1] if pattern.groups and match[1] is not None else match[0]

    return group


def numbered(stem: str) -> tuple[str, int]:
    """The video and the number of a frame by its name; the name itself and 0 where it has no number."""
    match = _COUNTED.match(stem)
    return (match["stem"], int(match["number"])) if match else (stem, 0)


def look_like_video(names: Iterable[str]) -> list[str]:
    """Two neighbouring names if most of the names (without suffix) are counted through as a video's frames are."""
    numbers: dict[str, set[int]] = {}
    total = 0
    for name in names:
        total += 1
        if match := _COUNTED.match(name):
            numbers.setdefault(match["stem"], set()).add(int(match["number"]))
    steps = {stem: _step(sorted(found)) for stem, found in numbers.items() if len(found) > 1}
    pairs = Counter({stem: count for stem, (_, count) in steps.items()})
    if total < 10 or pairs.total() < total / 2:
        return []
    stem = pairs.most_common(1)[0][0]
    step = steps[stem][0]
    first = next(number for number in sorted(numbers[stem]) if number + step in numbers[stem])
    return [f"{stem}...{first}", f"{stem}...{first + step}"]


def _step(counted: Sequence[int]) -> tuple[int, int]:
    """The most frequent distance of neighbouring numbers, as of every tenth frame, and how often it is there."""
    gaps = Counter(after - before for before, after in itertools.pairwise(counted))
    step, count = gaps.most_common(1)[0]
    return (step, count) if count > 2 else (1, gaps[1])


def require(counts: Mapping[str, int], shares: Mapping[str, float]) -> None:
    """Raise a DataError if a split that is needed got no image."""
    for split in SPLITS:
        if counts.get(split, 0):
            continue
        if split == "test" and not shares.get("test"):
            continue
        total = sum(counts.values())
        raise DataError(
            f"no image falls to {split}: of {total} images train has {counts.get('train', 0)}, val "
            f"{counts.get('val', 0)}, test {counts.get('test', 0)}.\n    Change --val-share or --test-share "
            "(a photo's split is the hash of its name, so that few photos may all fall to one side), "
            "--test-share 0 does without a test split"
        )
