"""The password of a database URL: moved into the environment, so that no file holds it. Imported at every start."""

import os
import re
from urllib.parse import unquote

PASSWORD_VARIABLE = "WATCHME_STORAGE_PASSWORD"
# postgresql://user:password@host/..., and the drivers' own postgresql://user@host/...?password=...
_IN_ADDRESS = re.compile(r"(?P<head>://[^:/@\s]*):(?P<password>[^/\s]*)@")
_IN_QUERY = re.compile(r"(?<=[?&])(?:password|passwd)=(?P<password>[^&\s'\"]*)&?")
_EMPTY_QUERY = re.compile(r"[?&](?=['\"]?$)")


def take_password(text: str) -> str:
    """Move the password of a URL, or of a text that has one, into the environment; return the text without it.

    An interpolation such as `${oc.env:PASSWORD}` is no password yet: Hydra resolves it later.
    """
    for pattern, without in ((_IN_ADDRESS, r"\g<head>@"), (_IN_QUERY, "")):
        match = pattern.search(text)
        if match is not None and "${" not in match["password"]:
            os.environ[PASSWORD_VARIABLE] = unquote(match["password"])
            text = _EMPTY_QUERY.sub("", pattern.sub(without, text))
    return text
