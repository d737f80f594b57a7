"""What `model.weights` stands for: published weights, a run's best ones, a file or an address."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from watchme.config.suggestions import nearest
from watchme.core.errors import CheckpointError
from watchme.core.formatting import some_of
from watchme.io.run_lookup import config_of, folder_of
from watchme.weights.checksum import sha256_of
from watchme.weights.download import fetch, fetch_address, is_address, weights_dir
from watchme.weights.model_zoo import PublishedWeights, canonical, find, names_for

# What real data starts from by default, see conf/model.
DEFAULTS: Final = {"yolo": "coco", "osnet": "imagenet"}
_SHOWN = 12


@dataclass(frozen=True)
class InitialWeights:
    """Where training starts from; exactly one of `published`, `address` and `file` is set."""

    given: str  # the value of `model.weights`
    published: PublishedWeights | None = None  # a row of the model zoo
    address: str | None = None  # an http(s) or file address
    file: Path | None = None  # a file of this machine

    def fetch(self) -> Path:
        """The file, fetched first where it is not on this machine.

        Raises:
            CheckpointError: If it cannot be fetched, or is not the published one.
        """
        if self.published is not None:
            return fetch(self.published)
        if self.address is not None:
            return fetch_address(self.address)
        assert self.file is not None
        return self.file

    def record(self) -> dict[str, Any]:
        """What run.json and the model card say of it; fetches it."""
        path = self.fetch()
        source = self.published.page if self.published else self.address
        name = str(self.published) if self.published else str(path)
        return {"given": self.given, "name": name, "path": str(path), "sha256": sha256_of(path), "source": source}


def random_weights(engine: str) -> dict[str, Any]:
    """The record of a training from scratch, beside `InitialWeights.record`."""
    return {"given": None, "published": DEFAULTS.get(engine)}


def describe_weights(record: Mapping[str, Any]) -> str:
    """One line of a record of run.json, for the console and the model card."""
    if record.get("given") is None:
        hint = f"; model.weights={record['published']} takes published ones" if record.get("published") else ""
        return f"random (from scratch{hint})"
    text = str(record["given"])
    if record.get("name") not in (None, text):
        text += f" = {record['name']}"
    return text + (f", sha256 {record['sha256']}" if record.get("sha256") else "")


def find_initial(weights: str | None, pretrained: bool | None, engine: str, name: str) -> InitialWeights | None:
    """Find what a model starts from by `model.weights`; None for random weights.

    `model.pretrained` chooses the default of `model.weights` in conf/ and must not contradict it.

    Raises:
        CheckpointError: If there are no such weights; it says what there is.
    """
    given = weights
    if given is None:
        return None
    if pretrained is False:
        raise CheckpointError("model.pretrained=false asks for random weights; leave one of the two out")
    if is_address(given):
        return InitialWeights(given, address=given)
    path = Path(given).expanduser()
    for file in (path, path.with_name(canonical(path.name))):
        if file.is_file():
            return InitialWeights(given, file=file.resolve())
    if published := find(given, engine, name):
        return _of_architecture(InitialWeights(given, published=published), published, name)
    if folder_of(path) == path:
        return InitialWeights(given, file=_best_of(path, engine))
    by_hand = weights_dir() / given
    if by_hand.is_file():
        return InitialWeights(given, file=by_hand)
    raise CheckpointError(_unknown(given, engine, name))


def _of_architecture(found: InitialWeights, published: PublishedWeights, name: str) -> InitialWeights:
    """Refuse OSNet's weights of another architecture; a detector's file says itself what it holds."""
    if published.engine == "osnet" and published.architecture != name:
        raise CheckpointError(f"{published.key} are weights of {published.architecture}, and model.name is {name}")
    return found


def _best_of(folder: Path, engine: str) -> Path:
    own = (config_of(folder) or {}).get("model", {})
    if own.get("engine") != engine:
        raise CheckpointError(
            f"{folder} is a run of {own.get('name')}, of the {own.get('engine')} engine; the model is of {engine}"
        )
    best = folder / "weights" / "best.pt"
    if not best.is_file():
        raise CheckpointError(f"the run {folder} has no {best.relative_to(folder)} to start from")
    return best.resolve()


def _unknown(given: str, engine: str, name: str) -> str:
    known = names_for(engine, name)
    close = nearest(given, known)
    hint = f" Did you mean {close}?" if close else ""
    shown = some_of(known, _SHOWN)
    published = f"published weights of {name} ({shown}; python -m watchme.weights list)" if known else "a name"
    return f"expected {published}, a run folder, a file, an address, or null for random weights.{hint}"
