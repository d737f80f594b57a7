"""The plots of a sweep's page in headless Chromium."""

import itertools
import json
import re
from pathlib import Path

import pytest

from report.chromium import Chromium
from report.conftest import Browse

pytestmark = pytest.mark.browser


def test_sweep_shows_every_measured_trial_in_every_plot(browse: Browse, sweep_page: Path) -> None:
    document, messages = browse(sweep_page.as_uri())
    assert messages == []
    marks = re.findall(r'<(?:a href="[^"]*"|g role="img" tabindex="0") data-trial="(\d)" aria-label="trial', document)
    # History, learning curves, one plot a parameter, parallel coordinates; the failed trial has no value to draw.
    assert {number: marks.count(number) for number in "012"} == {"0": 5, "1": 5, "2": 0}
    assert document.count('href="../0/report.html" data-trial="0"') == 5
    assert "3 trials prove little" in document
    assert "0.50 to 0.90" in document


def test_a_second_objective_is_a_plot_with_the_pareto_front_and_an_axis(browse: Browse, sweep_page: Path) -> None:
    before, start, rest = sweep_page.read_text().partition('id="study">')
    text, end, after = rest.partition("</script>")
    study = json.loads(text) | {"objectives": ["val/map", "val/rank1"], "best": [0, 1]}
    study["trials"][0]["values"].append(0.6)
    study["trials"][1] |= {"state": "complete", "values": [0.4, 0.7]}
    page = sweep_page.with_name("pareto.html")
    page.write_text(before + start + json.dumps(study) + end + after)
    document, messages = browse(page.as_uri())
    assert messages == []
    chart = document.partition('aria-label="val/map over val/rank1"')[2].partition("</svg>")[0]
    assert re.findall(r'data-trial="(\d)"', chart) == ["0", "1"]
    (front,) = re.findall(r'<path class="line" d="M([^"]*)"', chart)
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in front.split("L"))
    assert x1 < x2, "more of val/rank1"
    assert y1 < y2, "is less of val/map"
    assert "val/rank1 0.7000" in chart
    assert 'aria-label="val/rank1: Enter keeps' in document


def test_labels_of_choices_and_magnitudes_do_not_run_into_each_other(browser: Chromium, sweep_page: Path) -> None:
    before, start, rest = sweep_page.read_text().partition('id="study">')
    text, end, after = rest.partition("</script>")
    study = json.loads(text)
    choices = [f"/a/{'long/' * 20}{name}" for name in ("train", "val", "Größe")]
    base = study["trials"][0]
    study["trials"] = [
        {**base, "number": number, "params": {"root": choices[number % 3], "optimizer.lr": 10 ** (-4 + number / 3)}}
        for number in range(9)
    ]
    file = sweep_page.with_name("long.html")
    file.write_text(before + start + json.dumps({**study, "parameters": ["root", "optimizer.lr"]}) + end + after)
    page = browser.open(file.as_uri())
    for axis in ("root", "optimizer.lr"):
        boxes = page.run(
            f"[...document.querySelectorAll('svg[aria-label$=\"over {axis}\"] text[text-anchor=middle]')]"
            ".map((label) => label.getBoundingClientRect()).map((box) => [box.left, box.right])"
        )
        assert len(boxes) >= 3
        assert all(left > right for (_, right), (left, _) in itertools.pairwise(boxes)), axis
    assert page.run("[...document.querySelectorAll('.parallel text')].every((label) => label.textContent.length < 19)")
    marks = page.run("[...document.querySelectorAll('#plots svg')].map((plot) => plot.lastChild.dataset.trial)")
    assert set(marks) == {"0"}, "the best on top"


def test_a_range_on_an_axis_fades_the_other_trials(browser: Chromium, sweep_page: Path) -> None:
    script = (
        "const target = document.querySelector('.parallel .target'), box = target.getBoundingClientRect();"
        "const point = (kind, y) => target.dispatchEvent(new PointerEvent(kind, {clientX: box.left, clientY: y}));"
        "target.setPointerCapture = () => {};"
        # The upper half of the axis: the pruned trial's lr=0.1 alone.
        "point('pointerdown', box.top); point('pointermove', box.top + box.height / 2);"
    )
    page = browser.open(sweep_page.as_uri())
    page.run(script)
    faded = set(re.findall(r'<(?:tr|a|g)[^>]*data-trial="(\d)"[^>]*class="[^"]*out', page.html()))
    assert faded == {"0", "2"}
    assert page.messages() == []


def test_a_range_fades_trials_without_the_parameter(browser: Chromium, sweep_page: Path) -> None:
    before, start, rest = sweep_page.read_text().partition('id="study">')
    text, end, after = rest.partition("</script>")
    study = json.loads(text)
    for number, momentum in ((0, 0.9), (1, -0.5)):
        study["trials"][number]["params"]["momentum"] = momentum
    file = sweep_page.with_name("conditional.html")
    file.write_text(before + start + json.dumps({**study, "parameters": ["momentum"]}) + end + after)
    page = browser.open(file.as_uri())
    page.run("document.querySelector('.parallel .target').focus()")
    page.press("Enter", 2)  # the lower half, with 0
    faded = "[...new Set([...document.querySelectorAll('.out')].map((item) => item.dataset.trial))].sort().join()"
    assert page.run(faded) == "0,2"


def test_axes_of_a_sweep_are_narrowed_by_keys(browser: Chromium, sweep_page: Path) -> None:
    page = browser.open(sweep_page.as_uri())
    page.run("document.querySelector('.parallel .target').focus()")
    faded = "[...new Set([...document.querySelectorAll('.out')].map((item) => item.dataset.trial))].sort().join()"
    seen = []
    for _ in range(3):
        page.press("Enter")
        seen.append(page.run(faded))
    assert seen == ["0,2", "1,2", ""], "the upper half, the lower half, everything"


def test_a_trial_is_reached_by_keys_and_shows_its_values(browser: Chromium, sweep_page: Path) -> None:
    page = browser.open(sweep_page.as_uri())
    page.run("document.querySelector('#plots a[href]').focus()")
    assert "trial 0: complete" in page.run("document.querySelector('.tip').textContent")
    assert page.run("document.querySelector('.tip').style.visibility") == "visible"
