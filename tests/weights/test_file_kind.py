"""What is given for a checkpoint and is none, by both loaders."""

import gzip
import io
import json
from pathlib import Path

import pytest
import torch

from watchme.core.errors import CheckpointError
from watchme.engines.yolo import initial_weights, isolation
from watchme.io.checkpoint import load_checkpoint
from watchme.io.file_kind import kind_of

_HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
FILES = {
    "empty": b"",
    "a web page": b"\n<!DOCTYPE html><html>404</html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n",
    "of the format safetensors": len(_HEADER).to_bytes(8, "little") + _HEADER + b"\0\0\0\0",
    "an exported model": b"\x08\x0a\x12\x07pytorch\x1a\x052.0.1",
    "compressed": gzip.compress(b"x" * 100),
}


@pytest.mark.parametrize("what", FILES)
def test_what_a_file_is_stands_in_place_of_the_unpicklers_error(what: str, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(FILES[what])
    isolation.isolate()
    isolation.allow_code_in_files(False)
    with pytest.raises(CheckpointError, match=rf"best.pt cannot be read as a checkpoint of tensors: it is {what}"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match=rf"best.pt cannot be loaded as a YOLO model: it is {what}"):
        initial_weights.load(path)


def test_a_checkpoint_is_none_of_these(tmp_path: Path) -> None:
    for zipped in (True, False):
        content = io.BytesIO()
        torch.save({"html": torch.zeros(1)}, content, _use_new_zipfile_serialization=zipped)
        (tmp_path / "w.pt").write_bytes(content.getvalue())
        assert kind_of(tmp_path / "w.pt") == ""
