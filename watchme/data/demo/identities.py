"""Identities of the demo world: bodies, clothes and bags of its pedestrians."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from watchme.data.demo.canvas import Colour

Pattern = Literal["plain", "stripes", "checks", "logo"]
Bottom = Literal["trousers", "shorts", "skirt"]
Bag = Literal["none", "backpack", "handbag"]
Hair = Literal["short", "long", "bald"]
Hat = Literal["none", "cap", "beanie"]

GARMENTS: tuple[Colour, ...] = (
    (196, 44, 46),  # red
    (232, 128, 40),  # orange
    (236, 204, 66),  # yellow
    (66, 148, 72),  # green
    (40, 94, 84),  # bottle green
    (70, 150, 206),  # sky blue
    (44, 64, 148),  # blue
    (30, 36, 66),  # navy
    (124, 66, 146),  # purple
    (228, 132, 166),  # pink
    (118, 80, 54),  # brown
    (206, 184, 150),  # beige
    (236, 236, 232),  # white
    (140, 142, 146),  # grey
    (36, 36, 40),  # black
)
SKINS: tuple[Colour, ...] = ((246, 214, 190), (226, 178, 144), (190, 136, 102), (134, 90, 64), (88, 58, 44))
HAIRS: tuple[Colour, ...] = ((28, 24, 22), (70, 46, 30), (128, 84, 46), (206, 168, 96), (150, 60, 32), (168, 166, 164))


@dataclass(frozen=True)
class Person:
    """One identity: everything about a pedestrian that no camera and no step changes."""

    stature: float  # body height over that of an average adult
    girth: float  # body width over that of an average adult
    skin: Colour
    hair: Hair
    hair_colour: Colour
    top: Colour
    top_alt: Colour  # the pattern's second colour
    pattern: Pattern
    sleeves: float  # share of the arm the sleeve covers, 0 to 1
    hem: float  # how far the top reaches below the hips, in body heights
    bottom: Bottom
    bottom_colour: Colour
    shoes: Colour
    bag: Bag
    bag_colour: Colour
    hat: Hat
    hat_colour: Colour


def draw_identities(count: int, rng: np.random.Generator) -> list[Person]:
    """Draw people who differ in their clothes, though many share one garment with somebody else.

    No two of them wear the same pattern and colours above and below, as long as the palette has unused pairs.
    """
    people: list[Person] = []
    worn: set[tuple[int, Pattern, int]] = set()
    outfits: list[tuple[int, Pattern, int]] = []
    for _ in range(count):
        outfit = _draw_outfit(rng, outfits)
        for _ in range(50):
            if outfit not in worn:
                break
            outfit = _draw_outfit(rng, outfits)
        worn.add(outfit)
        outfits.append(outfit)
        people.append(_dress(outfit, rng))
    return people


def _draw_outfit(rng: np.random.Generator, others: list[tuple[int, Pattern, int]]) -> tuple[int, Pattern, int]:
    patterns: tuple[Pattern, ...] = ("plain", "stripes", "checks", "logo")
    top = int(rng.integers(len(GARMENTS)))
    pattern = patterns[int(rng.choice(len(patterns), p=(0.4, 0.25, 0.15, 0.2)))]
    below = int(rng.integers(len(GARMENTS)))
    # Shared garments make people hard to distinguish by a single colour.
    if others and rng.random() < 0.4:
        other = others[int(rng.integers(len(others)))]
        if rng.random() < 0.5:
            top, pattern = other[0], other[1]
        else:
            below = other[2]
    return top, pattern, below


def _dress(outfit: tuple[int, Pattern, int], rng: np.random.Generator) -> Person:
    top, pattern, below = outfit
    bottoms: tuple[Bottom, ...] = ("trousers", "shorts", "skirt")
    bags: tuple[Bag, ...] = ("none", "backpack", "handbag")
    hairs: tuple[Hair, ...] = ("short", "long", "bald")
    hats: tuple[Hat, ...] = ("none", "cap", "beanie")
    alternatives = [i for i in range(len(GARMENTS)) if _distance(GARMENTS[i], GARMENTS[top]) > 130]
    return Person(
        stature=float(rng.uniform(0.88, 1.08)),
        girth=float(rng.uniform(0.85, 1.3)),
        skin=SKINS[int(rng.integers(len(SKINS)))],
        hair=hairs[int(rng.choice(3, p=(0.5, 0.4, 0.1)))],
        hair_colour=HAIRS[int(rng.integers(len(HAIRS)))],
        top=_vary(GARMENTS[top], rng),
        top_alt=_vary(GARMENTS[alternatives[int(rng.integers(len(alternatives)))]], rng),
        pattern=pattern,
        sleeves=float(rng.choice((0.35, 1.0), p=(0.4, 0.6))),
        hem=float(rng.choice((0.0, 0.02, 0.14), p=(0.4, 0.4, 0.2))),
        bottom=bottoms[int(rng.choice(3, p=(0.6, 0.2, 0.2)))],
        bottom_colour=_vary(GARMENTS[below], rng),
        shoes=_vary(GARMENTS[int(rng.choice((0, 7, 10, 12, 13, 14)))], rng),
        bag=bags[int(rng.choice(3, p=(0.4, 0.35, 0.25)))],
        bag_colour=_vary(GARMENTS[int(rng.integers(len(GARMENTS)))], rng),
        hat=hats[int(rng.choice(3, p=(0.65, 0.2, 0.15)))],
        hat_colour=_vary(GARMENTS[int(rng.integers(len(GARMENTS)))], rng),
    )


def _distance(one: Colour, other: Colour) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def _vary(colour: Colour, rng: np.random.Generator) -> Colour:
    # No two dyes are quite the same: people in "the same" colour can still be distinguished up close.
    red, green, blue = (int(np.clip(channel + rng.integers(-10, 11), 0, 255)) for channel in colour)
    return red, green, blue
