"""Checkpoints: whole or not there, and safe to read."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from watchme.core.errors import CheckpointError
from watchme.io.checkpoint import load_checkpoint, save_checkpoint


def interrupted(content: Any, file: Any) -> None:
    """What torch.save does when Ctrl-C or SIGTERM comes while it writes."""
    file.write(b"half")
    try:
        raise KeyboardInterrupt
    finally:
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 711232 vs 711128")


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.pt"
    save_checkpoint(path, {"state_dict": {"w": torch.ones(2)}, "epoch": 3})
    content = load_checkpoint(path)
    assert content["epoch"] == 3
    assert torch.equal(content["state_dict"]["w"], torch.ones(2))
    assert [each.name for each in path.parent.iterdir()] == ["last.pt"]


def test_an_interrupted_save_leaves_the_old_file_and_stays_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["last.pt"]


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "evil").exists()


def test_torchreids_numpy_scalars_are_read(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(1)}, "rank1": np.float64(0.5)}, tmp_path / "model.pth.tar-9")
    assert load_checkpoint(tmp_path / "model.pth.tar-9")["rank1"] == 0.5


@pytest.mark.parametrize("content", [[1, 2], torch.ones(3)])
def test_what_is_no_dict_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="expected a dict"):
        load_checkpoint(tmp_path / "list.pt")


@pytest.mark.parametrize("content", [b"broken\n", b"a page\n", b"", b"\x80\x04K\x01.", b"<html>", b"PK\x03\x04"])
def test_what_is_no_checkpoint_is_named_whatever_its_bytes_are(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pt"):
        load_checkpoint(tmp_path / "weights.pt")
