"""Run train.py with every write and every connection noted: `python watched.py NOTES ARGUMENT...`.

NOTES gets one line for each: the event of Python's audit hooks, and its path or address.
"""

import os
import runpy
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[3]
_WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "shutil.copyfile"}
_TARGET = {"os.rename": 1, "os.symlink": 1, "os.link": 1, "shutil.copyfile": 1}
_NET = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


def main() -> None:
    notes = Path(sys.argv[1]).open("a", buffering=1)  # noqa: SIM115 - open until the process ends
    inside = False

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal inside
        if inside:
            return
        what: Any = None
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            what = arguments[0]
        elif event in _WRITES:
            what = arguments[_TARGET.get(event, 0)]
        if isinstance(what, (str, bytes, os.PathLike)):
            note = str(Path(os.fsdecode(what)).absolute())
        elif event in _NET:
            note = str(arguments[1:])
        elif event == "subprocess.Popen":
            note = str(arguments[1])
        else:
            return
        inside = True
        try:
            notes.write(f"{event}\t{note}\n")
        finally:
            inside = False

    sys.addaudithook(hear)
    sys.argv = [str(PROJECT / "train.py"), *sys.argv[2:]]
    sys.path[0] = str(PROJECT)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
