"""What can be wrong with a dataset: each kind of problem, how bad it is, and why.

An error spoils a training: it ends at once or later, learns what is wrong, or its measured result means nothing. A
warning costs accuracy or hints at a mistake, and training goes on. A note is for information; sound datasets have them.
"""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Kind:
    """A kind of problem."""

    name: str  # as it is shown, and stands in issues.csv
    severity: Severity  # how bad it is
    why: str  # what it does to a training, and what to do about it, in one sentence or two


_KINDS = (
    # Both tasks
    Kind("unreadable image", "error", "It ends a training or is left out of it. Repair or remove it."),
    Kind("image not read", "warning", "Its format is not read: it is left out of training. Convert it to JPEG or PNG."),
    Kind("unreadable dataset", "error", "It cannot be listed, so that nothing else of it was looked at."),
    Kind("image in two splits", "error", "What is measured was learned before. Keep it in one of them."),
    Kind("near-duplicate in two splits", "warning", "Practically one picture: the measured result is too good."),
    Kind("duplicate image", "warning", "The same content twice in a split counts twice. Keep one."),
    # Detection
    Kind("missing split", "error", "Training needs images of train and val, or of train, query and gallery."),
    Kind("split without boxes", "error", "There is nothing to learn from, or nothing to measure."),
    Kind("test split without boxes", "warning", "The best weights are not measured on it."),
    Kind("malformed label", "error", "Training ends at it. Each line is `class cx cy w h`, as shares of the image."),
    Kind("label without image", "warning", "Nothing is done with it; the image may be misnamed, or be missing."),
    Kind("box outside the frame", "warning", "It reaches over the image's edge by more than 1 %. Clip it."),
    Kind("box of no area", "warning", "Narrower than a pixel: it can be neither learned nor found. Remove it."),
    Kind("duplicate box", "warning", "Two boxes of one class on one thing: no detector finds both. Remove one."),
    Kind("class without boxes", "warning", "Its name is in data.yaml, and training never sees it."),
    Kind("rare class", "note", "Less than a hundredth of the most frequent class."),
    Kind("no label file", "note", "It counts as an image without anyone, by the convention of the format."),
    Kind("empty label file", "note", "It counts as an image without anyone."),
    # Re-identification
    Kind(
        "name breaks the convention",
        "error",
        "Training ends at it. Name it 0001_c1s1_000151_01.jpg, or see dataset.pattern.",
    ),
    Kind("identity in train and test", "error", "The person that is searched for was learned. Keep one in one split."),
    Kind("too few identities", "error", "Training needs two people at least."),
    Kind("no query has a match", "error", "No query is seen by another camera in the gallery: nothing is measured."),
    Kind("one picture, two identities", "error", "The same content is labelled as two people. One label is wrong."),
    Kind("query in gallery by another camera", "error", "A query finds its own picture, which is counted as found."),
    Kind("query without a match", "warning", "Its person is in the gallery by no other camera: it is not counted."),
    Kind(
        "identity left out",
        "warning",
        "0 means distractor, below it junk. If people are numbered from 0: dataset.first_id=0.",
    ),
    Kind("identity with one image", "warning", "It has no second image to compare with; metric losses learn nothing."),
    Kind("odd size", "warning", "Less than 12 pixels wide or high, or of no shape of a person."),
    Kind("identity with one camera", "note", "It teaches nothing about the change from one camera to another."),
    Kind("image left out", "note", "Junk (identity -1): not used."),
    Kind("other file", "note", "No image by its suffix: ignored."),
)
KINDS = {kind.name: kind for kind in _KINDS}
ORDER = {kind.name: (SEVERITIES.index(kind.severity), place) for place, kind in enumerate(_KINDS)}
