"""What can go wrong, as one small tree: each message says what is wrong, where, and the fix."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from watchme.core.invocation import as_started

_WIDTH = 92


class WatchmeError(Exception):
    """An error that a user can act on; its text is all that they need to see.

    `exit_code` is the status that `train.py` ends with.
    """

    exit_code = 1

    def __str__(self) -> str:
        return as_started(super().__str__())


@dataclass(frozen=True)
class Problem:
    """One fault of a config."""

    key: str  # the dotted config key, for example `train.epochs`
    expected: str  # What was expected there, with the nearest valid name or the fix. May hold several lines.
    found: str = ""  # what stands there, as text; empty where the value says nothing
    source: str = ""  # where the value came from if not from conf/ or the command line, e.g. `YOLO_EPOCHS`

    def __str__(self) -> str:
        head = f"{self.key} = {self.found}" if self.found else self.key
        if self.source:
            head += f"  (from {self.source})"
        lines = []
        for line in self.expected.splitlines():
            # Folder trees and short lines stay as they are, and so do commands and paths, which are to be copied.
            lines += (
                [line]
                if len(line) <= _WIDTH or line.startswith("    ")
                else textwrap.wrap(line, _WIDTH, break_on_hyphens=False, break_long_words=False)
            )
        return head + "\n" + "\n".join("    " + line for line in lines)


class ConfigError(WatchmeError):
    """The config cannot be run; holds every problem that was found, not just the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(
            f"The config has {count}; nothing was run.\n\n"
            + "\n".join(str(problem) for problem in self.problems)
            + "\n\n`python train.py --help` lists the options, `--cfg job` shows the composed config."
        )

    # Exceptions travel between processes by pickle, which would call __init__ with the message.
    def __reduce__(self) -> tuple[type["ConfigError"], tuple[list[Problem]]]:
        return type(self), (self.problems,)


def refused_path(error: OSError) -> ConfigError:
    """What to say where the system refuses a path of the command line, as of a folder that cannot be made."""
    in_the_way = isinstance(error, (FileExistsError, NotADirectoryError))
    why = "a file is where a folder is needed" if in_the_way else error.strerror
    return ConfigError([Problem("command line", f"{error.filename} cannot be used: {why}")])


class DataError(WatchmeError):
    """A dataset, an image or a label cannot be used; the message names the file."""


class CheckpointError(WatchmeError):
    """A weights file is missing, damaged, or does not fit the model."""


class ExportError(WatchmeError):
    """A trained model cannot be written in a format that was asked for."""


class RunFolderError(WatchmeError):
    """A run folder cannot be used: it holds another run, or is not a run folder."""


class TrainingError(WatchmeError):
    """Training cannot go on, for example because the loss is not finite."""
