"""Lists and fetches published weights, e.g. to prepare a machine without network: python -m watchme.weights --help."""

import argparse
import difflib
import logging
import sys
from collections.abc import Iterator, Sequence

from watchme.core.errors import CheckpointError, WatchmeError
from watchme.weights.download import fetch, weights_dir
from watchme.weights.model_zoo import PublishedWeights, all_weights, by_key


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m watchme.weights", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="the table of published weights")
    listing.add_argument("--markdown", action="store_true", help="the tables of docs/weights.md, with every column")
    for name, text in (("fetch", "fetch files into the cache"), ("path", "print where a file is or would be")):
        commands.add_parser(name, help=text).add_argument("names", nargs="+", metavar="NAME")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if chosen.command == "list":
            print("\n".join(_markdown() if chosen.markdown else _table()))
        else:
            for weights in [_named(name) for name in chosen.names]:
                print(fetch(weights) if chosen.command == "fetch" else weights_dir() / weights.file)
    except WatchmeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _named(name: str) -> PublishedWeights:
    if found := by_key(name):
        return found
    near = difflib.get_close_matches(name, [weights.key for weights in all_weights()], n=4)
    suggestion = f"did you mean {' or '.join(near)}? " if near else ""
    raise CheckpointError(f"no published weights are called {name}; {suggestion}python -m watchme.weights list")


def _table() -> Iterator[str]:
    """At most 80 columns."""
    yield f"Published weights; * is in {weights_dir()}\n"
    yield "Detectors: model.weights=<name>, or coco for the release of the chosen model"
    yield f"  {'name':<22}{'trained on':<18}{'mAP50-95':<12}licence"
    for weights in _of("yolo"):
        yield f"{_mark(weights)} {weights.name:<22}{weights.trained_on:<18}{weights.published:<12}{weights.licence}"
    yield ""
    yield "OSNet: model.weights=<what follows the model in the name>; on the test set of"
    yield "M Market-1501, D DukeMTMC-reID, MS MSMT17, C CUHK03, else of the training data"
    yield f"  {'name':<36}{'rank-1 (mAP)':<32}licence"
    for weights in _of("osnet"):
        yield f"{_mark(weights)} {weights.key:<36}{weights.published:<32}{weights.licence}"


def _mark(weights: PublishedWeights) -> str:
    return "*" if (weights_dir() / weights.file).is_file() else " "


def _of(engine: str) -> list[PublishedWeights]:
    return [weights for weights in all_weights() if weights.engine == engine]


def _markdown() -> Iterator[str]:
    head = "| `model.weights` | model | trained on | {} | bytes | sha256 | source | licence |"
    for engine, figures in (("yolo", "mAP50-95"), ("osnet", "rank-1 (mAP)")):
        yield f"### {'Detectors' if engine == 'yolo' else 'OSNet'}\n"
        yield head.format(figures)
        yield "|" + "---|" * 8
        for weights in _of(engine):
            size = f"{weights.size:,}" if weights.size else "not public"
            sha256 = f"`{weights.sha256[:16]}...`" if weights.sha256 else "recorded at first use"
            source = f"[{_shortened(weights.file)}]({weights.page})"
            if engine == "osnet":
                source += " (hub)" if weights.on_hub else " (Google Drive; hub not verified)"
            yield (
                f"| `{weights.name}` | {weights.architecture} | {weights.trained_on} | {weights.published or '-'} "
                f"| {size} | {sha256} | {source} | {weights.licence} |"
            )
        yield ""


def _shortened(file: str) -> str:
    return file if len(file) <= 40 else f"{file[:33]}...{file[-4:]}"


if __name__ == "__main__":
    sys.exit(main())
