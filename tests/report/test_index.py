"""The index of runs and sweeps."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from report.conftest import add_run
from watchme.report.index_page import find_sweeps, write_index
from watchme.report.run_reader import find_runs

PROJECT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def data(outputs: Path) -> dict[str, dict[str, Any]]:
    text = (outputs / "index.html").read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found is not None
    return {run["folder"]: run for run in json.loads(found[1])}


def test_lists_every_run_and_links_its_report(outputs: Path, data: dict[str, dict[str, Any]]) -> None:
    assert set(data) == {"one", "two", "broken", "sweep/0", "sweep/1"}
    for run in data.values():
        assert (outputs / run["link"]).is_file()
    assert data["broken"]["status"] == "failed"
    assert data["broken"]["value"] is None


def test_numbers_are_those_of_the_runs(outputs: Path, data: dict[str, dict[str, Any]]) -> None:
    lines = [json.loads(line) for line in (outputs / "one" / "metrics.jsonl").read_text().splitlines()]
    assert data["one"]["series"]["val/map50"] == [[at["epoch"], at["val/map50"]] for at in lines if at.get("val/map50")]
    assert data["one"]["metrics"]["test/map50"] == 0.5
    assert data["one"]["value"] == 0.57


def test_holds_only_what_differs_of_the_configs(data: dict[str, dict[str, Any]]) -> None:
    assert data["one"]["config"]["optimizer.lr"] == "0.001"
    assert data["two"]["config"]["optimizer.lr"] == "0.01"
    assert "train.seed" not in data["one"]["config"]


def test_sweep_is_gathered_and_linked(outputs: Path) -> None:
    (sweep,) = find_sweeps(outputs, find_runs(outputs))
    assert sweep.study == "my_study"
    assert len(sweep.runs) == 2
    assert sweep.best is not None
    text = (outputs / "index.html").read_text()
    assert '<a href="sweep/report/index.html">my_study</a>' in text


def test_a_sweep_with_nothing_but_a_report_is_listed(tmp_path: Path) -> None:
    (tmp_path / "lonely" / "report").mkdir(parents=True)
    (tmp_path / "lonely" / "report" / "index.html").write_text("x")
    assert 'href="lonely/report/index.html"' in write_index(tmp_path).read_text()


def test_command_builds_it_and_writes_missing_reports(tmp_path: Path) -> None:
    run = add_run(tmp_path, "run", 0.1)
    (run.folder / "report.html").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "watchme.report", str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "index.html")
    assert (run.folder / "report.html").is_file()
    missing = subprocess.run(
        [sys.executable, "-m", "watchme.report", str(tmp_path / "nowhere")], cwd=PROJECT, capture_output=True, text=True
    )
    assert missing.returncode == 2
    assert "is not a folder" in missing.stderr


def test_text_of_runs_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    run = add_run(tmp_path, "a run</script><b>", 0.1)
    assert run.folder.is_dir()
    text = write_index(tmp_path).read_text()
    assert "a run</script>" not in text
    assert "a%20run%3C/script%3E%3Cb%3E/report.html" in text
