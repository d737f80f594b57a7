"""`weights/MODEL_CARD.md`: what someone must know who is handed the weights without the run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from watchme.core.formatting import flatten, number
from watchme.core.metric_names import is_result
from watchme.io.files import read_json, read_yaml, replace_text
from watchme.run.run_dir import CONFIG, SUMMARY, WEIGHTS, read_manifest
from watchme.weights.initial import describe_weights

CARD = "MODEL_CARD.md"

_USE = {
    "detection": (
        "Finding people in photographs and video frames: boxes of class 0 (person), the detector of the WatchMe AI "
        "backend. Load it with `ultralytics.YOLO(path)`.",
        (
            "Small, crowded or half-hidden people are missed more often than the averages above show.",
            "Cameras, light and places unlike the training data lower both recall and precision; evaluate on frames "
            "of the place before use.",
            "A box says that a person is there. It says nothing of who it is or what the person does.",
        ),
    ),
    "reid": (
        "Ranking pictures of people by whether they show the same person, across cameras and within hours: the "
        "re-identification model of the WatchMe AI backend. Input 256x128 with ImageNet normalisation; compare "
        "L2-normalised features.",
        (
            "It compares clothing and build rather than faces: a change of clothes defeats it, similar clothes "
            "deceive it. It is no proof of identity.",
            "Distances of another model or another training are not comparable; choose a new threshold.",
            "Accuracy may differ between groups of people that are rare in the training data; measure it before use.",
        ),
    ),
}
_LICENCE = {
    "yolo": "AGPL-3.0: trained with ultralytics, whose licence covers models trained with it (or its Enterprise "
    "Licence, where you hold one).",
    "osnet": "The training code is AGPL-3.0-or-later; the architecture comes from deep-person-reid (MIT).",
}


def write(folder: Path) -> Path:
    """Write the card beside the weights of a run, from run.json, config.yaml and summary.json; return its path.

    Raises:
        RunFolderError: If the folder is not a run's.
        OSError: If a file is missing.
    """
    manifest = read_manifest(folder)
    card = folder / WEIGHTS / CARD
    replace_text(card, render(manifest, read_yaml(folder / CONFIG), read_json(folder / SUMMARY)))
    return card


def render(manifest: Mapping[str, Any], config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The card's text."""
    model, dataset = config["model"], config["dataset"]
    data = flatten(manifest.get("dataset") or {}).items()
    use, limits = _USE.get(dataset["task"], ("See the config of the run.", ("Not known.",)))
    licence = _LICENCE.get(model["engine"], "The training code is AGPL-3.0-or-later.")
    git = manifest.get("git") or {}
    start = describe_weights(manifest.get("initial_weights") or {"given": model.get("weights")})
    demo = ""
    if str(dataset["name"]).startswith("demo"):
        demo = "\n> Trained on the drawn demo world: it shows that training works, and is of no use on photographs.\n"
    return f"""# {model["name"]} on {dataset["name"]}
{demo}
## Results

Objective `{summary["objective"]}`: {number(summary.get("objective_value"))} \
(epoch {summary.get("best_epoch")} of {summary.get("epochs")}, run {summary.get("status")}). \
`val...` are of the best epoch and chose it, `test/...` were measured once at the end.

{_table([("metric", "value"), *((name, number(value)) for name, value in summary.items() if is_result(name))])}

## Data

{_table([("", ""), ("name", dataset["name"]), ("task", dataset["task"]), *data])}

The fingerprint names the very files. Rights in the data, and the consent of who is seen, are not part of this card.

## Recipe

{_table([("setting", "value"), *_recipe(config), ("initial weights", start), ("seed", manifest.get("seed"))])}

Made by `{manifest.get("command", "")}` \
at commit {git.get("commit") or "unknown"}{" (with uncommitted changes)" if git.get("dirty") else ""}, \
{manifest.get("ended") or manifest.get("started")}. \
Versions: {", ".join(f"{name} {version}" for name, version in manifest.get("packages", {}).items())}.

## Intended use

{use}

Watching people is regulated almost everywhere. Those who use these weights must have the right to process the \
pictures, say so to who is seen, and keep a person in every decision that concerns one.

## Limits

{chr(10).join(f"- {limit}" for limit in limits)}

## Licence

{licence} Licences of the initial weights and of the data may add terms.
"""


def _recipe(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for section, names in (("train", ("epochs", "batch_size", "precision", "device")), ("dataset", ("image_size",))):
        rows += [(f"{section}.{name}", config[section][name]) for name in names if name in config[section]]
    for section in ("optimizer", "scheduler", "augmentation", "loss"):
        rows += flatten({section: config.get(section) or {}}).items()
    return [(name, value) for name, value in rows if value not in (None, {}) and not name.endswith(".engine")]


def _table(rows: list[tuple[str, Any]]) -> str:
    lines = [f"| {name} | {str(value).replace('|', chr(92) + '|')} |" for name, value in rows]
    return "\n".join([lines[0], "|---|---|", *lines[1:]])
