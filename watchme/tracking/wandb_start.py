"""Starts a W&B run: online where the server answers, else offline."""

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import wandb

from watchme.tracking.setup import Setup, WandbSetup, probe, server
from watchme.tracking.skipped_imports import skipped

_INIT_S = 20.0
_TEARDOWN_S = 10.0
_FINISH_S = 600.0


def start_run(
    setup: Setup,
    config: dict[str, Any],
    git: Mapping[str, Any],
    warn: Callable[[str, str], None],
    stop: Callable[[], None],
) -> tuple[Any, Literal["online", "offline"]]:
    """Start or resume the run.

    Args:
        setup: What is known of the run; its `wandb` is not None.
        config: What W&B's config holds.
        git: `commit` and `remote` of the code, for the command that W&B's page gives to check it out.
        warn: Takes a topic and a text, where the run goes offline.
        stop: Called when the stop button of W&B is pressed.

    Returns:
        The run, and how it was started.

    Raises:
        wandb.Error: If not even an offline run can be started.
    """
    assert setup.wandb is not None
    wanted = setup.wandb
    settings = _settings(setup, wanted, git, stop)
    if wanted.mode == "online":
        before = set(_run_folders(setup))
        try:
            probe(server())
            return _init(setup, config, "online", settings), "online"
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            warn("W&B", f"W&B goes offline for this run: {text[:300]}")
            _clear(setup, before)
    return _init(setup, config, "offline", settings), "offline"


def _run_folders(setup: Setup) -> list[Path]:
    assert setup.wandb is not None
    return list((Path(setup.folder) / "wandb").glob(f"run-*-{setup.wandb.id}"))


def _clear(setup: Setup, before: set[Path]) -> None:
    """Forget an attempt to be online: W&B's service holds the id as taken, and an empty run would be synced."""
    ending = threading.Thread(target=wandb.teardown, args=(1,), daemon=True)
    ending.start()
    ending.join(_TEARDOWN_S)
    for folder in set(_run_folders(setup)) - before:
        shutil.rmtree(folder, ignore_errors=True)


def _init(setup: Setup, config: dict[str, Any], mode: Literal["online", "offline"], settings: dict[str, Any]) -> Any:
    wanted = setup.wandb
    assert wanted is not None
    # W&B looks for inputs that its Launch has staged, and logs where it cannot; the import takes longer than all else.
    with skipped("wandb.sdk.launch"):
        return wandb.init(
            id=wanted.id,
            # A retried or resumed run must find its own id taken without failing.
            resume="allow",
            mode=mode,
            dir=setup.folder,
            project=wanted.project,
            entity=wanted.entity,
            name=wanted.name,
            group=wanted.group,
            job_type=wanted.job_type,
            tags=wanted.tags or None,
            notes=wanted.notes,
            config=config,
            reinit="create_new",
            settings=wandb.Settings(**settings),
        )


def _settings(setup: Setup, wanted: WandbSetup, git: Mapping[str, Any], stop: Callable[[], None]) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "console": "wrap_raw" if wanted.console else "off",
        "save_code": False,
        "disable_code": True,
        "disable_git": True,  # W&B would look at the working directory, and the code may be elsewhere
        "git_commit": git.get("commit") if wanted.code else None,
        "git_remote_url": git.get("remote") if wanted.code else None,
        "disable_job_creation": True,
        "sync_tensorboard": False,
        "silent": True,
        "allow_val_change": True,
        "login_timeout": _INIT_S,
        "finish_timeout": _FINISH_S,
        "stop_fn": stop,
        "program": setup.argv[0] if setup.argv else "train.py",
        "x_save_requirements": wanted.code,
        "x_stats_pid": setup.pid,
        "x_stats_track_process_tree": True,  # the data loader's processes are part of the training
        # A cloud's metadata server would be asked for otherwise; nothing listens there.
        "x_stats_coreweave_metadata_base_url": "http://127.0.0.1:9",
    }
    if "WANDB_INIT_TIMEOUT" not in os.environ:
        settings["init_timeout"] = _INIT_S
    # Older and newer versions know other settings, and refuse those they do not know.
    return {name: value for name, value in settings.items() if name in wandb.Settings.model_fields}
