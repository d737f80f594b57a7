"""The table of published weights, beside what the installed libraries say, and its command line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from watchme.weights.__main__ import main
from watchme.weights.model_zoo import all_weights, by_key, find, names_for
from weights.file_server import CONTENT, FileServer

PROJECT = Path(__file__).resolve().parents[2]


def test_every_detector_release_of_the_installed_ultralytics_is_in_the_table() -> None:
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    detectors = {
        name
        for name in GITHUB_ASSETS_NAMES
        if re.fullmatch(r"yolo(v?\d+)(-spp|-tiny|[nsmlxtceb]6?)?u?(-oiv7)?\.pt", name)
    }
    assert {weights.file for weights in all_weights() if weights.engine == "yolo"} == detectors
    assert len(detectors) > 40


def test_every_architecture_of_torchreid_has_its_imagenet_weights_and_google_drive_address() -> None:
    from torchreid.reid.models import osnet, osnet_ain

    for architecture, url in {**osnet.pretrained_urls, **osnet_ain.pretrained_urls}.items():
        weights = find("imagenet", "osnet", architecture)
        assert weights is not None, architecture
        assert weights.urls[-1].rpartition("=")[2] == url.rpartition("=")[2]


def test_keys_files_and_hashes_are_well_formed_and_unique() -> None:
    rows = all_weights()
    assert len({row.key for row in rows}) == len({row.file for row in rows}) == len(rows)
    for row in rows:
        assert row.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", row.sha256)
        assert all(url.startswith("https://") for url in (*row.urls, row.page))
        assert by_key(row.key) is by_key(row.file) is row


@pytest.mark.parametrize(
    ("name", "engine", "architecture", "key"),
    [
        ("coco", "yolo", "yolo11n", "yolo11n.pt"),
        ("coco", "yolo", "yolov11s", "yolo11s.pt"),
        ("coco", "yolo", "yolov5n-p6", "yolov5n6u.pt"),
        ("coco", "yolo", "yolov3-tiny", "yolov3-tinyu.pt"),
        ("coco", "yolo", "yolov8n-p6", None),
        ("yolov11n.pt", "yolo", "yolo11n", "yolo11n.pt"),
        ("yolo11m.pt", "yolo", "yolo11n", "yolo11m.pt"),
        ("imagenet", "osnet", "osnet_ibn_x1_0", "osnet_ibn_x1_0_imagenet"),
        ("msmt17", "osnet", "osnet_x0_25", "osnet_x0_25_msmt17"),
        ("osnet_x0_25_msmt17", "osnet", "osnet_x0_25", "osnet_x0_25_msmt17"),
        ("osnet_ain_ms_d_c.pth.tar", "osnet", "osnet_ain_x1_0", "osnet_ain_x1_0_ms_d_c"),
        ("msmt17", "osnet", "osnet_ain_x1_0", None),
        ("coco", "osnet", "osnet_x1_0", None),
        ("imagenet", "yolo", "yolo11n", None),
    ],
)
def test_find(name: str, engine: str, architecture: str, key: str | None) -> None:
    found = find(name, engine, architecture)
    assert (found.key if found else None) == key


def test_names_for_a_model() -> None:
    assert names_for("osnet", "osnet_ain_x0_5") == ["imagenet"]
    assert names_for("yolo", "yolo11n")[:2] == ["coco", "yolo11n.pt"]
    assert "coco" not in names_for("yolo", "yolov8n-p6")


def test_the_list_fits_in_80_columns(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "yolo11s.pt").touch()
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if str(cache) not in line) <= 80
    for weights in all_weights():
        assert any(line[2:].startswith(f"{weights.key} ") for line in lines)
    assert [line.split()[1] for line in lines if line.startswith("*")] == ["yolo11s.pt"]


def test_fetch_and_path(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["/yolov9t.pt"] = CONTENT
    monkeypatch.setenv("WATCHME_WEIGHTS", server.address)
    assert main(["path", "yolov9t.pt"]) == 0
    assert not cache.exists()
    assert main(["fetch", "yolov9t.pt"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(cache / "yolov9t.pt")] * 2
    assert main(["fetch", "yolo11q.pt"]) == 1
    assert "did you mean yolo11" in capsys.readouterr().err


def test_it_imports_nothing_heavy() -> None:
    code = "import sys, watchme.weights.download; print({'torch', 'requests', 'numpy'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert shown.stdout.strip() == "set()"


def test_the_docs_page_has_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--markdown"]) == 0
    page = (PROJECT / "docs" / "weights.md").read_text(encoding="utf-8")
    assert page.endswith(capsys.readouterr().out.strip() + "\n"), "python -m watchme.weights list --markdown"
