"""Messages of errors."""

from watchme.core.errors import Problem


def test_a_long_path_is_not_torn_and_can_be_copied() -> None:
    path = "/data/" + "people/" * 20 + "images"
    lines = str(Problem("dataset.root", f"there is no folder {path} here; make it, or name another one")).splitlines()
    assert lines == [
        "dataset.root",
        "    there is no folder",
        f"    {path}",
        "    here; make it, or name another one",
    ]
