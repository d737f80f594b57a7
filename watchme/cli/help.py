"""The text of `python train.py --help`, fitted to 80 columns."""

import textwrap
from pathlib import Path

from watchme.core.invocation import as_started

_WIDTH = 80
_ORDER = (
    "model",
    "dataset",
    "optimizer",
    "scheduler",
    "augmentation",
    "loss",
    "evaluation",
    "export",
    "train",
    "tracker",
    "sweeper",
    "experiment",
    "debug",
)
_EXAMPLES = (
    ("python train.py", "YOLO11n on the built-in demo world"),
    ("python train.py model=osnet_ibn optimizer=adamw", "re-ID; dataset, loss and recipe follow"),
    ("python train.py dataset=person_detection dataset.root=/data/people train.epochs=50", ""),
    ("python train.py mode=evaluate checkpoint=outputs/<run>/weights/best.pt", ""),
    ("python train.py mode=check dataset=market1501 dataset.root=/data/market", "before a long training"),
    ("python train.py mode=search detector=<run>/weights/best.pt reid=<run>/weights/best.pt", ""),
    ("python train.py mode=export checkpoint=outputs/<run>/weights/best.pt", "weights for the backend"),
    ("python train.py debug=true", "one batch of everything: does it run? See also debug=tiny, profiler"),
    ("python train.py train.resume=outputs/<run>", "go on with a run that was stopped"),
    ("python train.py hydra.run.dir=runs/a train.resume=auto", "start, or go on, or done: for requeued jobs"),
    ("python train.py -m sweeper=osnet_tune", "tune it: 20 trials, pruned; run again, it goes on"),
)


def help_text(conf: Path) -> str:
    """Return the help: what it does, the groups of `conf` with their options, commands, flags."""
    lines = [
        "Train and evaluate person detectors (YOLO) and re-ID models (OSNet).",
        "",
        "Usage: python train.py [group=option ...] [key=value ...] [flags]",
        "",
        "Groups and their options (group=option):",
    ]
    groups = sorted((path.name for path in conf.iterdir() if path.is_dir() and path.name != "hydra"), key=_rank)
    for group in groups:
        options = sorted(path.stem for path in (conf / group).glob("[!_]*.yaml"))
        if options:
            lines += textwrap.wrap(
                ", ".join(options),
                _WIDTH,
                initial_indent=f"  {group:<13} ",
                subsequent_indent=" " * 16,
                break_on_hyphens=False,
            )
    lines += ["", "Examples:"]
    for command, what in _EXAMPLES:
        if what:
            lines.append(f"  # {what}")
        if len(command) + 2 > _WIDTH:
            head, _, tail = command.rpartition(" ")
            lines += [f"  {head} \\", f"      {tail}"]
        else:
            lines.append(f"  {command}")
    lines += [
        "",
        "Weights that training starts from, model.weights=...:",
        "  coco, yolo11n.pt, imagenet, market1501, msmt17, ...: published ones, fetched",
        "  once (python -m watchme.weights list); a run folder, a file, an address; null:",
        "  random. Default: coco or imagenet for real data, null for the demo world.",
        "",
        "Flags:",
        "  --cfg job        print the composed config with every key, and stop",
        "  -m, --multirun   sweep over the values given",
        "  --hydra-help     Hydra's own flags; --version: ours",
        "  -sc install=bash shell completion: eval the line that it prints (zsh, fish)",
        "",
        "`help=train.epochs` explains a key: meaning, values, and what sets it.",
        "",
        "Each key of `--cfg job` can be set: train.epochs=5 optimizer.lr=0.01. A key",
        "that does not exist is refused with the nearest one. Results: outputs/.",
    ]
    return as_started("\n".join(lines))


def _rank(group: str) -> tuple[int, str]:
    return (_ORDER.index(group) if group in _ORDER else len(_ORDER), group)
