"""Each kind of page at the widths of a phone and of screens, light and dark: nothing overflows, WCAG 2 AA holds."""

import os
from pathlib import Path

import pytest

from report.chromium import Chromium

pytestmark = pytest.mark.browser
PAGES = (
    "run",
    "failed",
    "interrupted",
    "evaluation",
    "check",
    "search",
    "index",
    "comparison",
    "sweep",
    "matches",
    "predict",
)
WIDTHS = (390, 1280, 1920)
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
# What axe-core calls incomplete (text over a shaded cell, say) is looked at by eye; violations alone are refused.
RULES = "{resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}"
FOUND = (
    "result.violations.map((rule) => `${rule.id}: ${rule.nodes.map((node) => node.html.slice(0, 120)).join(' | ')}`)"
)


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core's script: `npm install --prefix tests/report --no-save --no-package-lock axe-core@4` fetches it."""
    file = Path(os.environ.get("WATCHME_AXE", AXE))
    if not file.is_file():
        pytest.skip(f"no {file}: npm install --prefix tests/report --no-save --no-package-lock axe-core@4")
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_no_page_is_wider_than_its_window_or_complains(
    name: str, browser: Chromium, every_page: dict[str, str]
) -> None:
    for width in WIDTHS:
        for dark in (False, True):
            page = browser.open(every_page[name], width, dark=dark)
            over = page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert (over, page.messages()) == (0, []), (width, dark)
            page.close()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, True)])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_violation(
    name: str, width: int, dark: bool, axe: str, browser: Chromium, every_page: dict[str, str]
) -> None:
    page = browser.open(every_page[name], width, dark=dark)
    page.run("for (const item of document.querySelectorAll('details')) item.open = true")
    page.run(axe)
    assert page.run(f"axe.run(document, {RULES}).then((result) => {FOUND})") == []
    page.close()


def test_axe_would_notice_weak_contrast(axe: str, browser: Chromium, tmp_path: Path) -> None:
    file = tmp_path / "weak.html"
    file.write_text("<html lang=en><title>t</title><main><h1>t</h1><p style='color:#aaa'>weak</p></main></html>")
    page = browser.open(file.as_uri())
    page.run(axe)
    (found,) = page.run(f"axe.run(document, {RULES}).then((result) => {FOUND})")
    assert found.startswith("color-contrast")


@pytest.mark.parametrize("name", PAGES)
def test_all_that_acts_is_reached_by_the_tab_key(name: str, browser: Chromium, every_page: dict[str, str]) -> None:
    page = browser.open(every_page[name], 1280)
    page.run(
        "window.reached = new Set(); document.addEventListener('focusin', (event) => reached.add(event.target));"
        "window.acting = [...document.querySelectorAll('a[href], button, input, summary, svg[tabindex], rect.target')]"
        ".filter((item) => !item.disabled && item.checkVisibility())"
    )
    wanted = page.run("acting.length")
    assert wanted
    page.press("Tab", wanted + page.run("document.querySelectorAll('[tabindex]').length") + 2)
    missed = page.run("acting.filter((item) => !reached.has(item)).map((item) => item.outerHTML.slice(0, 120))")
    assert missed == []
    page.close()
