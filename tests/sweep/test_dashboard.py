"""optuna-dashboard opens the study of a sweep, by the command that the closing lines name."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from report.conftest import browse, browser  # noqa: F401  (fixtures)
from sweep.conftest import Swept
from sweep.servers import answers, free_port, until

Browse = Callable[[str], tuple[str, list[str]]]


@pytest.mark.browser
@pytest.mark.parametrize(("storage", "study"), [("study.db", 1), ("s.journal", 0)])  # Optuna's id of the study
def test_the_dashboard_shows_the_study(
    storage: str,
    study: int,
    sweep: Callable[..., Swept],
    browse: Browse,  # noqa: F811
    project: Path,
    tmp_path: Path,
) -> None:
    pytest.importorskip("optuna_dashboard")
    done = sweep(
        tmp_path / "s",
        *(
            "optimizer.lr=0.01,0.02",
            "train.epochs=1",
            "hydra.sweeper.report=false",
            "hydra.sweeper.study_name=my-study",
        ),
        f"hydra.sweeper.storage={tmp_path / 's' / storage}",
    )
    assert done.code == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if "optuna-dashboard" in line)
    uvx, program, argument = shlex.split(line)
    assert (uvx, program) == ("uvx", "optuna-dashboard")
    port = free_port()
    script = "import sys; from optuna_dashboard._cli import main; main()"
    command = [sys.executable, "-c", script, argument, "--port", str(port), "--quiet"]
    server = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(port))
        listed, messages = browse(f"http://127.0.0.1:{port}/dashboard")
        assert "my-study" in listed
        shown, more = browse(f"http://127.0.0.1:{port}/dashboard/studies/{study}/trials")
        assert "optimizer.lr" in shown or "Trial 0" in shown
        assert [text for text in [*messages, *more] if "Uncaught" in text] == []
    finally:
        server.terminate()
        server.wait()
