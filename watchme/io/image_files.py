"""Which files are images: one table of file name suffixes for all readers."""

from pathlib import Path

# What both Pillow and OpenCV read.
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# ultralytics' IMG_FORMATS.
ULTRALYTICS_SUFFIXES = IMAGE_SUFFIXES | {".dng", ".heic", ".mpo"}


def is_image(path: Path) -> bool:
    """Whether a file's name ends like an image's; capitals do not matter."""
    return path.suffix.lower() in IMAGE_SUFFIXES
