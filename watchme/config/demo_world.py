"""Parameters of the demo world; light imports only, so that the config schema may import it."""

from dataclasses import dataclass

from watchme.core.errors import Problem

MARKET_CAMERAS = 6
"""Market-1501 readers refuse camera numbers above this one."""


@dataclass(frozen=True)
class DemoWorldConfig:
    """Parameters of the generated demo world; equal parameters give equal bytes.

    The defaults give 120 identities to train and 40 to test re-identification, and about 530 frames to
    train and validate a detector. Frames are not counted here: they follow from the walks, as
    `identities x walk_length / crowd` a camera, plus the empty ones.
    """

    seed: int = 0  # draws everything: people, streets, walks and sensor noise
    identities: int = 160  # people who walk through every camera
    cameras: int = 4  # streets, each with its own view and sensor; 2 to 6
    frame_size: int = 320  # side of the square frames, pixels
    walk_length: int = 3  # frames in which one walk through one camera is seen
    crowd: float = 3.0  # people in a frame, on average, where there are any
    test_share: float = 0.25  # share of the identities kept for testing
    val_share: float = 0.2  # share of the other frames, the latest of each camera, that validate a detector
    empty_share: float = 0.1  # frames without anybody, per frame with people
    camera_contrast: float = 0.3  # how much the cameras' colours and sharpness differ; 0 makes them equal

    def problems(self) -> list[str]:
        """Return every reason why no world can be drawn from these values, as `field: reason (fix)`."""
        bounds: list[tuple[str, float, float]] = [
            ("seed", 0, 2**63 - 1),
            ("identities", 4, 1501),
            ("cameras", 2, MARKET_CAMERAS),
            ("frame_size", 96, 2048),
            ("walk_length", 2, 16),
            ("crowd", 1, 12),
            ("test_share", 0.1, 0.9),
            ("val_share", 0.05, 0.5),
            ("empty_share", 0, 1),
            ("camera_contrast", 0, 1.5),
        ]
        return [
            f"{name}: {getattr(self, name)!r} is out of range (give {low:g} to {high:g})"
            for name, low, high in bounds
            if not low <= getattr(self, name) <= high
        ]

    def config_problems(self) -> list[Problem]:
        """The same reasons as problems of the keys `dataset.demo.<field>`."""
        parts = (text.partition(":") for text in self.problems())
        return [Problem(f"dataset.demo.{name}", reason.strip()) for name, _, reason in parts]


@dataclass(frozen=True)
class DemoFilmConfig:
    """Parameters of the demo film; equal parameters give equal frames.

    Its people are drawn for it alone: nobody of the demo world, on whom models are trained, walks in it.
    """

    seed: int = 0  # draws people, walks and noise; the streets are those of the world with this seed
    seconds: float = 60.0  # of all scenes together
    fps: int = 8
    frame_size: int = 640  # side of the square frames, pixels
    people: int = 12  # who walk through every scene

    @property
    def frames(self) -> int:
        """Frames of the film: as many in each of its three scenes."""
        return 3 * round(self.seconds * self.fps / 3)
