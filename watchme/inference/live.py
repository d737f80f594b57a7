"""Which sources are live; without NumPy, as config validation asks."""

import re

_ADDRESS = re.compile(r"^(rtsps?|rtmps?|https?|udp|tcp)://", re.I)


def is_live(source: str) -> bool:
    """Whether a source is a camera's number or a stream's address."""
    return _ADDRESS.match(source) is not None or re.fullmatch(r"\d{1,3}", source) is not None
