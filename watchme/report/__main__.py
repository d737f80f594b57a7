"""`python -m watchme.report outputs/`: build the index page of the runs in a folder, at any depth."""

import argparse
import sys
from pathlib import Path

from watchme.report.index_page import write_index
from watchme.report.run_page import write_report


def main() -> int:
    """Run the command line; the exit status is 2 where the folder is missing."""
    parser = argparse.ArgumentParser(prog="python -m watchme.report", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("outputs"), help="folder of run folders, or one run"
    )
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if not folder.is_dir():
        print(f"{folder} is not a folder.\n    Name the folder that holds your runs, e.g. outputs/", file=sys.stderr)
        return 2
    page = write_report(folder) if (folder / "run.json").is_file() else write_index(folder)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
