"""A tracker that fails warns once, never stops a training, and never slows it; nothing leaves the machine."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import wandb

from tracking.made_up import Tracked, event, make_config, tracking_of
from tracking.wandb_file import WandbFile
from watchme.core.interfaces import Stop
from watchme.tracking import process as guard
from watchme.tracking.process import TrackingProcess
from watchme.tracking.setup import has_key, parameter_keys

KEY = "0" * 40


@contextmanager
def server(answer: bytes | None, only: bytes = b"") -> Iterator[tuple[str, list[bytes]]]:
    """A server on 127.0.0.1 that gives requests that begin with `only` one answer, or none; with all it was asked."""
    asked: list[bytes] = []
    kept: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            kept.append(connection)
            try:
                asked.append(connection.recv(4096))
                if answer is not None and asked[-1].startswith(only):
                    connection.sendall(answer)
                    connection.close()
            except OSError:
                continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        listener.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def trained(folder: Path, **tracker: Any) -> tuple[Tracked, float]:
    """A short run, and the longest that one of its epochs waited for its callbacks."""
    run = Tracked.begin(folder, make_config(**tracker))
    longest = 0.0
    for epoch in (1, 2, 3):
        start = time.perf_counter()
        run.session.emit(event(epoch, 0.1 * epoch))
        longest = max(longest, time.perf_counter() - start)
    run.end("finished", run.result())
    return run, longest


def test_a_server_that_does_not_answer_delays_no_epoch_and_the_run_goes_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with server(None) as (url, asked):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        start = time.perf_counter()
        run, longest = trained(tmp_path / "run", wandb=True)
        total = time.perf_counter() - start
    assert asked, "a key is set, so auto tried to be online"
    assert longest < 2, "who waits for the server waits 3 s and more"
    assert total < 80, "W&B's own patience is 90 s"
    (warning,) = warnings(caplog)
    assert "W&B goes offline" in warning
    assert url in warning
    saved = WandbFile(run.folder)
    assert len([row for row in saved.history if "val/map50" in row]) == 3
    assert saved.exit_code == 0
    assert json.loads((run.folder / "run.json").read_text())["wandb"]["mode"] == "offline"


UNAUTHORISED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has asked W&B for something: its service stands in the environment."""
    monkeypatch.delenv("WANDB_SERVICE", raising=False)
    service = wandb.setup()
    service.ensure_service()
    assert "WANDB_SERVICE" in os.environ
    yield
    wandb.teardown()


def test_the_report_is_written_while_trackers_finish(tmp_path: Path) -> None:
    run = Tracked.begin(tmp_path / "run", make_config(tensorboard=True))
    tracker = tracking_of(run)
    assert tracker._started.wait(60)
    os.kill(tracker._process.pid, signal.SIGSTOP)
    ending = threading.Thread(target=run.end, args=("finished", run.result()))
    ending.start()
    try:
        deadline = time.monotonic() + guard.WAIT_S["offline"] / 2
        while not (run.folder / "report.html").is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (run.folder / "report.html").is_file()
        assert ending.is_alive(), "it waits for what is stopped"
    finally:
        os.kill(tracker._process.pid, signal.SIGCONT)
        ending.join(120)
    assert tracker._process.poll() == 0


@pytest.mark.usefixtures("notebook")
@pytest.mark.parametrize(
    ("answer", "only"), [(UNAUTHORISED, b""), (FINE, b"GET / ")], ids=["key is refused", "hangs at login"]
)
def test_a_login_that_fails_goes_offline(
    answer: bytes, only: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with server(answer, only) as (url, _):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3")
        run, longest = trained(tmp_path / "run", wandb=True, mode="online")
    assert longest < 2, "who waits for the server waits 3 s and more"
    (warning,) = warnings(caplog)
    assert "W&B goes offline" in warning
    assert WandbFile(run.folder).exit_code == 0
    assert len(list(run.folder.glob("wandb/*run-*/*.wandb"))) == 1, "the attempt leaves no second run"
    assert "wandb sync" in (run.folder / "report.html").read_text(), "written when the attempt had failed"


def test_online_without_a_key_goes_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with server(FINE) as (url, _):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        run, _ = trained(tmp_path / "run", wandb=True, mode="online")
    (warning,) = warnings(caplog)
    assert "W&B goes offline" in warning
    assert WandbFile(run.folder).exit_code == 0


def test_a_tracker_that_cannot_write_is_left_out_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "tensorboard").write_text("in the way")
    run, _ = trained(folder, tensorboard=True, wandb=True, mode="offline")
    (warning,) = warnings(caplog)
    assert "TensorBoard is off for the rest of this run" in warning
    assert len(run.lines()) == 3
    assert WandbFile(folder).exit_code == 0


def test_a_tracking_process_that_dies_is_warned_about_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Tracked.begin(tmp_path / "run", make_config(tensorboard=True))
    tracker = tracking_of(run)
    tracker._process.kill()
    tracker._done.wait(10)
    start = time.perf_counter()
    run.epochs()
    run.end("finished", run.result())
    assert time.perf_counter() - start < guard.WAIT_S["offline"] / 2
    (warning,) = warnings(caplog)
    assert "broke off" in warning
    assert len(run.lines()) == 5


def test_a_missing_picture_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from watchme.core.interfaces import Picture

    run = Tracked.begin(tmp_path / "run", make_config(tensorboard=True))
    for _ in range(2):
        run.session.show(Picture("val/predictions", tmp_path / "nothing.png"))
    run.end("finished", run.result())
    assert len(warnings(caplog)) == 1


def test_a_loader_that_holds_the_pipe_open_does_not_delay_the_end(tmp_path: Path) -> None:
    run = Tracked.begin(tmp_path / "run", make_config(tensorboard=True))
    pipe = tracking_of(run)._process.stdin
    assert pipe is not None
    held = os.dup(pipe.fileno())  # as a forked process of a data loader does
    start = time.perf_counter()
    run.end("finished", run.result())
    assert time.perf_counter() - start < guard.WAIT_S["offline"] / 2
    os.close(held)


def test_an_upload_that_takes_long_goes_on_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(guard.WAIT_S, "offline", 0.01)
    run, _ = trained(tmp_path / "run", wandb=True, mode="offline")
    (warning,) = warnings(caplog)
    assert "it goes on as process" in warning
    assert f"wandb sync {run.folder}/wandb/*run-*" in warning
    tracking_of(run)._process.wait(120)
    assert WandbFile(run.folder).exit_code == 0


def test_the_stop_button_stops_after_the_epoch(tmp_path: Path) -> None:
    run = Tracked.begin(tmp_path / "run", make_config(tensorboard=True))
    tracker = tracking_of(run)
    tracker._inbox.put(("stop", ("the stop button was pressed in W&B",)))
    assert run.session.emit(event(1, 0.5)) == Stop("the stop button was pressed in W&B")
    run.end("finished", run.result())


@pytest.mark.parametrize("tracker", [{}, {"wandb": True, "mode": "disabled"}])
def test_none_and_disabled_start_nothing(tracker: dict[str, Any], tmp_path: Path) -> None:
    run, _ = trained(tmp_path / "run", **tracker)
    assert not [item for item in run.session.callbacks if isinstance(item, TrackingProcess)]
    assert not (run.folder / "wandb").exists()
    assert len(run.lines()) == 3


def test_a_killed_training_leaves_a_run_that_has_ended(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    script = (
        "import os, signal, time; from pathlib import Path; from tracking.made_up import *\n"
        f"run = Tracked.begin(Path({str(folder)!r}), make_config(wandb=True, mode='offline'))\n"
        "run.epochs(1, 2, pictures=False); time.sleep(1.5); os.kill(os.getpid(), signal.SIGKILL)"
    )
    here = Path(__file__).resolve().parent.parent
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    done = subprocess.run([sys.executable, "-c", script], env=variables, timeout=120)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 120  # a tracking process has a low priority
    while time.monotonic() < deadline:
        files = list(folder.glob("wandb/offline-run-*/*.wandb"))
        if files and (saved := WandbFile(folder)).exit_code is not None:
            break
        time.sleep(0.2)
    assert saved.exit_code == 255
    assert [row["epoch"] for row in saved.history if "epoch" in row] == [1, 2]
    assert "killed" in saved.tags


def test_nothing_leaves_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP clients, W&B's Go program included, are given a proxy that nobody must ask; Python's sockets are held."""
    hold = tmp_path / "hold"
    hold.mkdir()
    (hold / "sitecustomize.py").write_text(
        "import socket, sys\n"
        "def audit(name, arguments):\n"
        "    if name in ('socket.connect', 'socket.sendto'):\n"
        "        address = arguments[1]\n"
        "        if isinstance(address, tuple) and address[0] not in ('127.0.0.1', '::1', 'localhost'):\n"
        f"            open({str(tmp_path / 'attempts')!r}, 'a').write(f'{{address}}\\n')\n"
        "            raise OSError('no network in tests')\n"
        "    if name == 'socket.getaddrinfo' and arguments[0] not in ('127.0.0.1', '::1', 'localhost', None):\n"
        f"        open({str(tmp_path / 'attempts')!r}, 'a').write(f'{{arguments[0]}}\\n')\n"
        "sys.addaudithook(audit)\n"
        f"open({str(tmp_path / 'held')!r}, 'a').close()\n"
    )
    monkeypatch.syspath_prepend(str(hold))
    with server(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as (url, asked):
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, url)
        run, _ = trained(tmp_path / "run", tensorboard=True, wandb=True)
    assert (tmp_path / "held").exists(), "the tracking process was watched"
    assert not (tmp_path / "attempts").exists(), (tmp_path / "attempts").read_text()
    assert asked == []
    assert WandbFile(run.folder).exit_code == 0


def test_the_tracking_process_imports_no_more_than_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What these take is most of what tracking costs a short training."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, pathlib, sys\n"
        "if any('process_main' in argument for argument in sys.orig_argv):\n"
        f"    file = pathlib.Path({str(tmp_path / 'imported')!r})\n"
        "    atexit.register(lambda: file.write_text(' '.join(sys.modules)))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    trained(tmp_path / "run", tensorboard=True, wandb=True, mode="offline")
    imported = set((tmp_path / "imported").read_text().split())
    assert {"wandb", "tensorboard"} <= imported
    assert not {"boto3", "fsspec", "hydra", "omegaconf", "torch", "wandb.sdk.launch"} & imported


def test_a_key_is_found_where_wandb_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not has_key()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert has_key()


def test_trial_parameters_are_what_the_sweep_varies() -> None:
    names, choices = ["optimizer", "optimizer.lr"], {"optimizer": "sgd", "model": "yolo11n"}
    assert parameter_keys(names, choices) == ["choices.optimizer", "optimizer.lr"]


def test_nothing_heavy_is_imported_before_a_run_starts() -> None:
    script = (
        "import sys, watchme.cli.main, watchme.run.runner, watchme.config.validation\n"
        "heavy = {'wandb', 'tensorboard', 'matplotlib', 'PIL', 'torch', 'numpy', 'pynvml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    root = Path(__file__).resolve().parent.parent.parent
    subprocess.run([sys.executable, "-c", script], cwd=root, check=True, timeout=60)
