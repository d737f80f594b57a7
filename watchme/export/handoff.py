"""The hand-off folder: weights where the backend's settings expect them, and what its developers must know.

handoff/
  README.md     what is here, how to install it, what to mind
  .env.osnet    lines for the file of that name in the backend, which only the settings class of this engine reads
  SHA256SUMS    for `sha256sum -c SHA256SUMS`
  src/...       copied to the backend: weights, other formats, preprocessing.json, MODEL_CARD.md
"""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from watchme.core.interfaces import Job, Table
from watchme.export.table_text import markdown_table, text_table
from watchme.io.run_lookup import folder_of
from watchme.weights.checksum import sha256_of

log = logging.getLogger(__name__)

FOLDER = "handoff"
REFUSED = "handoff-refused"
SUMS = "SHA256SUMS"
_CARD = "MODEL_CARD.md"


@dataclass
class Handoff:
    """A hand-off that is being written, under a temporary name until it is complete."""

    root: Path  # the folder, renamed to `handoff` at the end
    place: Path  # where the backend expects the weights, below `root`
    env: dict[str, str] = field(default_factory=dict)  # field -> value of the backend's settings class
    env_file: str = ".env"  # the file that this class reads; it refuses fields of other classes
    notes: list[str] = field(default_factory=list)  # what its developers must know, a paragraph each
    refusals: list[str] = field(default_factory=list)  # why it must not be used
    tables: list[Table] = field(default_factory=list)  # what was measured

    def show(self, job: Job, table: Table) -> None:
        """Send a table to the report, the log and the README."""
        self.tables.append(table)
        job.show(table)
        log.info("%s", "\n".join(["", *text_table(table)]))

    def lines(self) -> list[str]:
        """The lines for the backend's `env_file`."""
        return [f"{name}={value}" for name, value in self.env.items()]

    def details(self, files: Mapping[str, Path]) -> dict[str, Any]:
        """For `Result.details` and the manifest: the folder, its files by format, the backend's settings."""
        found = {name: str(self.place / path.name) for name, path in files.items()}
        return {"handoff": str(self.root), "files": found, "env": self.lines(), "env_file": self.env_file}

    def refused(self, fix: str) -> str:
        """Why the export must end with exit status 1; empty: it may be used."""
        if not self.refusals:
            return ""
        lines = "".join(f"    {text}\n" for text in self.refusals)
        return (
            f"The export is refused; its files are in {self.root}.\n{lines}"
            f"    {fix}, or raise the limit if you can accept it."
        )

    def write(self, title: str, sections: Mapping[str, str], preprocessing: Mapping[str, Any], card: str) -> None:
        """Write everything but the weights, the checksums last."""
        (self.place / _CARD).write_text(card, encoding="utf-8")
        text = json.dumps(preprocessing, indent=2) + "\n"
        (self.place / "preprocessing.json").write_text(text, encoding="utf-8")
        (self.root / self.env_file).write_text("".join(f"{line}\n" for line in self.lines()), encoding="utf-8")
        (self.root / "README.md").write_text(self._readme(title, sections), encoding="utf-8")
        write_checksums(self.root)

    def _readme(self, title: str, sections: Mapping[str, str]) -> str:
        place = self.place.relative_to(self.root).as_posix()
        files = "\n".join(f"- `{path.name}`" for path in sorted(self.place.iterdir()))
        parts = [f"# {title}\n"]
        if self.refusals:
            parts.append("**Do not use it: the export was refused.**\n\n" + _listed(self.refusals))
        parts.append(
            f"""## Put it in place

    sha256sum -c {SUMS}
    cp -r {PurePosixPath(place).parts[0]} <backend>/       # {place}/
    cat {self.env_file} >> <backend>/{self.env_file}

These lines belong into `{self.env_file}` and into no other file: each settings class of the backend refuses fields of
another one.

{_indented(self.lines())}

`{place}/` holds

{files}
"""
        )
        if self.notes:
            parts.append("## Mind\n\n" + _listed(self.notes))
        parts += [f"## {name}\n\n{text.strip(chr(10))}\n" for name, text in sections.items()]
        parts += [f"## {_TITLES.get(table.name, table.name)}\n\n{markdown_table(table)}\n" for table in self.tables]
        return "\n".join(parts)


_TITLES = {
    "export/formats": "Formats, against the trained model",
    "export/metrics": "Metrics on images of the dataset",
    "export/latency": "Latency",
}


@contextlib.contextmanager
def staged(folder: Path, place: str) -> Iterator[Handoff]:
    """A hand-off in a run folder, renamed into place when the block ends without an error: complete, or absent."""
    root = folder / f".{FOLDER}.{os.getpid()}.tmp"
    shutil.rmtree(root, ignore_errors=True)
    (root / place).mkdir(parents=True)
    made = Handoff(root, root / place)
    try:
        yield made
        # A refused one must not be mistaken for weights to use.
        final = folder / (REFUSED if made.refusals else FOLDER)
        root.rename(final)
        made.place, made.root = final / made.place.relative_to(root), final
    finally:
        shutil.rmtree(root, ignore_errors=True)


def write_checksums(root: Path) -> Path:
    """Write SHA256SUMS of all files below a folder, in sha256sum's format."""
    lines = []
    for path in sorted(path for path in root.rglob("*") if path.is_file() and path != root / SUMS):
        lines.append(f"{sha256_of(path)}  {path.relative_to(root).as_posix()}\n")
    sums = root / SUMS
    sums.write_text("".join(lines), encoding="utf-8")
    return sums


def card_of(checkpoint: Path, title: str) -> str:
    """The model card of the checkpoint's run; for weights from elsewhere a short one that says so."""
    written = checkpoint.parent / _CARD
    if folder_of(checkpoint) is not None and written.is_file():
        return written.read_text(encoding="utf-8")
    return (
        f"# {title}\n\nExported from `{checkpoint.name}`, which is in no run folder of watchme: its training data, "
        "accuracy and licence are not known here. Ask where it came from, and evaluate it on your own images before "
        "use.\n"
    )


def _listed(items: Sequence[str]) -> str:
    return "".join(f"- {item}\n" for item in items)


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)
