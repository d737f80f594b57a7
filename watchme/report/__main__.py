"""`python -m watchme.report outputs/`: build the index page of the runs in a folder, at any depth."""

import argparse
import contextlib
import sys
from pathlib import Path

from watchme.report.index_page import write_index
from watchme.report.run_page import write_report

_PORT = 8686


def main() -> int:
    """Run the command line; the exit status is 2 where the folder is missing or read-only, or the address is taken."""
    parser = argparse.ArgumentParser(prog="python -m watchme.report", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("outputs"), help="folder of run folders, or one run"
    )
    parser.add_argument("--serve", action="store_true", help="serve pages that follow runs while they train")
    parser.add_argument("--host", default="127.0.0.1", help="with --serve: address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=_PORT, help="with --serve: 0 takes a free one")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if not folder.is_dir():
        print(f"{folder} is not a folder.\n    Name the folder that holds your runs, e.g. outputs/", file=sys.stderr)
        return 2
    if arguments.serve:
        return _serve(folder, arguments.host, arguments.port)
    try:
        page = write_report(folder) if (folder / "run.json").is_file() else write_index(folder)
    except OSError as error:  # the folder is read-only, or the disk full
        fix = "--serve shows the pages without writing any"
        print(f"{folder} cannot be written: {error.strerror or error}\n    {fix}", file=sys.stderr)
        return 2
    print(page)
    return 0


def _serve(folder: Path, host: str, port: int) -> int:
    from watchme.report.serve import make_server

    try:
        server = make_server(folder, host, port)
    except (OSError, OverflowError) as error:
        fix = "Choose another --port, or 0 for a free one"
        print(f"Cannot listen on {host}:{port}: {error}.\n    {fix}", file=sys.stderr)
        return 2
    print(f"http://{host}:{server.server_address[1]}/  (Ctrl-C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
