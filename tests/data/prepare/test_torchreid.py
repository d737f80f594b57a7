"""Archives of re-ID datasets -> the places where the OSNet engine finds them; and archives that are refused."""

import io
import shutil
import signal
import stat
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from prepare.made import content, draw, made, manifest, prepare, run_and_kill, state, written
from watchme.data.formats import market1501 as market
from watchme.data.formats.reid_datasets import REID_DATASETS, TORCHREID_DATASETS, find_known
from watchme.data.prepare.archive_layout import find_move

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


def reid(root: Path) -> Path:
    """A small dataset in Market-1501 naming."""
    for folder, names in {
        "bounding_box_train": ("0001_c1s1_000001_01", "0001_c2s1_000001_01", "0002_c1s1_000001_01"),
        "query": ("0003_c1s1_000001_00",),
        "bounding_box_test": ("0003_c2s1_000001_01", "0000_c1s1_000009_01"),
    }.items():
        for number, name in enumerate(names):
            draw(root / folder / f"{name}.jpg", (16, 32), seed=number)
    (root / "readme.txt").write_text("hello")
    return root


def zipped(root: Path, path: Path, below: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(root.rglob("*")):
            packed.write(file, f"{below}{file.relative_to(root)}")
    return path


def tarred(root: Path, path: Path, below: str = "") -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as packed:
        packed.add(root, below or ".")
    return path


@pytest.mark.parametrize("below", ["Market-1501-v15.09.15/", "", "a/b/"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_market1501(pack: Callable[[Path, Path, str], Path], below: str, tmp_path: Path) -> None:
    source = reid(tmp_path / "s")
    suffix = ".zip" if pack is zipped else ".tar.gz"
    archive = pack(source, tmp_path / f"Market-1501-v15.09.15{suffix}", below)
    out = tmp_path / "data"
    ended = made("torchreid", archive, "--out", out)
    assert market.find_root(out) == out / "market1501" / "Market-1501-v15.09.15"
    splits = market.read_market(out)
    assert (len(splits.train), len(splits.query), len(splits.gallery)) == (3, 1, 2)
    unpacked = content(out / "market1501" / "Market-1501-v15.09.15")
    assert unpacked == content(source)
    assert f"python train.py model=osnet_ibn dataset=market1501 dataset.root={out}\n" in ended.out
    before = state(out)
    again = made("torchreid", archive, "--out", out)
    assert state(out) == before
    assert written(again)[0] == 0


@pytest.mark.parametrize("name", sorted(TORCHREID_DATASETS))
def test_every_dataset_of_the_engine_finds_its_place(name: str, tmp_path: Path) -> None:
    """Each layout is packed as below a folder that nobody knows, and found where the engine looks."""
    for number, layout in enumerate(TORCHREID_DATASETS[name].layouts):
        if layout == ("CUHK01.zip",):
            continue  # torchreid's own way of unpacking; the folder is better
        source = tmp_path / f"s{number}"
        for path in layout:
            if Path(path).suffix:
                (source / path).parent.mkdir(parents=True, exist_ok=True)
                (source / path).write_text(path)
            else:
                draw(source / path / "1.png", (16, 16))
        archive = zipped(source, tmp_path / f"x{number}.zip", "download/")
        out = tmp_path / f"data{number}"
        made("torchreid", archive, "--name", name, "--out", out)
        assert find_known(name, out) == out / TORCHREID_DATASETS[name].folder
        assert content(source).items() <= content(out / TORCHREID_DATASETS[name].folder).items()
        # A folder that is unpacked already is linked.
        made("torchreid", source, "--name", name, "--out", tmp_path / f"linked{number}")
        found = find_known(name, tmp_path / f"linked{number}")
        assert all((found / path).samefile(source / path) for path in content(source))


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("Market-1501-v15.09.15.zip", "market1501"),
        ("DukeMTMC-reID.zip", "dukemtmcreid"),
        ("DukeMTMC-VideoReID.zip", "dukemtmcvidreid"),
        ("MSMT17_V1.tar.gz", "msmt17"),
        ("MSMT17_V2.tar", "msmt17"),
    ],
)
def test_the_name_tells_which_dataset_it_is(file_name: str, name: str, tmp_path: Path) -> None:
    layout = REID_DATASETS[name].layouts[-1]
    for path in layout:
        if path.endswith(".txt"):
            (tmp_path / "s" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "s" / path).write_text("x")
        else:
            draw(tmp_path / "s" / path / "0001_c1.jpg", (16, 16))
    pack = zipped if file_name.endswith("zip") else tarred
    made("torchreid", pack(tmp_path / "s", tmp_path / file_name), "--out", tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == [REID_DATASETS[name].folder]
    # Under another name the folders in the archive tell.
    suffix = next(suffix for suffix in (".zip", ".tar.gz", ".tar") if file_name.endswith(suffix))
    renamed = (tmp_path / file_name).rename(tmp_path / f"x{suffix}")
    made("torchreid", renamed, "--out", tmp_path / "again")
    assert [path.name for path in (tmp_path / "again").iterdir()] == [REID_DATASETS[name].folder]


def test_parts_come_one_after_the_other(tmp_path: Path) -> None:
    release = tmp_path / "s" / "cuhk03_release"
    release.mkdir(parents=True)
    (release / "cuhk-03.mat").write_text("a")
    archive = zipped(tmp_path / "s", tmp_path / "cuhk03_release.zip")
    out = tmp_path / "data"
    ended = prepare("torchreid", archive, "--out", out)
    assert ended.code == 1
    assert "still missing" in ended.out
    assert "cuhk03_new_protocol_config_labeled.mat" in ended.out
    parts = [tmp_path / f"cuhk03_new_protocol_config_{kind}.mat" for kind in ("detected", "labeled")]
    for part in parts:
        part.write_text(part.name)
    assert made("torchreid", *parts, "--out", out)
    assert find_known("cuhk03", out) == out / "cuhk03"
    assert list(manifest(out / "cuhk03")["sources"]["archives"]) == sorted(
        [archive.name, *(path.name for path in parts)]
    )
    other = tmp_path / "cuhk03_other.mat"
    other.write_text("x")
    assert "is no archive, and no file of cuhk03" in prepare("torchreid", other, "--out", out).err


def test_several_datasets_share_a_root(tmp_path: Path) -> None:
    source = reid(tmp_path / "s")
    out = tmp_path / "data"
    made("torchreid", zipped(source, tmp_path / "Market-1501.zip"), "--out", out)
    made("torchreid", zipped(source, tmp_path / "DukeMTMC-reID.zip"), "--out", out)
    ended = made("torchreid", zipped(source, tmp_path / "crops.zip", "x/y/"), "--name", "shop", "--out", out)
    assert market.find_root(out)
    assert find_known("dukemtmcreid", out)
    assert len(market.read_market(out / "shop").train) == 3
    assert f"dataset=market1501 dataset.root={out / 'shop'}\n" in ended.out


def test_litter_is_left_out(tmp_path: Path) -> None:
    source = reid(tmp_path / "s")
    archive = zipped(source, tmp_path / "Market-1501.zip", "Market-1501/")
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("__MACOSX/Market-1501/query/._0003_c1s1_000001_00.jpg", "x")
        packed.writestr("Market-1501/query/.DS_Store", "x")
        packed.writestr("Market-1501/query/Thumbs.db", "x")
    made("torchreid", archive, "--out", tmp_path / "data")
    assert content(tmp_path / "data/market1501/Market-1501-v15.09.15") == content(source)
    assert manifest(tmp_path / "data/market1501")["dropped"] == {"files of Market-1501.zip beside the dataset": 3}


def test_which_dataset_is_it(tmp_path: Path) -> None:
    archive = zipped(reid(tmp_path / "s"), tmp_path / "crops.zip")
    ended = prepare("torchreid", archive, "--out", tmp_path / "data")
    assert ended.code == 1
    assert "which dataset is crops.zip? Say --name one of market1501, dukemtmcreid" in ended.err
    ended = prepare("torchreid", archive, "--name", "viper", "--out", tmp_path / "data")
    assert "holds nothing of viper" in ended.err
    assert "there is no file" in prepare("torchreid", tmp_path / "none.zip", "--out", tmp_path / "data").err
    assert "letters, digits" in prepare("torchreid", archive, "--name", "../x", "--out", tmp_path / "data").err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("kind", "after"), [("pour", 3), ("rename", 4)])
def test_killed_and_started_again(kind: str, after: int, tmp_path: Path) -> None:
    archive = zipped(reid(tmp_path / "s"), tmp_path / "Market-1501.zip")
    made("torchreid", archive, "--out", tmp_path / "straight")
    out = tmp_path / "out"
    assert run_and_kill(kind, after, "torchreid", archive, "--out", out) == -signal.SIGKILL
    whole = content(tmp_path / "s")
    there = content(out / "market1501" / "Market-1501-v15.09.15")
    assert 0 < len(there) < len(whole)
    assert there.items() <= whole.items()
    made("torchreid", archive, "--out", out)
    assert content(out) == content(tmp_path / "straight")


# What is refused


def evil_zip(path: Path, name: str, mode: int = 0, data: bytes = b"evil") -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("query/0001_c1.jpg", b"x")
        info = zipfile.ZipInfo("x")
        info.filename = info.orig_filename = name
        info.external_attr = mode << 16
        packed.writestr(info, data)
        packed.writestr("query/0002_c1.jpg", b"x")
    return path


def evil_tar(path: Path, name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Path:
    with tarfile.open(path, "w:gz") as packed:
        good = tarfile.TarInfo("query/0001_c1.jpg")
        packed.addfile(good, io.BytesIO())
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        packed.addfile(info, io.BytesIO())
    return path


OUTSIDE = [
    ("../../escaped.txt", "leads out of the folder"),
    ("query/../../../escaped.txt", "leads out of the folder"),
    ("/tmp/prepare-escaped.txt", "an absolute path"),
    ("..\\..\\escaped.txt", "leads out of the folder"),
    ("C:\\escaped.txt", "an absolute path"),
    ("C:/escaped.txt", "an absolute path"),
    ("\\\\server\\share", "an absolute path"),
]


@pytest.mark.parametrize(("name", "why"), OUTSIDE)
@pytest.mark.parametrize("make", [evil_zip, evil_tar])
def test_paths_that_lead_out(make: Callable[[Path, str], Path], name: str, why: str, tmp_path: Path) -> None:
    suffix = "zip" if make is evil_zip else "tar.gz"
    refused(make(tmp_path / f"market1501.{suffix}", name), name, why, tmp_path)


def refused(archive: Path, name: str, why: str, root: Path, *options: object) -> None:
    before = sorted(root.parent.rglob("*"))
    ended = prepare("torchreid", archive, "--out", root / "a" / "b" / "data", *options)
    assert ended.code == 1
    assert ended.err.startswith(f"{archive}: the entry {name!r} is ")
    assert why in ended.err
    assert sorted(root.parent.rglob("*")) == before
    assert not Path("/tmp/prepare-escaped.txt").exists()


@pytest.mark.parametrize(
    ("kind", "link", "why"),
    [
        (tarfile.SYMTYPE, "/etc/passwd", "a link"),
        (tarfile.SYMTYPE, "0001_c1.jpg", "a link"),
        (tarfile.LNKTYPE, "query/0001_c1.jpg", "a link"),
        (tarfile.CHRTYPE, "", "a device or pipe"),
        (tarfile.BLKTYPE, "", "a device or pipe"),
        (tarfile.FIFOTYPE, "", "a device or pipe"),
    ],
)
def test_links_and_devices_in_a_tar(kind: bytes, link: str, why: str, tmp_path: Path) -> None:
    archive = evil_tar(tmp_path / "market1501.tar.gz", "query/0009_c1.jpg", kind, link)
    refused(archive, "query/0009_c1.jpg", why, tmp_path)


@pytest.mark.parametrize(
    ("mode", "why"),
    [(stat.S_IFLNK | 0o777, "a link"), (stat.S_IFCHR | 0o666, "a device or pipe"), (stat.S_IFIFO, "a device or pipe")],
)
def test_links_and_devices_in_a_zip(mode: int, why: str, tmp_path: Path) -> None:
    archive = evil_zip(tmp_path / "market1501.zip", "query/0009_c1.jpg", mode, b"/etc/passwd")
    refused(archive, "query/0009_c1.jpg", why, tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubled_entries_and_files_that_are_folders(tmp_path: Path) -> None:
    refused(evil_zip(tmp_path / "market1501.zip", "query/0001_c1.jpg"), "query/0001_c1.jpg", "there twice", tmp_path)
    refused(
        evil_zip(tmp_path / "market1501.zip", "query/0001_c1.jpg/a"),
        "query/0001_c1.jpg/a",
        "which is also a file",
        tmp_path,
    )


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "market1501.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for number in range(3):
            packed.writestr(f"query/000{number}_c1.jpg", bytes(10_000_000) if number == 1 else b"x")
    with monkeypatch.context() as patch:
        patch.setattr("watchme.data.prepare.archives._FREE_SIZE", 5_000_000)
        refused(archive, "query/0001_c1.jpg", "unpacks to more than 100 times its size", tmp_path)
    claim(archive, "query/0002_c1.jpg", 2**30)
    refused(
        archive, "query/0002_c1.jpg", "unpacks to more than 1 GiB (--max-gib allows more)", tmp_path, "--max-gib", 1
    )
    # One that claims to be small ends where it claims to, and its checksum tells.
    claim(archive, "query/0002_c1.jpg", 1)
    claim(archive, "query/0001_c1.jpg", 1000)
    ended = prepare("torchreid", archive, "--out", tmp_path / "data")
    assert ended.code == 1
    assert "is damaged: Bad CRC-32" in ended.err
    assert not list((tmp_path / "data").rglob("0001_c1.jpg"))


def claim(archive: Path, name: str, size: int) -> None:
    """Make an archive's directory say that an entry has a certain size."""
    data = bytearray(archive.read_bytes())
    place = data.rfind(b"PK\x01\x02", 0, data.rfind(name.encode()))
    data[place + 24 : place + 28] = size.to_bytes(4, "little")
    archive.write_bytes(bytes(data))


def test_encrypted(tmp_path: Path) -> None:
    archive = evil_zip(tmp_path / "market1501.zip", "query/0009_c1.jpg")
    data = bytearray(archive.read_bytes())
    place = data.rfind(b"PK\x01\x02", 0, data.find(b"query/0009_c1.jpg", data.find(b"PK\x01\x02")))
    data[place + 8] |= 1
    archive.write_bytes(bytes(data))
    refused(archive, "query/0009_c1.jpg", "encrypted", tmp_path)


def damage(path: Path, where: Sequence[int]) -> None:
    data = bytearray(path.read_bytes())
    for place in where:
        data[place] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar"])
@pytest.mark.parametrize("how", ["cut", "bits"])
def test_damaged_archives(suffix: str, how: str, tmp_path: Path) -> None:
    source = reid(tmp_path / "s")
    archive = (zipped if suffix == "zip" else tarred)(source, tmp_path / f"market1501.{suffix}")
    if how == "cut":
        archive.write_bytes(archive.read_bytes()[: archive.stat().st_size * 2 // 3])
    elif suffix == "tar":
        return  # has no checksum over its files
    else:
        damage(archive, range(archive.stat().st_size // 2, archive.stat().st_size // 2 + 9))
    ended = prepare("torchreid", archive, "--out", tmp_path / "data")
    assert ended.code == 1
    assert str(archive) in ended.err
    assert "damaged" in ended.err or "neither a zip nor a tar" in ended.err
    whole = content(source)
    there = content(tmp_path / "data" / "market1501" / "Market-1501-v15.09.15")
    assert there.items() <= whole.items()
    assert not (tmp_path / "data" / "market1501" / "prepare.json").exists()


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    archive = tmp_path / "market1501.zip"
    archive.write_text("<html>Sorry, you have to log in</html>")
    ended = prepare("torchreid", archive, "--out", tmp_path / "data")
    assert "is neither a zip nor a tar archive" in ended.err


def test_a_full_disk_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(reid(tmp_path / "s"), tmp_path / "Market-1501.zip")
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    ended = prepare("torchreid", archive, "--out", tmp_path / "data")
    assert ended.code == 1
    assert "GiB are needed, the disk has 0.0 GiB left" in ended.err


def test_the_least_deep_place_wins() -> None:
    """A dataset that holds a copy of itself deeper down."""
    inner = {f"{below}{folder}" for folder in FOLDERS for below in ("a/", "a/backup/old/")}
    found = find_move(REID_DATASETS["market1501"], inner)
    assert found is not None
    assert (found[0].origin, found[0].target, found[1]) == ("a", "Market-1501-v15.09.15", 3)
