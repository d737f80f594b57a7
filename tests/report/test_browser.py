"""Pages in headless Chromium: no console error, what scripts draw is drawn, and it answers pointer and keys."""

import csv
import io
import json
import os
import re
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from report.chromium import Chromium
from report.conftest import Browse
from tracking.made_up import Tracked, make_config
from watchme.core.formatting import UNDEFINED
from watchme.report.index_page import write_index
from watchme.report.rendering import render_page

pytestmark = pytest.mark.browser
# A run as the index has it.
ROW: dict[str, Any] = {
    **{"mode": "train", "parent": None, "link": None, "status": "finished", "study": None, "sweep": None},
    **{"objective": "val/map", "dataset": "d", "ranking": "val/map d", "higher": True, "value": 0.5, "last": None},
    **{"reason": "", "seed": 0, "tags": [], "best": 1, "epochs": 1, "seconds": 1, "duration": "1 s", "commit": ""},
    **{"title": "m on d", "started": "", "series": {}, "config": {}, "twins": "x", "metrics": {}, "lower": []},
}


def index_of(folder: Path, runs: list[dict[str, Any]]) -> str:
    """Address of an index page of such runs."""
    file = folder / "index.html"
    values = {"title": "t", "meta": "", "folder": "f", "sweeps": [], "meanings": {}}
    file.write_text(render_page("index.jinja", **values, data=runs))
    return file.as_uri()


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
        ((5e-4, 2e-3), ["0.0005", "0.001", "0.0015", "0.002"]),
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
    run = {**ROW, "folder": "a", "metrics": {"test/map": 0.50}}
    others: list[dict[str, Any]] = [
        {
            "folder": "b",
            "seed": 1,
            "metrics": {"test/map": 0.52},
            "config": {"optimizer.lr": "0.00127138680649", "trial.number": "1"},
        },
        {"folder": "c", "twins": "y", "metrics": {"test/map": 0.60}},
        {"folder": "f", "mode": "search", "twins": "w", "config": {"optimizer.lr": "0.7", "optimizer.momentum": "0.8"}},
        {"folder": "e", "twins": "z", "ranking": "val/map other", "metrics": {"test/map": 0.90}},
    ]
    page = index_of(tmp_path, [run, *(run | other for other in others)])
    document, messages = browse(page + "#run=a&run=b&run=c&run=e")
    assert messages == []
    assert '<td class="number">0.001271</td>' in document, "four digits tell settings apart"
    assert ">0.7<" not in document, "a search has a learning rate in its config, and learns nothing"
    assert 'title="optimizer.momentum"' not in document
    assert "0.00127138680649</td>" in document, "the difference of the configs is exact"
    assert "trial.number" not in re.sub(r"<script.*?</script>", "", document, flags=re.S)
    cells = re.sub(r"<[^>]+>", " ", document[document.index("test/map</td>") :].partition("</tr>")[0]).split()
    # Standard deviation of 0.50 and 0.52: 0.0141.
    expected = (
        "test/map 0.5000 ± 0.0141 over 2 seeds 0.5200 ± 0.0141 over 2 seeds +0.0200 within chance 0.6000 +0.1000 0.9000"
    )
    assert " ".join(cells) == expected


def test_the_same_seed_again_and_runs_that_broke_off_say_nothing_of_chance(browse: Browse, tmp_path: Path) -> None:
    again = [{**ROW, "folder": name, "seed": 3, "metrics": {"test/map": 0.5}} for name in ("a", "b")]
    pruned = {**ROW, "folder": "c", "seed": 4, "status": "pruned", "metrics": {"test/map": 0.1}}
    document, messages = browse(index_of(tmp_path, [*again, pruned]) + "#run=a&run=c")
    assert messages == []
    assert " over " not in document.partition('id="finals"')[2].partition("</section>")[0]


def test_equal_results_have_no_spread(browse: Browse, tmp_path: Path) -> None:
    equal = [{**ROW, "folder": str(seed), "seed": seed, "metrics": {"test/map": 0.8}} for seed in range(3)]
    document, _ = browse(index_of(tmp_path, equal) + "#run=0")
    assert re.findall(r"± ([^ ]+) over 3 seeds", document) == ["0"], "0.8 + 0.8 + 0.8 is no multiple of 0.8"


def test_a_difference_is_good_where_more_or_less_is_better(browse: Browse, tmp_path: Path) -> None:
    slow = {**ROW, "folder": "a", "metrics": {"perf/frames_per_s": 30, "time/total_s": 9}, "lower": ["time/total_s"]}
    fast = {**slow, "folder": "b", "twins": "y", "metrics": {"perf/frames_per_s": 60, "time/total_s": 4}}
    document, _ = browse(index_of(tmp_path, [slow, fast]) + "#run=a&run=b")
    assert re.findall(r'<div class="(good|bad|soft)">([+-]\d+)<', document) == [("good", "+30"), ("good", "-5")]


def test_pointing_at_a_chart_shows_its_values(browser: Chromium, outputs: Path) -> None:
    page = browser.open((outputs / "one" / "report.html").as_uri())
    page.run(
        "const chart = document.querySelector('svg.chart'), box = chart.getBoundingClientRect();"
        "chart.dispatchEvent(new PointerEvent('pointermove', "
        "{bubbles: true, clientX: box.left + box.width * 0.55, clientY: box.top + 40}));"
    )
    assert "epoch 3val  0.5700" in page.run("document.querySelector('.tip').textContent")


def test_arrow_keys_walk_along_a_chart_and_enter_zooms_all(browser: Chromium, outputs: Path) -> None:
    page = browser.open((outputs / "one" / "report.html").as_uri())
    page.run("document.querySelector('svg.chart').focus()")
    shown = []
    for _ in range(3):
        page.press("ArrowRight")
        shown.append(page.run("document.querySelector('.tip').textContent"))
    assert [text.split("val")[0] for text in shown] == ["epoch 0", "epoch 1", "epoch 2"]
    page.press("Enter")
    page.press("ArrowRight")
    page.press("Enter")
    labels = (
        "[...document.querySelectorAll('[data-charts]')[0].querySelectorAll('svg')].map((chart) => "
        "[...chart.querySelectorAll('text[text-anchor=middle]')].map((label) => label.textContent).join())"
    )
    charts = page.run(labels)
    assert len(charts) >= 3
    assert set(charts) == {"2,3"}
    page.run("[...document.querySelectorAll('.tools button')].find((item) => !item.disabled).click()")
    assert set(page.run(labels)) == {"0,1,2,3,4,5"}, "all charts share their axis, also those that begin later"


def test_shares_are_drawn_on_one_scale_where_wanted(browser: Chromium, tmp_path: Path) -> None:
    def chart(title: str, value: float, share: bool) -> dict[str, Any]:
        points = [[1, 0.0], [2, value]]
        return {"title": title, "share": share, "series": [{"label": "val", "colour": 0, "points": points}]}

    charts = [chart("map", 0.4, True), chart("rank1", 0.9, True), chart("loss", 7.0, False)]
    script = (resources.files("watchme.report") / "templates" / "charts.js").read_text()
    file = tmp_path / "page.html"
    file.write_text(f"<html><body><div data-charts='{json.dumps(charts)}'></div><script>{script}</script>")
    page = browser.open(file.as_uri())
    highest = (
        "[...document.querySelectorAll('svg.chart')].map((chart) => "
        "Number([...chart.querySelectorAll('text[text-anchor=end]')].at(-1).textContent))"
    )
    assert page.run(highest) == [0.4, 1, 8]
    page.run("[...document.querySelectorAll('label')].find((item) => /Same scale/.test(item.textContent)).click()")
    assert page.run(highest) == [1, 1, 8]


def test_long_names_tags_and_values_push_no_column_away(browser: Chromium, tmp_path: Path) -> None:
    long = {**ROW, "folder": "a", "title": "x" * 300, "tags": ["y" * 300], "config": {"optimizer.betas": "z" * 300}}
    long["dataset"] = "d" * 300
    page = browser.open(index_of(tmp_path, [long, {**ROW, "folder": "b", "config": {"optimizer.betas": "1"}}]), 1280)
    assert page.run("document.querySelector('#runs thead').getBoundingClientRect().width") < 1280
    assert page.run("document.querySelector('#runs td[title]').title") == "z" * 300
    assert page.messages() == []


def test_csv_holds_every_run_and_whatever_is_in_its_text(browser: Chromium, tmp_path: Path) -> None:
    odd = ('a, "b"\r\nc', "Größe; Straße", "x\ry")
    runs = [{**ROW, "folder": name, "value": 0.1234567891, "config": {"optimizer.lr": "1e-05"}} for name in odd]
    page = browser.open(index_of(tmp_path, runs))
    rows = list(csv.DictReader(io.StringIO(page.run("csv()"), newline="")))
    assert [(row["folder"], float(row["value"]), row["optimizer.lr"]) for row in rows] == [
        (name, 0.1234567891, "1e-05") for name in odd
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are UTF-8 there")
def test_a_folder_whose_name_is_no_utf8_has_its_pages(browser: Chromium, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"gr\xf6\xdfe")
    folder.mkdir()
    run = Tracked.begin(folder, make_config())
    run.end("finished", run.result())
    page = browser.open(write_index(tmp_path).as_uri())
    assert page.run("document.querySelector('td.name a').getAttribute('href')") == "gr%F6%DFe/report.html"
    assert (folder / "report.html").read_text(encoding="utf-8").count("gr??e")
    page.run("byId('csv').click()")
    assert page.messages() == []


def test_whole_values_have_the_digits_of_the_others(browse: Browse, tmp_path: Path) -> None:
    runs = [{**ROW, "folder": str(value), "value": value, "metrics": {"test/map": value}} for value in (0, 0.25, 1)]
    document, _ = browse(index_of(tmp_path, runs) + "#run=0&run=0.25&run=1")
    assert sorted(re.findall(r'<td class="number">(\d\.\d{4})<', document)) == 2 * ["0.0000"] + 2 * ["0.2500"] + 2 * [
        "1.0000"
    ]


def test_settings_are_sorted_as_numbers(browser: Chromium, tmp_path: Path) -> None:
    values = ("0.01", "1e-05", "auto", "100", "9")
    runs = [{**ROW, "folder": value, "config": {"optimizer.lr": value}} for value in values]
    page = browser.open(index_of(tmp_path, runs))
    folders = "[...document.querySelectorAll('#runs td.name')].map((cell) => cell.lastChild.textContent)"
    click = "[...document.querySelectorAll('th button')].find((item) => item.title === 'optimizer.lr').click();"
    assert page.run(click + folders) == ["auto", "100", "9", "0.01", "1e-05"]
    assert page.run(click + folders) == ["1e-05", "0.01", "9", "100", "auto"]


def test_sorting_filtering_and_choosing_the_best(browser: Chromium, outputs: Path) -> None:
    page = browser.open((outputs / "index.html").as_uri())
    page.run(
        "[...document.querySelectorAll('th button')].find((item) => item.textContent === 'Run').click();"
        "const filter = document.getElementById('filter'); filter.value = 'finished';"
        "filter.dispatchEvent(new Event('input')); document.getElementById('best').click();"
    )
    document = page.html()
    assert "3 of 5 runs" in document
    assert document.count('<tr class="chosen">') == 3
    titles = re.findall(r'<td class="name"><a[^>]*>([^<]+)</a>', document)
    assert titles == sorted(titles)
    assert page.messages() == []


def test_the_best_are_finished_and_measured_also_where_less_is_better(browser: Chromium, tmp_path: Path) -> None:
    base = {**ROW, "objective": "val/loss", "ranking": "val/loss d", "higher": False}
    runs = [{**base, "folder": name, "value": value} for name, value in (("c", 2), ("a", 0.9), ("d", 10), ("b", 1.5))]
    runs += [{**base, "folder": "pruned", "status": "pruned", "value": 0.1}]
    runs += [{**base, "folder": "export", "mode": "export", "objective": "", "value": None}]
    page = browser.open(index_of(tmp_path, runs))
    page.run("document.getElementById('best').click()")
    chosen = "[...document.querySelectorAll('tr.chosen td.name')].map((cell) => cell.lastChild.textContent).sort()"
    assert page.run(chosen) == ["a", "b", "c"]
    cells = "[...document.querySelectorAll('#runs tbody tr')].at(-1).children"
    assert page.run(f"[{cells}[3].textContent, {cells}[4].textContent]") == [f"{UNDEFINED}d", UNDEFINED]


def test_an_evaluation_of_a_trial_is_two_folds_deep(browser: Chromium, tmp_path: Path) -> None:
    runs = [
        {**ROW, "folder": "first", "started": "1"},
        {**ROW, "folder": "sweep/0", "started": "2", "study": "tuned", "parent": "sweep", "sweep": "sweep/page.html"},
        {**ROW, "folder": "tested", "started": "3", "mode": "evaluate", "parent": "sweep/0"},
        {**ROW, "folder": "checked", "started": "4", "mode": "check", "parent": "first"},
        {**ROW, "folder": "last", "started": "5"},
    ]
    page = browser.open(index_of(tmp_path, runs))
    folders = "[...document.querySelectorAll('#runs td.name')].map((cell) => cell.lastChild.textContent)"
    assert page.run(folders) == ["last", "sweep", "first"], "a sweep stands where its trial would"
    assert page.run("document.querySelector('tr.sweep a').getAttribute('href')") == "sweep/page.html"
    names = page.run("[...document.querySelectorAll('.fold')].map((button) => button.textContent)")
    assert names == ["▸ 1 trial", "▸ 1 check"]
    page.run("document.querySelector('tr.sweep .fold').click()")
    page.run("document.querySelectorAll('.fold')[1].click()")
    assert page.run(folders) == ["last", "sweep", "sweep/0", "tested", "first"]
