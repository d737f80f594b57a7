"""A database's password stays out of run folders: it goes from the URL into the environment. Nothing heavy here."""

import os
import re
from urllib.parse import unquote

PASSWORD_VARIABLE = "WATCHME_STORAGE_PASSWORD"
_PASSWORD = re.compile(r"(?P<head>://[^:/@\s]*):(?P<password>[^@\s]*)@")


def take_password(text: str) -> str:
    """Return a URL, or a text with one in it, without its password; trials find it in the environment."""
    match = _PASSWORD.search(text)
    if match is None:
        return text
    os.environ[PASSWORD_VARIABLE] = unquote(match["password"])
    return _PASSWORD.sub(r"\g<head>@", text)
