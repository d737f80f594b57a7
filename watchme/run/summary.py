"""What the user reads at the end of a run: the objective, where the weights are, what to try next."""

import logging
import math
import shlex
from collections.abc import Mapping
from pathlib import Path

from watchme.config.schema import RunConfig
from watchme.core.formatting import relative
from watchme.core.interfaces import Result
from watchme.core.invocation import as_started
from watchme.core.metric_names import is_result, measured_objective
from watchme.core.registry import modes
from watchme.run.demo_find import demo_commands
from watchme.run.run_dir import read_manifest

log = logging.getLogger(__name__)

# Overrides that make a run one for trying things out.
_DEBUGGING = ("debug=", "train.limit_batches=", "train.profile=", "train.detect_anomaly=", "hydra.run.dir=")


def announce(config: RunConfig, folder: Path) -> None:
    """Log what a run is going to do, before libraries are imported, which takes a while."""
    device = ",".join(map(str, config.train.device)) if isinstance(config.train.device, list) else config.train.device
    if config.mode == "check":
        log.info("Checking %s", config.dataset.name)
    elif config.mode in ("predict", "embed"):
        models = " and ".join(str(path) for path in (config.detector, config.reid) if path is not None)
        doing = "Looking for people in" if config.mode == "predict" else "Embedding"
        log.info("%s %s with %s, device %s", doing, config.source, models, device)
    elif config.mode == "search":
        log.info("Searching people in %s with %s and %s", config.dataset.name, config.detector, config.reid)
    elif config.mode == "find":
        query = ", ".join(config.query) if isinstance(config.query, list) else config.query
        log.info("Looking for %s in %s with %s and %s", query, config.source, config.detector, config.reid)
    elif config.mode == "train":
        epochs = "1 epoch" if config.train.epochs == 1 else f"{config.train.epochs} epochs"
        text = f"Training {config.model.name} on {config.dataset.name}, device {device}, {epochs}"
        source = config.train.resume or config.model.weights
        kind = "resumed from" if config.train.resume else "from"
        log.info("%s, %s", text, f"{kind} {source}" if source else "no weights given")
    else:
        doing = "Evaluating" if config.mode == "evaluate" else "Exporting"
        log.info("%s %s on %s, device %s", doing, config.checkpoint, config.dataset.name, device)
    log.info("Run folder: %s", relative(folder))


def report(config: RunConfig, folder: Path, status: str, result: Result, first: Mapping[str, float]) -> None:
    """Log the closing table of a run; its last line is the run folder's path.

    `first` has the metrics of the evaluation before the first epoch, if there was one.
    """
    shown = relative(folder)
    log.info("")
    if config.mode == "check":
        log.info("Checked %s: %s", config.dataset.name, _checked(result))
    elif "headline" in result.details:
        log.info("%s", result.details["headline"])
    else:
        log.info("%s %s on %s", status.capitalize(), config.model.name, config.dataset.name)
        if (limit := config.train.limit_batches) is not None:
            log.info("  train.limit_batches=%s: the metrics can be compared with nothing", limit)
    rows = [(name, value) for name, value in result.metrics.items() if is_result(name) and not name.endswith("_loss")]
    objective = measured_objective(config.mode, config.objective, result.metrics)
    width = max([16, *(len(name) for name, _ in rows)])
    for name, value in rows:
        note = ""
        if name == objective and result.best_epoch is not None:
            note = f"  objective, best epoch {result.best_epoch} of {result.epochs}"
        if name in first and not math.isnan(first[name]):
            note += f" ({_number(first[name])} before training)"
        log.info("  %-*s %s%s", width, name, _number(value), note)
    for name, path in result.weights.items():
        log.info("  %-*s %s", width, f"{name} weights", relative(path))
    if config.mode == "export" and not result.refused:
        log.info("Hand-off:")
        log.info("  %s", relative(Path(result.details["handoff"])))
        log.info("For the backend's %s:", result.details["env_file"])
        for line in result.details["env"]:
            log.info("  %s", line)
    log.info("Review:")
    for line in review_lines(config, folder):
        log.info("  %s", line)
    if commands := next_commands(config, folder, result):
        log.info("Next:")
    for line in commands:
        log.info("  %s", line)
    log.info("%s", shown)


def next_commands(config: RunConfig, folder: Path, result: Result) -> list[str]:
    """Commands that make sense after this run."""
    return [as_started(command) for command in _next_commands(config, folder, result)]


def _next_commands(config: RunConfig, folder: Path, result: Result) -> list[str]:
    if config.mode == "train" and config.train.limit_batches is not None:
        return [f"{_command_without(folder, _DEBUGGING)}  # the whole training"]
    commands = demo_commands(config, folder)
    same = _same_data(config, folder)
    if best := result.weights.get("best"):
        weights = shlex.quote(relative(best))
        # A re-ID training without targets leaves nothing to evaluate on.
        if not hasattr(config.dataset, "targets") or any(name.startswith("test/") for name in result.metrics):
            commands.append(f"python train.py mode=evaluate checkpoint={weights}")
        if "export" in modes(config.model.engine):
            commands.append(f"python train.py mode=export checkpoint={weights}  # for the backend")
        commands.append(f"python train.py model.weights={weights} {same}  # fine-tune")
    if config.mode == "check":
        commands.append(_command_without_mode(folder, result))
    elif config.mode == "export" and not result.refused:
        place = shlex.quote(relative(Path(result.details["handoff"])))
        commands.append(f"(cd {place} && sha256sum -c SHA256SUMS)  # then as its README.md says")
    elif config.mode == "find" or (config.mode == "predict" and config.reid is not None):
        commands.append(_another_query(config, folder))
    elif config.mode == "train":
        commands.append(f"python train.py -m {same} optimizer.lr=0.0003,0.001,0.003")
    elif config.mode in ("evaluate", "search"):
        if config.checkpoint not in (None, "random") and "export" in modes(config.model.engine):
            commands.append(
                f"python train.py mode=export checkpoint={shlex.quote(config.checkpoint)}  # for the backend"
            )
        root = _root_of_runs(config, folder) or folder.parent
        commands.append(f"python -m watchme.report {shlex.quote(relative(root))}  # beside other runs")
    return commands


def review_lines(config: RunConfig, folder: Path) -> list[str]:
    """Where the run can be looked at: its report, and what its trackers wrote."""
    pages = ("matches.html", "report.html", "issues.csv")
    lines = [relative(folder / name) for name in pages if (folder / name).is_file()]
    if (trace := folder / "profile" / "trace.json.gz").is_file():
        lines.append(f"{relative(trace)}  # opens in https://ui.perfetto.dev")
    if config.tracker.tensorboard:
        lines.append(f"tensorboard --logdir {shlex.quote(relative(_root_of_runs(config, folder) or folder))}")
    wandb = read_manifest(folder).get("wandb", {})
    if wandb.get("mode") == "offline":
        lines.append(f"wandb sync {shlex.quote(relative(folder / 'wandb'))}/offline-run-*")
    elif wandb.get("url"):
        view = f"python -m watchme.dashboard wandb --project {shlex.quote(config.tracker.project)}"
        lines += [str(wandb["url"]), str(wandb.get("dashboard") or f"{view}  # a workspace and a report of all runs")]
    return lines


def _root_of_runs(config: RunConfig, folder: Path) -> Path | None:
    """`output_root`, where the run is in it."""
    root = Path.cwd() / config.output_root
    return root if folder.is_relative_to(root) else None


def how_to_resume(config: RunConfig, folder: Path, *, begun: bool = True) -> str:
    """The text for a run that was interrupted; `begun` says whether it has changed anything."""
    if not begun:
        return "Interrupted before the run began; nothing was changed. The same command starts it."
    again = f"\n    {resume_command(folder)}"
    if config.mode == "train" and (folder / "weights" / "last.pt").is_file():
        return f"Interrupted; the last whole epoch is saved. Go on with:{again}"
    if (folder / "sightings").is_dir():
        return f"Interrupted; what was seen so far is kept. Go on with:{again}"
    if config.mode != "train":
        return "Interrupted; the same command starts again."
    return f"Interrupted before the first epoch was saved. Start it again, in the same folder, with:{again}"


def _checked(result: Result) -> str:
    """Images, errors, warnings and notes of a check."""
    images = result.details.get("check", {}).get("images", 0)
    found = {name: int(result.metrics.get(f"check/{name}", 0)) for name in ("errors", "warnings", "notes")}
    # "1 error", "2 errors"
    return ", ".join([f"{images:,} images", *(f"{n:,} {name if n != 1 else name[:-1]}" for name, n in found.items())])


def _command_without_mode(folder: Path, result: Result) -> str:
    """The training that a check was made for; after one that refused, the same check again."""
    left_out = ("hydra.run.dir=",) if result.refused else ("mode=", "hydra.run.dir=")
    return _command_without(folder, left_out) + ("  # once it is mended" if result.refused else "")


def _command_without(folder: Path, left_out: tuple[str, ...]) -> str:
    """The command of a run, less the overrides that begin so."""
    overrides = read_manifest(folder).get("overrides", [])
    return " ".join(["python train.py", *(shlex.quote(part) for part in overrides if not part.startswith(left_out))])


def _another_query(config: RunConfig, folder: Path) -> str:
    """The search for somebody (else) in the same source, of which the sightings are kept."""
    keys = {"source": config.source, "detector": config.detector, "reid": config.reid}
    given = " ".join(f"{key}={shlex.quote(str(value))}" for key, value in keys.items())
    index = shlex.quote(config.index or relative(folder))
    return f"python train.py mode=find query=<picture> {given} index={index}  # at once"


def resume_command(folder: Path) -> str:
    """The command that goes on with a run."""
    return as_started(f"python train.py train.resume={shlex.quote(relative(folder))}")


def _same_data(config: RunConfig, folder: Path) -> str:
    """Overrides that choose the same model and data again, such as dataset.height, whose default differs."""
    parts = [f"model={_option(folder, 'model')}", f"dataset={_option(folder, 'dataset')}"]
    if config.dataset.root is not None:
        parts.append(f"dataset.root={shlex.quote(config.dataset.root)}")
    given = {part.partition("=")[0]: part for part in map(str, read_manifest(folder).get("overrides", []))}
    kept = [part for key, part in given.items() if key.startswith("dataset.") and key != "dataset.root"]
    return " ".join([*parts, *map(shlex.quote, kept)])


def _option(folder: Path, group: str) -> str:
    """The option of a config group that the run was composed with."""
    choice = read_manifest(folder).get("choices", {}).get(group)
    return str(choice) if choice else f"<{group}>"


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"
