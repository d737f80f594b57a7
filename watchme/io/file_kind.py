"""What a file is that was given for a checkpoint, by its first bytes. Standard library only."""

from pathlib import Path

_HEAD = 512


def kind_of(path: Path) -> str:
    """What a file is, with what to do about it, to follow "it is"; empty where it may well be a checkpoint."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return ""
    text = head.lstrip().lower()
    if not head:
        return "empty"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, as a server sends it in place of a file: fetch it again"
    if text.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, and not the file itself: git lfs pull"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "of the format safetensors: name it .safetensors"
    if b"onnx" in head or b"pytorch" in head[:32]:
        return "an exported model (ONNX), and weights are needed that can be trained"
    if head.startswith(b"\x1f\x8b"):
        return "compressed: unpack it with gunzip"
    return ""
