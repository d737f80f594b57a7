"""Which format a person-search dataset is in, and its reader. NumPy and the readers are imported when one is used."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from watchme.core.errors import DataError

if TYPE_CHECKING:
    from watchme.data.person_search.search_set import SearchSet

Format = Literal["json", "prw", "cuhk_sysu", "mot"]

EXPECTED = """\
expected one of:
    <root>/annotations.json               our own: frames, boxes, identities (docs/person_search.md)
    <root>/frame_test.mat                 PRW: beside frames/, annotations/ and query_info.txt
    <root>/annotation/pool.mat            CUHK-SYSU: beside Image/SSM/
    <root>/<sequence>/gt/gt.txt           MOTChallenge: each sequence with img1/ and seqinfo.ini"""


def find_format(root: Path, wanted: str | None = None) -> Format:
    """Return which reader a folder, or a json file, is for; standard library only, so that validation may ask.

    `wanted` is the format that was asked for; None looks.

    Raises:
        DataError: If it is none of them, or not the one that was asked for.
    """
    root = root.expanduser()
    if not root.exists():
        raise DataError(f"no such folder: {root}\n{EXPECTED}")
    for name in get_args(Format):
        if wanted in (None, name) and _looks_like(root, name):
            found: Format = name
            return found
    raise DataError(f"{root} is no person-search dataset{f' in the format {wanted}' if wanted else ''}\n{EXPECTED}")


def annotations_file(root: Path) -> Path:
    """The json file of a dataset in our own format: `root` itself, or `annotations.json` in it."""
    return root if root.suffix == ".json" else root / "annotations.json"


def _looks_like(root: Path, name: str) -> bool:
    if name == "json":
        return annotations_file(root).is_file()
    if name == "prw":
        return (root / "frame_test.mat").is_file()
    if name == "cuhk_sysu":
        return (root / "annotation" / "pool.mat").is_file()
    from watchme.data.formats.mot_challenge import has_sequences  # not at every start: the config's schema imports this

    return root.is_dir() and has_sequences(root)


def read_search_set(
    root: Path,
    wanted: Format | None = None,
    *,
    gallery_size: int = 100,
    frame_step: int | None = None,
    min_visibility: float = 0.25,
    shared_ids: bool = False,
) -> "SearchSet":
    """Read the test part of a person-search dataset.

    Args:
        root: The dataset's folder, or a json file.
        wanted: Its format; None looks.
        gallery_size: cuhk_sysu: which TestG<n>.mat names each query's gallery.
        frame_step: mot: every how many frames one is taken; None: one a second.
        min_visibility: mot: people less visible than this are neither right nor wrong.
        shared_ids: mot: an identity has one number in all sequences, as where several cameras film one place.

    Raises:
        DataError: If files are missing, or what stands in them cannot be; the message names file and place.
    """
    root = root.expanduser()
    found = find_format(root, wanted)
    if found == "json":
        from watchme.data.person_search import own_json as own

        return own.read(annotations_file(root))
    if found == "prw":
        from watchme.data.person_search import prw

        return prw.read(root)
    if found == "cuhk_sysu":
        from watchme.data.person_search import cuhk_sysu

        return cuhk_sysu.read(root, gallery_size)
    from watchme.data.person_search import mot_tracks as mot

    return mot.read(root, frame_step=frame_step, min_visibility=min_visibility, shared_ids=shared_ids)
