"""The hand-off folder: whole or not there, with checksums that sha256sum takes; and times that can be trusted."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from watchme.config.schema import RunConfig
from watchme.core.errors import ExportError
from watchme.core.interfaces import Job, Table
from watchme.export import handoff, latency, table_text
from watchme.export.base import Exporter

CARD = "# card\n"


def make(folder: Path, *, refusal: str = "") -> handoff.Handoff:
    folder.mkdir(exist_ok=True)
    with handoff.staged(folder, "src/models") as made:
        (made.place / "weights.bin").write_bytes(b"\x00\x01" * 1000)
        made.env, made.env_file = {"MODEL_PATH": "src/models/weights.bin"}, ".env.model"
        made.notes.append("Mind the step.")
        if refusal:
            made.refusals.append(refusal)
        made.write("Models", {"Loading": "open it"}, {"task": "none"}, CARD)
    return made


def test_a_handoff_is_whole_and_its_checksums_hold(tmp_path: Path) -> None:
    made = make(tmp_path / "run")
    root = tmp_path / "run" / "handoff"
    assert made.root == root
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["handoff"]
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    place = {f"src/models/{name}" for name in ("weights.bin", "MODEL_CARD.md", "preprocessing.json")}
    assert files == {"README.md", ".env.model", "SHA256SUMS", *place}
    lines = [line.split("  ") for line in (root / "SHA256SUMS").read_text().splitlines()]
    sums = {name: digest for digest, name in lines}
    assert sums.keys() == files - {"SHA256SUMS"}
    assert sums["src/models/weights.bin"] == hashlib.sha256(b"\x00\x01" * 1000).hexdigest()
    assert (root / ".env.model").read_text() == "MODEL_PATH=src/models/weights.bin\n"
    assert "MODEL_PATH=src/models/weights.bin" in (root / "README.md").read_text()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_sha256sum_finds_a_changed_file(tmp_path: Path) -> None:
    root = make(tmp_path / "run").root
    check = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    assert subprocess.run(check, cwd=root, capture_output=True).returncode == 0
    (root / "src/models/weights.bin").write_bytes(b"\x00")
    assert subprocess.run(check, cwd=root, capture_output=True).returncode != 0


def test_a_handoff_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with handoff.staged(tmp_path, "src") as made:
            (made.place / "weights.bin").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_a_refused_handoff_is_not_found_where_a_good_one_would_be(tmp_path: Path) -> None:
    made = make(tmp_path / "run", refusal="weights.bin differs")
    assert not (tmp_path / "run" / "handoff").exists()
    assert made.root == tmp_path / "run" / "handoff-refused"
    assert "Do not use it" in (made.root / "README.md").read_text()
    assert "weights.bin differs" in made.refused("Mend it")
    assert str(made.root) in made.refused("Mend it")
    assert make(tmp_path / "good").refused("Mend it") == ""


def test_a_card_of_weights_from_elsewhere_says_so(tmp_path: Path) -> None:
    weights = tmp_path / "run" / "weights"
    weights.mkdir(parents=True)
    (weights / "MODEL_CARD.md").write_text(CARD)
    assert "not known" in handoff.card_of(weights / "best.pt", "x")
    for name in ("run.json", "config.yaml"):
        (tmp_path / "run" / name).write_text("{}")
    assert handoff.card_of(weights / "best.pt", "x") == CARD


def test_tables_read_well(tmp_path: Path) -> None:
    table = Table("export/formats", ("format", "difference"), (("onnx", 3.2e-7), ("fp16", 0.0123456), ("int8", None)))
    assert table_text.text_table(table) == [
        "format  difference",
        "onnx      3.20e-07",
        "fp16       0.01235",
        "int8",
    ]
    shown: list[object] = []
    with handoff.staged(tmp_path, "src") as made:
        made.show(Job(config=None, folder=tmp_path, show=shown.append), table)  # type: ignore[arg-type]
        made.write("Models", {}, {}, CARD)
    assert shown == [table]
    assert "| fp16 | 0.01235 |" in (made.root / "README.md").read_text()


def test_formats_are_timed_in_turn_and_the_first_calls_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], []
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])

    def slow() -> None:
        calls.append("slow")
        now[0] += 10.0 if len(calls) < 7 else 0.004

    def quick() -> None:
        calls.append("quick")
        now[0] += 0.001

    found = latency.measure({"slow": slow, "quick": quick}, rounds=5)
    assert calls == ["slow", "quick"] * 8
    assert found["quick"].median == pytest.approx(1.0)
    for value in (found["slow"].median, found["slow"].low, found["slow"].high):
        assert value == pytest.approx(4.0)


class _Stops(Exporter):
    """An exporter that ends with its first file, and notes what there was when the run began."""

    original = "weights.bin"

    def load(self) -> None:
        """Nothing to load."""

    def write_original(self, path: Path) -> None:
        """End here."""
        raise ExportError("no further")


def test_a_run_folder_is_opened_before_its_handoff_is_staged(
    typed_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Opening it removes what killed writers left, and must not find the hand-off of this run among that."""
    for name in Exporter.__abstractmethods__ - {"load", "write_original"}:
        setattr(_Stops, name, None)
    _Stops.__abstractmethods__ = frozenset()
    checkpoint = tmp_path / "best.pt"
    checkpoint.touch()
    config = typed_config("mode=export", "model=osnet_x0_25", f"checkpoint={checkpoint}")
    folder, found = tmp_path / "run", []
    folder.mkdir()
    job = Job(config, folder, begin=lambda: found.append(list(folder.iterdir())))
    with pytest.raises(ExportError, match="no further"):
        _Stops(job, checkpoint).run()  # type: ignore[abstract]
    assert found == [[]]
