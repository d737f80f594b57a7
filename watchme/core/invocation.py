"""How this program is started, so that the commands that it prints can be pasted."""

import sys
from pathlib import Path

_SCRIPT = "watchme-train"
_CHECKOUT = Path(__file__).resolve().parents[2]


def is_console_script(path: str) -> bool:
    """Whether `sys.argv[0]` is the console script (watchme-train, watchme-train.exe)."""
    return Path(path).name.startswith(_SCRIPT)


def as_started(text: str) -> str:
    """A text whose commands begin as the user's do: `watchme-train` where that was started, or is all there is."""
    if is_console_script(sys.argv[0]) or not (_CHECKOUT / "train.py").is_file():
        return text.replace("python train.py", _SCRIPT)
    return text
