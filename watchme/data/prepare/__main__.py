"""`python -m watchme.data.prepare <source>`: convert datasets from other formats to YOLO or Market-1501."""

import argparse
import importlib
import shutil
import sys
import textwrap
from collections.abc import Sequence

from watchme.core.errors import WatchmeError

_COMMANDS = ("yolo", "coco", "crowdhuman", "mot", "voc", "pennfudan", "reid", "torchreid", "video")
_DESCRIPTION = """\
Convert files in another format to a dataset for `train.py`.

The source is only read; images are hard links to it where the file system has them. The same command again does
nothing that is done already, and goes on where it was killed. Splits never tear a sequence or an identity apart.
`prepare.json` in the output says what was made of what, and how much was left out, and why."""
_EPILOG = """\
each has a --help of its own, with all options and examples:
    python -m watchme.data.prepare coco --help

docs/prepare.md: from raw files to a checked dataset"""


class _Help(argparse.HelpFormatter):
    """Wraps paragraphs at the terminal's width, at most 100; lines that are indented stay as they are."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(100, shutil.get_terminal_size().columns - 2))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for block in text.split("\n\n"):
            words: list[str] = []
            for line in block.splitlines():
                if line.startswith(" "):
                    lines += [*textwrap.wrap(" ".join(words), width), line]
                    words = []
                else:
                    words.append(line)
            lines += [*textwrap.wrap(" ".join(words), width), ""]
        return "\n".join(lines).rstrip() + "\n"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    name = "python -m watchme.data.prepare"
    modules = {command: importlib.import_module(f"watchme.data.prepare.{command}") for command in _COMMANDS}
    listed = "\n".join(f"    {command:<12}{module.HELP}" for command, module in modules.items())
    top = argparse.ArgumentParser(
        prog=name,
        usage=f"{name} <source> ... --out FOLDER",
        description=f"{_DESCRIPTION}\n\nsources:\n{listed}",
        epilog=_EPILOG,
        formatter_class=_Help,
    )
    commands = top.add_subparsers(metavar="<source>", required=True, help=argparse.SUPPRESS)
    for command, module in modules.items():
        sub = commands.add_parser(
            command,
            prog=f"{name} {command}",
            usage="%(prog)s " + module.USAGE.replace(" --out", "\n           --out"),
            description=module.DESCRIPTION,
            epilog=module.EXAMPLES,
            formatter_class=_Help,
        )
        module.add(sub)
        sub.set_defaults(run=module.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; its exit status is 1 where the source or the output cannot be used, 130 after Ctrl-C."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except WatchmeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
