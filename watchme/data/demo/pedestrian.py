"""Draws one pedestrian of the demo world in one pose."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from watchme.data.demo.canvas import Canvas, Point, Sprite, shade
from watchme.data.demo.identities import Person

# Lengths are in body heights, the crown of the head at y = 0 and the soles of a standing person at y = 1.
SHOULDER_Y, HIP_Y = 0.185, 0.50
THIGH, SHIN, UPPER_ARM, FOREARM = 0.235, 0.225, 0.155, 0.15
FAR_SIDE = 0.82


@dataclass(frozen=True)
class Pose:
    """How a pedestrian is seen."""

    yaw: float  # heading in radians; 0 comes toward the camera, pi / 2 walks to the right, pi walks away
    phase: float  # place in the walking cycle, radians


def draw_figure(person: Person, pose: Pose, height: float) -> Sprite:
    """Draw a pedestrian, anchored at the sole of the lower foot, below the hips.

    `height` is that of an average adult at this place, pixels; the person's stature scales it.
    """
    scale = height * person.stature
    sheet = Canvas(-0.55, 0.55, -0.06, 1.06, scale)
    forward = math.sin(pose.yaw)
    hips = [(side * 0.048 * person.girth * _breadth(pose), HIP_Y) for side in (-1, 1)]
    shoulders = [(side * 0.108 * person.girth * _breadth(pose), SHOULDER_Y + 0.02) for side in (-1, 1)]
    # Walking to the right, the left arm and leg are the far ones.
    far = 0 if forward > 0 else 1
    if person.bag == "backpack" and math.cos(pose.yaw) > -0.5:
        _backpack(sheet, person, pose)
    _arm(sheet, person, pose, shoulders[far], far, FAR_SIDE)
    soles = [
        _leg(sheet, person, pose, hips[far], far, FAR_SIDE),
        _leg(sheet, person, pose, hips[1 - far], 1 - far, 1.0),
    ]
    if person.bottom == "skirt":
        _skirt(sheet, person, pose)
    _torso(sheet, person, pose)
    if person.bag == "backpack" and math.cos(pose.yaw) <= -0.5:
        _backpack(sheet, person, pose)
    hand = _arm(sheet, person, pose, shoulders[1 - far], 1 - far, 1.0)
    if person.bag == "handbag":
        _handbag(sheet, person, hand)
    _head(sheet, person, pose)
    sprite = sheet.sprite(max(soles))
    return Sprite(_light(sprite.image), sprite.anchor)


def _breadth(pose: Pose) -> float:
    """Return the share of a body's breadth that shows: all of it from the front, less from the side."""
    return 0.55 + 0.45 * abs(math.cos(pose.yaw))


def _swing(pose: Pose, side: int) -> float:
    return math.sin(pose.phase + (math.pi if side else 0.0))


def _leg(sheet: Canvas, person: Person, pose: Pose, hip: Point, side: int, light: float) -> float:
    """Draw a leg and its shoe; return the y of the sole."""
    forward, swing = math.sin(pose.yaw), _swing(pose, side)
    thigh = 0.45 * swing * forward
    # The knee bends while the leg is carried forward; seen from the front that only shortens the leg.
    lifted = max(0.0, math.cos(pose.phase + (math.pi if side else 0.0)))
    shin = thigh - 0.7 * lifted * forward
    shorten = 1.0 - 0.12 * lifted * (1.0 - abs(forward))
    knee = (hip[0] + THIGH * math.sin(thigh), hip[1] + THIGH * math.cos(thigh) * shorten)
    ankle = (knee[0] + SHIN * math.sin(shin), knee[1] + SHIN * math.cos(shin) * shorten)
    skin, cloth = shade(person.skin, light), shade(person.bottom_colour, light)
    wide = person.girth
    toe = (ankle[0] + 0.06 * forward, ankle[1] + 0.022)
    sheet.limb(knee, ankle, 0.035 * wide, 0.026 * wide, cloth if person.bottom == "trousers" else shade(skin, 0.96))
    sheet.limb(ankle, toe, 0.028, 0.022, shade(person.shoes, light))
    if person.bottom == "shorts":
        sheet.limb(hip, knee, 0.05 * wide, 0.034 * wide, skin)
        low = (hip[0] + 0.85 * (knee[0] - hip[0]), hip[1] + 0.85 * (knee[1] - hip[1]))
        sheet.limb(hip, low, 0.058 * wide, 0.05 * wide, cloth)
    else:
        sheet.limb(hip, knee, 0.055 * wide, 0.04 * wide, cloth if person.bottom == "trousers" else shade(skin, 0.96))
    return toe[1] + 0.022


def _skirt(sheet: Canvas, person: Person, pose: Pose) -> None:
    waist = 0.085 * person.girth * _breadth(pose)
    sway = 0.02 * math.sin(pose.phase) * math.sin(pose.yaw)
    hem = waist + 0.05
    sheet.polygon(
        [(-waist, HIP_Y - 0.04), (waist, HIP_Y - 0.04), (hem + sway, 0.745), (sway, 0.755), (sway - hem, 0.745)],
        person.bottom_colour,
    )


def _torso(sheet: Canvas, person: Person, pose: Pose) -> None:
    breadth = person.girth * _breadth(pose)
    shoulder, waist, hem = 0.125 * breadth, 0.098 * breadth, HIP_Y + 0.03 + person.hem
    flare = waist + 0.12 * person.hem
    outline: list[Point] = [
        (-0.035, 0.145),
        (0.035, 0.145),
        (shoulder * 0.82, SHOULDER_Y - 0.018),
        (shoulder, SHOULDER_Y + 0.02),
        (shoulder * 0.98, 0.28),
        (waist, 0.40),
        (flare, hem),
        (-flare, hem),
        (-waist, 0.40),
        (-shoulder * 0.98, 0.28),
        (-shoulder, SHOULDER_Y + 0.02),
        (-shoulder * 0.82, SHOULDER_Y - 0.018),
    ]
    sheet.limb((0, 0.12), (0, 0.155), 0.032, 0.036, shade(person.skin, 0.9))
    sheet.polygon(outline, person.top)
    if person.pattern == "plain":
        return
    cloth = Canvas(-0.55, 0.55, -0.06, 1.06, sheet.scale)
    cloth.box(-0.3, 0.1, 0.3, 0.8, person.top)
    if person.pattern in ("stripes", "checks"):
        for step in range(12):
            y = 0.17 + step * 0.052
            cloth.box(-0.3, y, 0.3, y + 0.026, person.top_alt)
    if person.pattern == "checks":
        for step in range(-5, 6):
            x = step * 0.052
            cloth.box(x - 0.01, 0.1, x + 0.012, 0.8, shade(person.top_alt, 0.75))
    if person.pattern == "logo":
        # Prints are on the chest; the back shows a smaller one, the side a part of it.
        size = 0.075 if math.cos(pose.yaw) > -0.2 else 0.05
        centre = 0.06 * math.sin(pose.yaw)
        cloth.ellipse((centre, 0.29), size * _breadth(pose), size, person.top_alt)
        cloth.box(centre - 0.035, 0.28, centre + 0.035, 0.30, person.top)
    sheet.overlay(cloth, outline)


def _arm(sheet: Canvas, person: Person, pose: Pose, shoulder: Point, side: int, light: float) -> Point:
    """Draw an arm; return the place of the hand."""
    forward = math.sin(pose.yaw)
    swing = -_swing(pose, side) * forward
    outward = (1 if side else -1) * 0.16 * (1.0 - abs(forward))
    upper = 0.5 * swing + outward
    lower = upper + 0.35 * forward - 0.5 * outward
    elbow = (shoulder[0] + UPPER_ARM * math.sin(upper), shoulder[1] + UPPER_ARM * math.cos(upper))
    hand = (elbow[0] + FOREARM * math.sin(lower), elbow[1] + FOREARM * math.cos(lower))
    wide = 0.5 + 0.5 * person.girth
    sleeve, skin = shade(person.top, light * 0.92), shade(person.skin, light)
    sheet.limb(elbow, hand, 0.027 * wide, 0.021 * wide, sleeve if person.sleeves > 0.5 else skin)
    sheet.ellipse(hand, 0.023, 0.026, skin)
    if person.sleeves > 0.5:
        sheet.limb(shoulder, elbow, 0.036 * wide, 0.029 * wide, sleeve)
    else:
        sheet.limb(shoulder, elbow, 0.03 * wide, 0.026 * wide, skin)
        cuff = (shoulder[0] + 0.6 * (elbow[0] - shoulder[0]), shoulder[1] + 0.6 * (elbow[1] - shoulder[1]))
        sheet.limb(shoulder, cuff, 0.037 * wide, 0.036 * wide, sleeve)
    return hand


def _backpack(sheet: Canvas, person: Person, pose: Pose) -> None:
    behind = -0.115 * person.girth * math.sin(pose.yaw)
    half = 0.055 + 0.04 * abs(math.cos(pose.yaw))
    if math.cos(pose.yaw) > 0.5:
        half = 0.128 * person.girth  # from the front only its rims show past the body
    sheet.rounded(behind - half, 0.19, behind + half, 0.43, 0.03, person.bag_colour)
    if math.cos(pose.yaw) <= -0.5:
        sheet.rounded(behind - half * 0.7, 0.32, behind + half * 0.7, 0.41, 0.02, shade(person.bag_colour, 0.75))


def _handbag(sheet: Canvas, person: Person, hand: Point) -> None:
    x, y = hand
    sheet.limb((x, y), (x - 0.03, y + 0.05), 0.008, 0.008, shade(person.bag_colour, 0.7))
    sheet.limb((x, y), (x + 0.03, y + 0.05), 0.008, 0.008, shade(person.bag_colour, 0.7))
    sheet.rounded(x - 0.06, y + 0.045, x + 0.06, y + 0.15, 0.015, person.bag_colour)


def _head(sheet: Canvas, person: Person, pose: Pose) -> None:
    forward, facing = math.sin(pose.yaw), math.cos(pose.yaw)
    x, y, rx, ry = 0.012 * forward, 0.078, 0.054, 0.068
    hair = person.hair_colour
    away = facing < -0.5
    if person.hair == "long":
        sheet.rounded(
            x - rx - 0.012 - 0.02 * max(0.0, forward),
            y - 0.02,
            x + rx + 0.012 - 0.02 * min(0.0, forward),
            y + 0.1,
            0.03,
            hair,
        )
    sheet.ellipse((x, y), rx, ry, hair if away and person.hair != "bald" else person.skin)
    if not away:
        if person.hair == "long":
            sheet.ellipse((x + 0.012 * forward, y + 0.01), rx * 0.92, ry * 0.86, person.skin)
        elif abs(forward) > 0.5 and person.hair == "short":
            sheet.ellipse((x - 0.022 * math.copysign(1, forward), y - 0.012), rx * 0.72, ry * 0.8, hair)
        for eye in (-0.02, 0.02):
            sheet.ellipse((x + eye * max(0.3, facing) + 0.03 * forward, y), 0.006, 0.008, (40, 32, 30))
    if person.hair != "bald":
        sheet.half_ellipse((x, y - 0.012), rx * 1.06, ry * 0.92, hair)
    elif away:
        sheet.ellipse((x, y), rx, ry, shade(person.skin, 0.95))
    if person.hat == "none":
        return
    sheet.half_ellipse((x, y - 0.018), rx * 1.14, ry * 1.02, person.hat_colour)
    if person.hat == "beanie":
        sheet.rounded(x - rx * 1.16, y - 0.035, x + rx * 1.16, y - 0.01, 0.01, shade(person.hat_colour, 0.8))
    elif not away:
        peak = x + 0.045 * forward
        sheet.rounded(peak - rx * 1.0, y - 0.03, peak + rx * 1.0, y - 0.014, 0.008, shade(person.hat_colour, 0.7))


def _light(image: Image.Image) -> Image.Image:
    """Round the flat figure off: light from the left, less of it lower down."""
    pixels = np.asarray(image, dtype=np.float32).copy()
    height, width = pixels.shape[:2]
    across = np.interp(np.arange(width), (0.3 * width, 0.7 * width), (1.1, 0.84))
    down = np.linspace(1.04, 0.92, height)
    pixels[..., :3] *= (down[:, None] * across[None, :])[..., None]
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), "RGBA")
