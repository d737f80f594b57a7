"""Closing lines of a conversion: a table of counts, what was left out and why, and the next two commands."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from watchme.core.formatting import aligned
from watchme.core.invocation import as_started
from watchme.data.bad_records import Source
from watchme.data.prepare.output_dir import Folder


def left_out(source: Source) -> dict[str, Any]:
    """What the manifest says of what is not in the dataset."""
    return {
        "dropped": dict(sorted(source.dropped.items())),
        "bad_records": len(source.faults.found),
        "bad": source.faults.shown(),
    }


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows in columns, the first to the left and the others to the right."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    return "\n".join(aligned(cells, range(1, len(cells[0]))))


def print_summary(
    folder: Folder, manifest: Mapping[str, Any], source: Source, columns: Mapping[str, str], heading: str = "split"
) -> None:
    """Print counts by split, what was left out, and notes.

    Args:
        folder: The output.
        manifest: What `finish` wrote: `splits` holds the counts.
        source: What was left out.
        columns: Key of a count -> its heading.
        heading: Of the first column.
    """
    counts: Mapping[str, Mapping[str, int]] = manifest["splits"]
    rows: list[list[object]] = [[heading, *columns.values()]]
    rows += [[split, *(count[key] for key in columns)] for split, count in counts.items()]
    print("\n" + table(rows))
    if source.dropped or source.faults.found:
        print("\nleft out")
        reasons = dict(sorted(source.dropped.items()))
        if source.faults.found:
            reasons["bad records (--skip-bad)"] = len(source.faults.found)
        width = max(len(f"{count:,}") for count in reasons.values())
        for reason, count in reasons.items():
            print(f"  {count:>{width},}  {reason}")
        for line in source.faults.shown():
            print(f"      {line}")
    for note in source.notes:
        print(f"\n{note}")
    print(f"\n{folder.root}  ({folder.outcome})")


def print_next_commands(dataset: str, root: Path, model: str = "", use: str = "both", more: str = "") -> None:
    """Print the commands that check the dataset and train on it.

    Args:
        dataset: Option of `dataset=`.
        root: Its folder.
        model: Option of `model=`; empty: the default one.
        use: `test` for a dataset that has no training set, `train` for one of torchreid's that has nothing to test
            on, `no test` for one of your own.
        more: A further override.
    """
    where = f"dataset={dataset} dataset.root={quoted(root)}" + (f" {more}" if more else "")
    chosen = f"model={model} " if model else ""
    train = f"python train.py {chosen}{where}"
    if use == "test":
        train = f"python train.py mode=evaluate checkpoint=<run>/weights/best.pt {where}"
    elif use == "train":
        train += " 'dataset.targets=[market1501]'"
    elif use == "no test":
        where += " 'dataset.targets=[]'"
        train += " 'dataset.targets=[]'"
    print(as_started(f"next:\n    python train.py mode=check {where}\n    {train}"))


def quoted(path: Path) -> str:
    """A path as a value of a Hydra override, in the shell."""
    text = str(path)
    if re.fullmatch(r"[\w./@%+-]+", text):
        return text
    # Hydra takes a backslash as one but before a quote.
    escaped = re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + match[2].replace('"', '\\"'), text)
    escaped = escaped.replace("'", "'\\''")
    return f"'\"{escaped}\"'"
