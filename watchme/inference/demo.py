"""`demo` as a source and as a query: the demo film, and somebody who walks in it."""

from pathlib import Path

from watchme.data.demo import DemoFilm, ensure_demo_film

DEMO = "demo"


def is_demo(text: str) -> bool:
    """Whether a source or a query is the demo's; a file or folder of that name goes before it."""
    return text == DEMO and not Path(text).exists()


def demo_film() -> DemoFilm:
    """The demo film, drawn into the cache at first use, which takes about half a minute on two cores."""
    return ensure_demo_film()
