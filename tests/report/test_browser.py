"""Both pages in headless Chromium: no console error, and what scripts draw is drawn."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from watchme.report.rendering import render_page

pytestmark = pytest.mark.browser
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
Browse = Callable[[str], tuple[str, list[str]]]


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Browse:
    """`browse(url)`: the page's document after its scripts ran, and what it wrote to the console."""
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is on PATH (apt-get install chromium)")
    profile = tmp_path_factory.mktemp("profile")

    def visit(url: str) -> tuple[str, list[str]]:
        done = subprocess.run(
            [
                program,
                *["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"],
                *["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"],
                *["--virtual-time-budget=3000", "--window-size=1400,1400", "--dump-dom"],
                f"--user-data-dir={profile}",
                url,
            ],
            capture_output=True,
            text=True,
            timeout=90,
            env={**os.environ, "HOME": str(profile)},
        )
        assert "<html" in done.stdout, done.stderr
        return done.stdout, re.findall(r"CONSOLE[:(].*", done.stderr)

    return visit


def test_an_error_would_be_noticed(browse: Browse, tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<html><body><script>nothing.at.all()</script></body></html>")
    _, messages = browse(page.as_uri())
    assert any("nothing is not defined" in message for message in messages)


def test_run_report(browse: Browse, outputs: Path) -> None:
    for name in ("one", "broken"):
        document, messages = browse((outputs / name / "report.html").as_uri())
        assert messages == []
        assert document.count('<svg class="chart"') >= 4
        assert 'class="tip"' in document, "the script ran"


def test_index_and_comparison(browse: Browse, outputs: Path) -> None:
    document, messages = browse((outputs / "index.html").as_uri())
    assert messages == []
    assert document.count('aria-label="Compare') == 3, "the two trials are folded under their sweep"
    assert "▸ 2 trials" in document
    assert 'aria-sort="descending"' in document
    compared, messages = browse((outputs / "index.html").as_uri() + "#run=one&run=two")
    assert messages == []
    assert compared.count('<tr class="chosen">') == 2
    assert "made_up on nothing, lr=0.001" in compared, "runs of one title are told apart"
    assert '<th class="number" scope="col"><button type="button" title="optimizer.lr">lr</button></th>' in compared
    assert compared.count("<svg class") >= 4
    assert '<span class="mono">optimizer.lr</span>' in compared
    assert '<span class="mono">objective</span>' not in compared


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((0.0, 1.0), ["0", "0.25", "0.5", "0.75", "1"]),
        ((0.0, 0.0), ["0", "0.25", "0.5", "0.75", "1"]),
        ((0.5, 0.5), ["0.45", "0.475", "0.5", "0.525", "0.55"]),
        ((1e-7, 2e-7), ["1e-7", "1.25e-7", "1.5e-7", "1.75e-7", "2e-7"]),
    ],
)
def test_ticks_span_the_values(values: tuple[float, float], labels: list[str], browse: Browse, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    charts = [{"title": "x", "series": [{"label": "val", "colour": 0, "points": [[0, values[0]], [300, values[1]]]}]}]
    script = (resources.files("watchme.report") / "templates" / "charts.js").read_text()
    page.write_text(f"<html><body><div data-charts='{json.dumps(charts)}'></div><script>{script}</script>")
    document, messages = browse(page.as_uri())
    assert messages == []
    found = re.findall(r'text-anchor="end">([^<]+)<', document)
    assert found == labels
    assert re.findall(r'text-anchor="middle">([^<]+)<', document) == ["0", "50", "100", "150", "200", "250", "300"]


def test_differences_to_the_baseline_are_shown_with_the_spread_over_seeds(browse: Browse, tmp_path: Path) -> None:
    run: dict[str, Any] = {
        "mode": "train",
        "folder": "a",
        "parent": None,
        "link": None,
        "status": "finished",
        "study": None,
    }
    run |= {"objective": "val/map", "dataset": "d", "ranking": "val/map d", "higher": True, "value": 0.5, "last": None}
    run |= {"reason": "", "seed": 0, "tags": [], "best": 1, "epochs": 1, "seconds": 1, "duration": "1 s", "commit": ""}
    run |= {"title": "m on d", "started": "", "series": {}, "config": {}, "twins": "x", "metrics": {"test/map": 0.50}}
    others: list[dict[str, Any]] = [
        {"folder": "b", "seed": 1, "metrics": {"test/map": 0.52}},
        {"folder": "c", "twins": "y", "metrics": {"test/map": 0.60}},
    ]
    page = tmp_path / "index.html"
    text = render_page("index.jinja", title="t", meta="", folder="f", sweeps=[], data=[run, *(run | o for o in others)])
    page.write_text(text)
    document, messages = browse(page.as_uri() + "#run=a&run=b&run=c")
    assert messages == []
    cells = re.sub(r"<[^>]+>", " ", document[document.index("test/map</td>") :].partition("</tr>")[0]).split()
    # Standard deviation of 0.50 and 0.52: 0.0141.
    expected = "test/map 0.5000 ± 0.0141 over 2 seeds 0.5200 ± 0.0141 over 2 seeds +0.0200 within chance 0.6000 +0.1000"
    assert " ".join(cells) == expected


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_no_page_is_wider_than_the_window(width: int, browse: Browse, outputs: Path) -> None:
    script = "document.body.dataset.over = document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for page in (outputs / "index.html", outputs / "one" / "report.html", outputs / "broken" / "report.html"):
        frame = page.with_name("frame.html")
        # Headless Chromium's window is at least 500 pixels wide; a frame is as wide as it is told to be.
        inner = acted_on(page, f"{script}; parent.postMessage(document.body.dataset.over, '*')")
        frame.write_text(
            f'<iframe src="{inner}" style="width:{width}px;height:900px"></iframe><script>'
            "addEventListener('message', (event) => (document.title = `over ${event.data}`))</script>"
        )
        document, _ = browse(frame.as_uri())
        assert "<title>over 0</title>" in document, (page, width)


@pytest.fixture
def sweep_page(tmp_path: Path) -> Path:
    """A study of a complete, a pruned and a failed trial over a number and a choice."""

    def trial(number: int, state: str, value: float | None, lr: float, name: str, **more: Any) -> dict[str, Any]:
        shown = {"number": number, "state": state, "value": value, "params": {"optimizer.lr": lr, "optimizer": name}}
        return {**shown, "curve": [[1, 0.1], [2, value]] if value else [], "link": None, "reason": "", **more}

    trials = [
        trial(0, "complete", 0.5, 0.001, "sgd", link="../0/report.html"),
        trial(1, "pruned", 0.2, 0.1, "adamw"),
        trial(2, "failed", None, 1.0, "adamw", reason="<out> of memory"),
    ]
    data = {"objective": "val/map", "maximize": True, "best": 0, "log": ["optimizer.lr"], "trials": trials}
    row: dict[str, Any] = {"link": None, "on_front": False, "state": "x", "state_class": "", "reason": "", "cells": []}
    text = render_page(
        "sweep.jinja",
        **{"title": "t", "meta": "", "folder": "f", "status": "finished", "failures": {}, "cards": [], "best": None},
        **{"figures": [], "columns": [], "settings": {}, "few": 3},
        importances={"optimizer.lr": (0.7, 0.5, 0.9)},
        rows=[{**row, "number": number} for number in range(3)],
        data={**data, "parameters": ["optimizer.lr", "optimizer"]},
    )
    page = tmp_path / "sweep.html"
    page.write_text(text)
    return page


def test_sweep_shows_every_measured_trial_in_every_plot(browse: Browse, sweep_page: Path) -> None:
    document, messages = browse(sweep_page.as_uri())
    assert messages == []
    marks = re.findall(r'<a (?:href="[^"]*" )?data-trial="(\d)" aria-label="trial', document)
    # History, learning curves, one plot a parameter, parallel coordinates; the failed trial has no value to draw.
    assert {number: marks.count(number) for number in "012"} == {"0": 5, "1": 5, "2": 0}
    assert document.count('href="../0/report.html"') == 5
    assert "3 trials prove little" in document
    assert "0.50 to 0.90" in document


def test_a_range_on_an_axis_fades_the_other_trials(browse: Browse, sweep_page: Path) -> None:
    script = (
        "const target = document.querySelector('.parallel .target'), box = target.getBoundingClientRect();"
        "const point = (kind, y) => target.dispatchEvent(new PointerEvent(kind, {clientX: box.left, clientY: y}));"
        "target.setPointerCapture = () => {};"
        # The upper half of the axis: the pruned trial's lr=0.1 alone.
        "point('pointerdown', box.top); point('pointermove', box.top + box.height / 2);"
    )
    document, messages = browse(acted_on(sweep_page, script))
    assert messages == []
    faded = set(re.findall(r'<(?:tr|a)[^>]*data-trial="(\d)"[^>]*class="[^"]*out', document))
    assert faded == {"0", "2"}


def acted_on(page: Path, script: str) -> str:
    """Address of a copy of a page in which a user's act is done once its own scripts have run."""
    copy = page.with_name(f"acted-{page.name}")
    copy.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    return copy.as_uri()


def test_pointing_at_a_chart_shows_its_values(browse: Browse, outputs: Path) -> None:
    script = (
        "const chart = document.querySelector('svg.chart'), box = chart.getBoundingClientRect();"
        "chart.dispatchEvent(new PointerEvent('pointermove', "
        "{bubbles: true, clientX: box.left + box.width * 0.78, clientY: box.top + 40}));"
    )
    document, messages = browse(acted_on(outputs / "one" / "report.html", script))
    assert messages == []
    shown = re.search(r'<div class="tip" style="visibility: visible[^>]*>epoch 3<div>.*?val  0\.5700', document)
    assert shown is not None


def test_sorting_filtering_and_choosing_the_best(browse: Browse, outputs: Path) -> None:
    script = (
        "[...document.querySelectorAll('th button')].find((item) => item.textContent === 'Run').click();"
        "const filter = document.getElementById('filter'); filter.value = 'finished';"
        "filter.dispatchEvent(new Event('input')); document.getElementById('best').click();"
    )
    document, messages = browse(acted_on(outputs / "index.html", script))
    assert messages == []
    assert "3 of 5 runs" in document
    assert document.count('<tr class="chosen">') == 3
    titles = re.findall(r'<td class="name"><a[^>]*>([^<]+)</a>', document)
    assert titles == sorted(titles)
