"""Renders the pages from the jinja2 templates in `templates/`: autoescaped, with style and scripts inlined."""

import functools
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from watchme.core.formatting import duration, number


def render_page(template: str, **values: Any) -> str:
    """A page as HTML.

    Args:
        template: File in `templates/`, e.g. `run.jinja`.
        values: What the template names; text is escaped. `title`, `meta` and `folder` belong to every page; `served`
            says that a server keeps it up to date.

    Raises:
        jinja2.UndefinedError: If the template names a value that is not given.
    """
    text = _environment().get_template(template).render(values)
    return text.encode("utf-8", "replace").decode()  # names of files need not be UTF-8


@functools.cache
def _environment() -> Environment:
    loader = PackageLoader("watchme.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "duration": duration}
    # Compact, in the order given; `tojson` escapes what could end a script element or a quoted attribute.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "default": str}

    def asset(name: str) -> Markup:
        return Markup(loader.get_source(environment, name)[0])

    environment.globals |= {"asset": asset, "served": False}
    return environment
