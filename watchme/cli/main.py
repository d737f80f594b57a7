"""Entry point of `python train.py` and `watchme-train`: prepare, compose, validate, run, report errors."""

import contextlib
import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, TypeGuard, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from watchme.cli.command_line import prepare
from watchme.config.conf_dir import CONF
from watchme.config.image_size import with_image_size
from watchme.config.overrides import unresolved
from watchme.config.validation import validate
from watchme.core.errors import ConfigError, Problem, WatchmeError, refused_path
from watchme.io.files import remove_if_empty

T = TypeVar("T")
_FULL_ERROR = "HYDRA_FULL_ERROR"
# What `job` and the sweeper import once a config is valid.
_RUNNERS = {"watchme.run.runner", "watchme.sweep.sweep"}
# Lines of Hydra's messages that advise what does not help here, or list its search path.
_ADVICE = (
    *("To append", "Either remove", "Or add", "Set the environment", "Config search path", "provider=", "See https"),
    *("full_key", "object_type"),
)


def main() -> None:
    """Run what the command line asks for; ends the process with the exit status of an error."""
    gc.disable()  # composing makes many objects and hardly any garbage; `job` and the sweeper turn it on again
    try:
        _prepare_and_compose()
    except SystemExit as ended:
        if isinstance(ended.code, int):
            _end_at_once(ended.code)
        raise
    _end_at_once(0)


def _prepare_and_compose() -> None:
    with _own_words():
        try:
            sys.argv[1:] = prepare(sys.argv[1:])
        except WatchmeError as error:
            _fail(error)
        job()


def _end_at_once(status: int) -> None:
    """End a process that ran nothing without freeing what it imported and composed: an eighth of a refusal's time.

    It returns where something was run, or a profiler, a debugger or a closed pipe needs Python's own end.
    """
    if _RUNNERS & sys.modules.keys() or sys.getprofile() or sys.gettrace():
        return
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@contextlib.contextmanager
def _own_words() -> Iterator[None]:
    """Answer what Hydra refuses to compose in our words, without its advice (`use +key=value`), which ours replaces.

    So are paths that the system refuses before a run begins: of a folder that cannot be made, or a name too long.
    """
    wanted = os.environ.get(_FULL_ERROR)
    os.environ.setdefault(_FULL_ERROR, "1")  # lets it raise rather than print; the job gets the user's value back
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        if wanted:
            raise
        lines = [line.strip() for line in str(error).splitlines()]
        said = [line for line in lines if line and not line.startswith(_ADVICE)]
        key = getattr(error, "full_key", None) or "command line"
        _fail(ConfigError([Problem(key, "cannot be composed: " + " ".join(said)[:600])]))
    except OSError as error:
        if wanted or not _is_path_error(error):
            raise
        _fail(refused_path(error))
    except KeyboardInterrupt:  # a run's own, and a sweep's, have been answered with how to go on
        began = _RUNNERS & sys.modules.keys()
        print("Interrupted" + ("." if began else " before the run began; nothing was changed."), file=sys.stderr)
        sys.exit(130)
    finally:
        if not wanted:
            os.environ.pop(_FULL_ERROR, None)


def _is_path_error(error: Exception) -> TypeGuard[OSError]:
    """Whether the system refused a path, and nothing was run yet."""
    return isinstance(error, OSError) and error.filename is not None and not _RUNNERS & sys.modules.keys()


def _reports_errors(job: Callable[[DictConfig], T]) -> Callable[[DictConfig], T]:
    """Let a single run end with the text and exit status of its error; in a sweep the sweeper gets the error."""

    given = os.environ.get(_FULL_ERROR)

    @functools.wraps(job)
    def wrapped(config: DictConfig) -> T:
        if not given:
            os.environ.pop(_FULL_ERROR, None)
        if HydraConfig.get().mode != RunMode.RUN:
            return job(config)
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            return job(config)
        except WatchmeError as error:
            remove_if_empty(folder)  # made for the run that is refused
            _fail(error)
        except KeyboardInterrupt:
            remove_if_empty(folder)
            raise
        except Exception as error:
            if _is_path_error(error) and not os.environ.get(_FULL_ERROR):
                remove_if_empty(folder)
                _fail(refused_path(error))
            if os.environ.get(_FULL_ERROR) or not (folder / "traceback.txt").is_file():
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
    overrides = unresolved(settings.overrides.task)
    composed = with_image_size(composed, overrides)
    config = validate(composed)
    gc.enable()
    # A refused command is spared these: they import what a run needs.
    from watchme.run.log_file import run_log
    from watchme.run.runner import run
    from watchme.sweep.trial_values import returned

    folder = Path(settings.runtime.output_dir)
    with run_log(folder / f"{settings.job.name}.log"):
        return returned(config, run(config, composed, folder, overrides))


def _fail(error: WatchmeError) -> NoReturn:
    """Print an error's text and end with its exit status."""
    sys.stdout.flush()
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
