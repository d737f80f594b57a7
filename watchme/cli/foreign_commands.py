"""Commands in the style of other tools: `yolo train`, `--epochs 3`, `help`, a key without `=`, a mode given twice."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from watchme.cli.hydra_flags import FLAGS
from watchme.config.suggestions import meant_key, mode_of_another_tool, nearest
from watchme.core.errors import Problem

_WORDS = {
    "help": "python train.py --help lists the options, help=<key> explains a key",
    "train": "training is what happens without a mode: python train.py model=<option> dataset=<option>",
    "predict": "python train.py mode=predict source=<pictures or a video> detector=<run>",
    **dict.fromkeys(("tune", "sweep"), "python train.py -m sweeper=<option>"),
    "yolo": "this is not ultralytics' command line: python train.py model=yolo11n dataset.root=<folder>",
    **dict.fromkeys(("segment", "classify", "pose", "obb"), "detectors and re-ID models are trained here"),
    **{word: f"python train.py {mode_of_another_tool(word)}" for word in ("val", "validate", "eval", "test", "resume")},
    "detect": "the task follows from the model and the dataset: model=yolo11n",
}
_MODES = ("evaluate", "check", "export", "search", "find", "embed")
_LONGEST_PATH = 4096
# All keys of a config. Called only for a mistake, as it imports the schema of every engine.
Keys = Callable[[], Iterable[str]]


def problems_of_flags(flags: Sequence[str], keys: Keys) -> list[Problem]:
    """Flags that neither Hydra nor this program has: `--epochs`."""
    problems = []
    for flag in flags:
        name, _, value = flag.partition("=")
        if name in FLAGS:
            continue
        known = list(keys())
        key = name.lstrip("-").replace("-", "_")
        meant = key if key in known else meant_key(key, "", known) or nearest(key, known, 0.7)
        shown = meant if meant is None or "=" in meant or " " in meant else f"{meant}={value or '<value>'}"
        expected = "settings are written key=value, without dashes" + (f": {shown}" if shown else "")
        problems.append(Problem(flag, expected))
    return problems


def foreign_option(group: str, value: str, options: Sequence[str], names: Mapping[str, str]) -> str:
    """What another tool's value of a group means here: `model=yolo11n.pt`, `model=osnet_x1_0`, `dataset=coco.yaml`.

    Args:
        group: The group.
        value: What was given.
        options: The group's.
        names: Architecture or dataset name -> option.

    Returns:
        The command; empty where nothing is known.
    """
    path = Path(value)
    stem = names.get(path.name.removesuffix(".pt").removesuffix(".yaml"), "")
    stem = stem or (path.stem if path.stem in options else "")
    if group == "model" and value.endswith((".pt", ".pth", ".tar")):
        if stem and path.name == value:
            return f"model={stem}; on real data it starts from {value} by itself"
        return f"model.weights={value} to train, checkpoint={value} with mode=evaluate or export"
    if group == "model" and stem:
        return f"model={stem}"
    if group == "dataset" and (value.endswith((".yaml", ".yml")) or "/" in value or value.startswith("coco")):
        folder = value if "/" in value and not path.suffix else "<folder>"
        return f"dataset=person_detection dataset.root={folder} (YOLO layout); dataset=market1501 is of re-ID"
    return ""


def problems_of_words(
    words: Iterable[str], groups: Iterable[str], keys: Keys, *, help_wanted: bool = False
) -> list[Problem]:
    """Arguments without `=`: `train`, `help`, `epochs`; with `help_wanted`, of `-h epochs`."""
    group_names = set(groups)
    problems = []
    for word in words:
        if word.startswith("~"):
            key = word.lstrip("~").partition("=")[0].partition("@")[0]
            if key in group_names:
                problems.append(Problem(word, f"a run needs its {key}; choose another option: {key}=<option>"))
            elif not key.startswith("hydra"):
                problems.append(Problem(word, f"keys are not removed; where null is allowed it means none: {key}=null"))
            continue
        if "=" in word or not word:
            continue
        known = list(keys())
        meaning = _meaning(word, group_names, known)
        if help_wanted:
            key = word if word in known else meant_key(word, "", known) or word
            meaning = f"a key, or a group with its options, is explained by: python train.py help={key}"
        problems.append(Problem(word, f"is not key=value; {meaning}"))
    return problems


def _meaning(word: str, groups: set[str], keys: Sequence[str]) -> str:
    if word in _WORDS:
        return _WORDS[word]
    if word in _MODES:
        return f"python train.py mode={word}"
    if word in groups:
        return f"choose an option: {word}=<option>"
    meant = word if word in keys else meant_key(word, "", keys)
    if meant:
        return f"set it by {meant}" if "=" in meant else f"set it by {meant}=<value>"
    return "to set a key write key=value, to choose an option group=option"


def problems_of_foreign_keys(arguments: Iterable[str], groups: Iterable[str], keys: Keys) -> list[Problem]:
    """Keys of other tools at the top level: `epochs=3`, `imgsz=640`."""
    known, group_names = list(keys()), set(groups)
    problems = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        own = key in known or key in group_names or key == "help" or not key.isidentifier()
        if key == "mode" and (command := mode_of_another_tool(value)):
            problems.append(Problem(argument, f"it is {command} here"))
        elif equals and not own and (meant := meant_key(key, "", known)):
            shown = meant if "=" in meant or " " in meant else f"{meant}={value}"
            problems.append(Problem(argument, f"it is {shown} here"))
    return problems


def problems_of_values(given: Mapping[str, str], repeated: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Choices that are given twice, home folders that do not exist, values longer than any path."""
    problems = []
    for key, values in repeated.items():
        if len(values) > 1:
            problems.append(Problem(key, "is given twice; leave all but one out", " and ".join(values)))
    for key, value in given.items():
        if len(value) > _LONGEST_PATH:
            problems.append(Problem(key, f"is longer than {_LONGEST_PATH:,} characters", f"{value[:40]}..."))
        elif value.startswith("~"):  # what `with_home` could not expand
            problems.append(Problem(key, "there is no such home folder; give the whole path", repr(value)))
    return problems
