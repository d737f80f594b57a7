"""Where the Hydra config tree is: `conf/` of a clone, or the copy inside an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"
