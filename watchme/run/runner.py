"""One run: its folder is locked, its engine works, its result, status and closing lines are written."""

import logging
import math
import shlex
from pathlib import Path

from omegaconf import DictConfig

from watchme.config.schema import RunConfig
from watchme.core.batch_limit import not_comparable
from watchme.core.errors import WatchmeError
from watchme.core.formatting import number, relative
from watchme.core.interfaces import Result
from watchme.core.metric_names import is_better, measured_objective
from watchme.core.registry import load_mode
from watchme.core.signals import signals_interrupt
from watchme.io.files import read_json, read_yaml
from watchme.run import provenance
from watchme.run import summary as console
from watchme.run.failures import explain, is_interruption, say_how_to_go_on
from watchme.run.run_dir import CONFIG, SUMMARY, RunFolder
from watchme.run.session import Session
from watchme.weights.initial import describe_weights

log = logging.getLogger(__name__)


class Interrupted(WatchmeError):
    """The run was ended by Ctrl-C, SIGTERM or SIGHUP; the message says how to go on."""

    exit_code = 130


class Refused(WatchmeError):
    """The run did its work, and its answer is no: see `Result.refused`."""


def run(config: RunConfig, composed: DictConfig, folder: Path, overrides: list[str]) -> Result:
    """Run one job in its folder.

    Args:
        config: The validated config.
        composed: The config that it was made from; its resolved form is written into the folder.
        folder: The run folder.
        overrides: The command line's overrides, for the manifest.

    Returns:
        The engine's result. `run.json`, `summary.json` and `metrics.jsonl` are written by then. A sweep's trial that
        its pruner ended returns too: its status is `pruned`, which the sweeper reads from the study's storage. A
        finished run that is resumed as it was returns its result, and nothing is changed.

    Raises:
        WatchmeError: What the user must act on. Before `Session.begin` nothing in the folder was changed; after it the
            folder's status is `failed` and its traceback there.
        Refused: After a check or an export whose answer is no; the status is `refused`.
        Interrupted: After Ctrl-C, SIGTERM or SIGHUP; the status is `interrupted`.
    """
    initial = provenance.initial_weights(config)
    record = RunFolder(folder, resume=config.train.resume is not None)
    try:
        if config.train.resume is not None and (finished := _finished_result(config, record)) is not None:
            return finished
        if initial is not None:
            record.record("initial_weights", initial)
            log.info("Weights: %s", describe_weights(initial))
        return _run(config, record, Session(config, record, lambda: record.open(composed, overrides)))
    finally:
        record.release()


def _run(config: RunConfig, record: RunFolder, session: Session) -> Result:
    # Warnings of libraries go to train.log, by the logger py.warnings.
    logging.captureWarnings(True)
    status = "failed"
    result: Result | None = None
    error: BaseException | None = None
    try:
        with signals_interrupt():
            console.announce(config, record.path)
            _announce_changed_schedule(config, record, session)
            if (limit := config.train.limit_batches) is not None:
                session.fallback(not_comparable(limit))
                record.record("limit_batches", limit)
            work = load_mode(config.model.engine, config.mode)
            with session.gpus:
                result = work(session.job())
            session.begin()
            # By now every engine has imported what knows the GPUs.
            record.record("hardware", provenance.hardware())
        status = "pruned" if session.stop and session.stop.kind == "pruned" else "finished"
        if result.refused:
            status = "refused"
    except BaseException as exception:
        if is_interruption(exception):
            status = "interrupted"
            raise Interrupted(console.how_to_resume(config, record.path, begun=session.begun)) from None
        error = exception
        # An unexpected error of a new run is kept with its traceback; a refusal leaves nothing.
        if not isinstance(error, WatchmeError) and config.train.resume is None:
            session.begin()
        if (explained := explain(exception, config, record.path)) is not None:
            raise explained from exception
        if isinstance(exception, WatchmeError) and session.begun:
            say_how_to_go_on(exception, config, record.path)
        raise
    finally:
        logging.captureWarnings(False)
        if session.begun and (full := _close(config, record, session, status, result, error)) is not None:
            raise (explain(full, config, record.path) or full) from full
    console.report(config, record.path, status, result, session.first)
    if result.refused:
        raise Refused(result.refused)
    return result


def _close(
    config: RunConfig,
    record: RunFolder,
    session: Session,
    status: str,
    result: Result | None,
    error: BaseException | None,
) -> OSError | None:
    """Write summary and status; returns why the summary could not be written (a full disk): the run failed then."""
    full: OSError | None = None
    if result is not None:
        try:
            _announce_lowered_objective(config, session, result)
            objective = measured_objective(config.mode, config.objective, result.metrics)
            record.write_summary(objective, status, result)
        except OSError as unwritten:
            full, status = unwritten, "failed"
    try:
        record.close(status, result, error or full)
    except OSError as unwritten:
        full = unwritten
    try:
        session.end(status, result)
    except KeyboardInterrupt:
        if result is None:
            raise
        report = f"python -m watchme.report {shlex.quote(relative(record.path))}"
        raise Interrupted(f"Interrupted at its end; the run is {status}. Its report:\n    {report}") from None
    return full


def _announce_changed_schedule(config: RunConfig, record: RunFolder, session: Session) -> None:
    """Say that a run resumed with other epochs has another learning rate, where the schedule spans all epochs."""
    if config.train.resume is None:
        return
    before = (read_yaml(record.path / CONFIG).get("train") or {}).get("epochs")
    if before not in (None, config.train.epochs) and config.scheduler.name in ("linear", "cosine"):
        session.fallback(
            f"train.epochs was {before} and is {config.train.epochs}: the {config.scheduler.name} schedule spans all "
            "epochs, so the learning rate is another one from here on than in a run of that length"
        )


def _announce_lowered_objective(config: RunConfig, session: Session, result: Result) -> None:
    """Say, in the log, the report and the manifest, that the weights were better before training."""
    objective = measured_objective(config.mode, config.objective, result.metrics)
    before, after = session.first.get(objective, math.nan), result.objective
    if config.mode == "train" and is_better(objective, before, after):
        session.fallback(
            f"training made {objective} worse: {number(before)} before it, {number(after)} with the best of "
            f"{result.epochs} epochs. weights/best.pt is of that epoch; the initial weights are better on this split. "
            "Try a lower optimizer.lr or more epochs"
        )


def _finished_result(config: RunConfig, record: RunFolder) -> Result | None:
    """The result of a run that has finished and is resumed without anything that would let it train on."""
    saved = read_yaml(record.path / CONFIG)
    before = saved.get("train") or {}
    longer = config.train.epochs > before.get("epochs", 0)
    if record.manifest.get("status") != "finished" or longer:
        return None
    if config.objective != saved.get("objective") or config.train.patience != before.get("patience"):
        return None  # a run that stopped early may train on
    if config.mode != "train":
        log.info("%s has finished; nothing was changed", relative(record.path))
        return Result({}, math.nan)
    result = _saved_result(record.path)
    found = f"{result.epochs} epochs, best {config.objective} {result.objective:.4f}"
    if not result.epochs:
        found = f"{SUMMARY} is damaged, report.html and metrics.jsonl have its results"
    log.info("%s has finished: %s", relative(record.path), found)
    text = (
        "    Nothing was changed. train.epochs=N with N above %d trains on, if the engine keeps the optimizer's state;"
    )
    log.info(text, before.get("epochs", 0))
    log.info("    a new run starts from its weights by model.weights=%s", relative(record.path / "weights/best.pt"))
    log.info("%s", relative(record.path))
    return result


def _saved_result(folder: Path) -> Result:
    """What summary.json holds, less what is damaged."""
    summary = read_json(folder / SUMMARY)
    numbers = {name: float(value) for name, value in summary.items() if type(value) in (int, float)}
    metrics = {name: numbers.get(name, math.nan) for name in summary if "/" in name}
    paths = summary.get("weights")
    weights = {name: Path(str(path)) for name, path in paths.items()} if isinstance(paths, dict) else {}
    best = numbers.get("best_epoch")
    return Result(
        metrics,
        numbers.get("objective_value", math.nan),
        None if best is None else int(best),
        int(numbers.get("epochs", 0)),
        weights,
    )
