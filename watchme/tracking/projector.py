"""TensorBoard's projector: an embedding as files beside the events, each point with its picture in a sprite."""

import math
from pathlib import Path

from google.protobuf import text_format
from PIL import Image, ImageOps
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from watchme.core.interfaces import Embedding

_CONFIG = "projector_config.pbtxt"
_SIZE = (64, 64)  # the projector draws squares; a sprite may have 8192 pixels a side


def write_embedding(folder: Path, embedding: Embedding) -> None:
    """Write an embedding into the folder of a run's events, where the projector looks for it.

    Args:
        folder: Of the events.
        embedding: At most some thousand points.

    Raises:
        OSError: If a file cannot be written. A picture that cannot be read is black.
    """
    stem = embedding.name.replace("/", "_")
    folder.mkdir(parents=True, exist_ok=True)
    lines = ("\t".join(f"{value:.4g}" for value in row) for row in embedding.vectors.tolist())
    (folder / f"{stem}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = [embedding.columns, *embedding.rows]
    text = "\n".join("\t".join(str(value).replace("\t", " ") for value in row) for row in table)
    (folder / f"{stem}_points.tsv").write_text(text + "\n", encoding="utf-8")
    _sprite(embedding.images).save(folder / f"{stem}.jpg", quality=85)
    config = ProjectorConfig()
    known = folder / _CONFIG
    if known.is_file():
        text_format.Parse(known.read_text(encoding="utf-8"), config)
    for at, entry in reversed(list(enumerate(config.embeddings))):
        if entry.tensor_name == embedding.name:
            del config.embeddings[at]
    entry = config.embeddings.add(
        tensor_name=embedding.name, tensor_path=f"{stem}.tsv", metadata_path=f"{stem}_points.tsv"
    )
    entry.sprite.image_path = f"{stem}.jpg"
    entry.sprite.single_image_dim.extend(_SIZE)
    known.write_text(text_format.MessageToString(config), encoding="utf-8")


def _sprite(images: tuple[Path, ...]) -> Image.Image:
    """The pictures in rows of a square grid, in their order."""
    width, height = _SIZE
    across = max(1, math.ceil(math.sqrt(len(images))))
    sprite = Image.new("RGB", (across * width, across * height))
    for number, path in enumerate(images):
        try:
            with Image.open(path) as image:
                image.draft("RGB", _SIZE)
                small = ImageOps.pad(image.convert("RGB"), _SIZE, Image.Resampling.BILINEAR)
        except OSError:
            continue
        sprite.paste(small, (number % across * width, number // across * height))
    return sprite
