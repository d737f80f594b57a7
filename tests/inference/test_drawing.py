"""Boxes and labels: inside the picture, beside the face, readable in every colour."""

import numpy as np
import pytest

from watchme.inference.drawing import colour_of, draw_people, label_place
from watchme.inference.match_pictures import mark

LABEL, PICTURE = (30, 12), (200, 100)  # width, height


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((40, 50, 60, 80), (40, 38)),  # above
        ((40, 5, 60, 80), (40, 80)),  # below, where there is no room above
        ((40, 5, 60, 95), (40, 5)),  # within, where there is none below either
        ((190, 50, 200, 80), (170, 38)),  # not beyond the right edge
        ((-9, 50, 20, 80), (0, 38)),
        ((40, -30, 60, 130), (40, 0)),
    ],
)
def test_a_label_hides_no_face_and_stays_in_the_picture(box: tuple[int, ...], place: tuple[int, int]) -> None:
    assert label_place(box, LABEL, PICTURE) == place


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance as WCAG 2.1 defines it."""
    shares = np.array(colour) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_numbers_are_readable_in_every_colour() -> None:
    """A contrast of 4.5 to 1, WCAG's for text, between the colours that are drawn."""
    boxes, score = np.array([[20, 60, 60, 140]], np.float32), np.array([0.9], np.float32)
    for person in range(-1, 60):
        drawn = draw_people(np.full((150, 1600, 3), 128, np.uint8), boxes, score, np.array([person]))
        colours = {tuple(each) for each in drawn[20:56, :60].reshape(-1, 3).tolist()}
        assert colours & {(0, 0, 0), (255, 255, 255)}
        ink = (0, 0, 0) if (0, 0, 0) in colours else (255, 255, 255)
        light, dark = sorted((luminance(ink), luminance(colour_of(person))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, person


def test_a_box_does_not_cross_out_the_label_of_another() -> None:
    first, second = [20, 60, 60, 140], [24, 40, 64, 140]
    scores = np.array([0.9, 0.8], np.float32)
    image = np.full((150, 100, 3), 128, np.uint8)
    alone = draw_people(image, np.array([first], np.float32), scores[:1], np.array([1]))
    both = draw_people(image, np.array([first, second], np.float32), scores, np.array([1, 2]))
    label = np.abs(alone.astype(int) - 128).sum(axis=2) > 0
    label[58:] = False
    assert label.sum() > 50
    np.testing.assert_array_equal(both[label], alone[label])


def test_the_mark_of_a_match_at_the_edge_is_whole() -> None:
    """Its text is as wide at the right edge as elsewhere."""
    image = np.zeros((100, 300, 3), np.uint8)

    def area(box: tuple[int, int, int, int]) -> int:
        texts = [np.asarray(mark(image, box, text), int) for text in ("0.987", "")]
        return int((np.abs(texts[0] - texts[1]).sum(axis=2) > 0).sum())

    assert area((290, 50, 300, 90)) == pytest.approx(area((100, 50, 110, 90)), abs=25)
