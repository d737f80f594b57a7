"""`python -m watchme.dashboard wandb` against a server on 127.0.0.1, which keeps what is upserted."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracking.wandb_server import ENTITY, ServedRun, WandbServer, wandb_server
from watchme.dashboard.__main__ import main

KEY = "0" * 40


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    """A server with one run of a sweep, and the environment that leads to it."""
    with wandb_server() as served:
        for name, value in {
            "WANDB_BASE_URL": served.url,
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
            "WANDB_DIR": str(tmp_path),
        }.items():
            monkeypatch.setenv(name, value)
        config = {"trial": {"value": {"study": "tune", "number": 0, "parameters": ["optimizer.lr"]}}}
        summary = {"val/map50": {"max": 0.5}, "objective": "val/map50", "objective_value": 0.5, "status": "pruned"}
        served.runs["r0"] = ServedRun("r0", "people", config=config, summary=summary)
        served.projects.add("people")
        yield served


def dashboard(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["watchme.dashboard", "wandb", *arguments])
    return main()


def test_pages_are_saved_and_saved_again_under_the_same_name(
    server: WandbServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dashboard(monkeypatch, "--project", "people") == 0
    workspace, report = server.views.values()
    assert (workspace["type"], report["type"]) == ("project-view", "runs")
    assert (workspace["entityName"], workspace["projectName"]) == (ENTITY, "people")
    spec = json.loads(workspace["spec"])["section"]
    sections = {section["name"]: section["panels"] for section in spec["panelBankConfig"]["sections"]}
    assert sections["Validation"][0]["config"]["metrics"] == ["val/map50"]
    assert sections["Sweep tune"][0]["config"]["columns"][0]["accessor"] == "config:optimizer.value.lr"
    assert spec["customRunColors"] == {"r0": "#9aa0a6"}
    assert json.loads(report["spec"])["blocks"]
    shown = capsys.readouterr().out
    assert "1 run and 1 sweep:" in shown
    name = workspace["name"].removeprefix("nw-").removesuffix("-v")
    assert f"{server.url}/{ENTITY}/people?nw={name}" in shown
    assert dashboard(monkeypatch, "--project", "people") == 0
    assert len(server.views) == 2, "the second time replaces both"


def test_a_project_that_is_not_there_is_made(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dashboard(monkeypatch, "--project", "new", "--entity", ENTITY) == 0
    assert "new" in server.projects
    assert {view["projectName"] for view in server.views.values()} == {"new"}


def test_an_unknown_study_is_refused_before_anything_is_saved(
    server: WandbServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dashboard(monkeypatch, "--project", "people", "--study", "tuned") == 1
    assert "are of these studies: tune" in capsys.readouterr().err
    assert not server.views


def test_without_a_key_it_says_how_to_log_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert dashboard(monkeypatch) == 2
    assert "wandb login" in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert dashboard(monkeypatch) == 1
    assert "http://127.0.0.1:9 does not answer" in capsys.readouterr().err
