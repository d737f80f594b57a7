"""Goes through a source, and keeps what is seen in a run folder; a second call goes on where the first was."""

import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from watchme.core.errors import RunFolderError
from watchme.core.interfaces import Detector, Embedder
from watchme.core.progress import Progress
from watchme.inference.frames import Frame, FrameSource
from watchme.inference.pipeline import Settings, sightings_of
from watchme.inference.sightings import Seen, SightingsWriter
from watchme.weights.checksum import sha256_of

log = logging.getLogger(__name__)

Watcher = Callable[[list[tuple[Frame, Seen]]], None]


def record_sightings(
    source: FrameSource,
    detector: Detector,
    embedder: Embedder | None,
    writer: SightingsWriter,
    settings: Settings,
    watch: Watcher = lambda batch: None,
) -> None:
    """Append everybody in a source to a store, from the frame on that it stands at.

    Args:
        source: Where frames come from.
        detector: Finds people.
        embedder: Embeds them; None: nobody does.
        writer: The store.
        settings: Thresholds and batches.
        watch: Gets each batch of frames as soon as it is in the store.

    Raises:
        KeyboardInterrupt: After Ctrl-C, with all that was seen in the store; a live source just ends with it.
        DataError: If no frame can be read.
    """
    if writer.complete:
        return
    if writer.frames:
        log.info("Going on after the %d frames that are done", writer.frames)
    total = _frames_to_do(source, settings)
    bar = Progress("Frames", total, "frame", done=writer.frames, note=lambda: f"people {writer.sightings}")
    with bar, contextlib.closing(sightings_of(source, detector, embedder, settings, writer.next_frame)) as batches:
        try:
            for batch in batches:
                writer.append([seen for _, seen in batch])
                watch(batch)
                bar.update(len(batch))
        except KeyboardInterrupt:
            writer.flush()
            if source.kind != "live" or not writer.frames:
                raise
        except BaseException:
            writer.flush()
            raise
    writer.finish()


def open_store(
    folder: Path, source: FrameSource, settings: Settings, weights: Mapping[str, Path | None]
) -> SightingsWriter:
    """The store of what is seen in a source; with what is there of an earlier run that was stopped.

    Args:
        folder: Of the store.
        source: Where frames come from.
        settings: Thresholds and batches.
        weights: Key such as `detector` -> its file; None where there is none.

    Raises:
        RunFolderError: If the folder holds sightings of something else, or a part of what a camera showed.
    """
    asked = {"confidence": settings.confidence, "stride": settings.stride, "frame_batch": settings.frame_batch}
    if settings.limit is not None:
        asked["frames"] = settings.limit
    sums = {name: sha256_of(path) for name, path in weights.items() if path is not None}
    key = {"source": source.fingerprint or source.given, **sums, **asked}
    writer = SightingsWriter(folder, key)
    if source.kind == "live" and writer.frames and not writer.complete:
        raise RunFolderError(
            f"{folder} holds a part of what {source.given} showed, which is past and cannot be resumed. Choose "
            "another folder: hydra.run.dir=<folder>"
        )
    return writer


def _frames_to_do(source: FrameSource, settings: Settings) -> int | None:
    ends = [end for end in (source.length, settings.limit) if end is not None]
    return -(-min(ends) // settings.stride) if ends else None
