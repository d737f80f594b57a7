"""Entry point of `python train.py` and `watchme-train`: prepare, compose, validate, run, report errors."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from watchme.cli.command_line import prepare
from watchme.config.conf_dir import CONF
from watchme.config.image_size import with_image_size
from watchme.config.validation import validate
from watchme.core.errors import WatchmeError
from watchme.run.log_file import run_log
from watchme.run.run_dir import discard_unused
from watchme.run.runner import run
from watchme.sweep.trial_values import returned

T = TypeVar("T")


def main() -> None:
    """Run what the command line asks for; ends the process with the exit status of an error."""
    try:
        sys.argv[1:] = prepare(sys.argv[1:])
    except WatchmeError as error:
        _fail(error)
    job()


def _reports_errors(job: Callable[[DictConfig], T]) -> Callable[[DictConfig], T]:
    """Let a single run end with the text and exit status of its error; in a sweep the sweeper gets the error."""

    @functools.wraps(job)
    def wrapped(config: DictConfig) -> T:
        if HydraConfig.get().mode != RunMode.RUN:
            return job(config)
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            return job(config)
        except WatchmeError as error:
            discard_unused(folder)
            _fail(error)
        except Exception as error:
            if os.environ.get("HYDRA_FULL_ERROR") or not (folder / "traceback.txt").is_file():
                raise
            # A library's error does not say what to do: name it, and the file of its traceback.
            print(
                f"Unexpected {type(error).__name__}: {error}\n"
                f"    The traceback is in {folder / 'traceback.txt'} (HYDRA_FULL_ERROR=1 prints it).",
                file=sys.stderr,
            )
            sys.exit(1)

    return wrapped


@hydra.main(config_path=str(CONF), config_name="config")
@_reports_errors
def job(composed: DictConfig) -> float | list[float]:
    """Run one job of a composed config; a sweep optimises the objective that it returns."""
    settings = HydraConfig.get()
    if settings.job.chdir:
        # Relative paths mean the user's folder all the same, in overrides as in the commands that are printed.
        os.chdir(settings.runtime.cwd)
    composed = with_image_size(composed, settings.overrides.task)
    config = validate(composed)
    folder = Path(settings.runtime.output_dir)
    with run_log(folder / f"{settings.job.name}.log"):
        return returned(config, run(config, composed, folder, list(settings.overrides.task)))


def _fail(error: WatchmeError) -> NoReturn:
    """Print an error's text and end with its exit status."""
    sys.stdout.flush()
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
