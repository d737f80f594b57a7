"""`python -m watchme.data.check <folder of a check> <problem>`: mend what a check found; nothing is deleted."""

import argparse
import sys
from pathlib import Path

from watchme.core.errors import WatchmeError
from watchme.data.check.database import ISSUES
from watchme.data.check.fixes import mend
from watchme.io.files import read_yaml

_DESCRIPTION = """\
Set the files of one kind of problem aside, with their labels or images, or correct the lines of label files that it
names. Files go to <dataset>_set_aside/<check> beside the dataset; copying that over the dataset undoes everything."""


def main() -> int:
    """Run the command line; the exit status is 2 where nothing can be done."""
    parser = argparse.ArgumentParser(prog="python -m watchme.data.check", description=_DESCRIPTION)
    parser.add_argument("folder", type=Path, help="run folder of the check (python train.py mode=check ...)")
    parser.add_argument("problem", help="as the check names it, e.g. 'duplicate image'")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if not (folder / ISSUES).is_file():
        fix = "Check the dataset first: python train.py mode=check dataset=... dataset.root=..."
        print(f"{folder} holds no {ISSUES}.\n    {fix}", file=sys.stderr)
        return 2
    root = (read_yaml(folder / "config.yaml").get("dataset") or {}).get("root")
    if root is None:
        print("The demo world is drawn again where it is missing; there is nothing to mend.", file=sys.stderr)
        return 2
    try:
        aside, files, lines = mend(folder, arguments.problem, Path(str(root)).expanduser())
    except (WatchmeError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if lines:
        print(f"{lines} lines of {files} label files corrected; what they were is in {aside}")
    else:
        print(f"{files} files moved to {aside}")
    print("Check again: the same command as before, with another hydra.run.dir")
    return 0


if __name__ == "__main__":
    sys.exit(main())
