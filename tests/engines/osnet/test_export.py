"""mode=export of an OSNet: each format against the trained model, limits that refuse, files that are no OSNet."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from osnet.tiny import TINY
from watchme.core.errors import CheckpointError, ConfigError, ExportError
from watchme.core.interfaces import Table
from watchme.data.demo import DemoWorld
from watchme.engines.osnet import export
from watchme.engines.osnet import export_formats as formats
from watchme.engines.osnet.model import ReidNet, models
from watchme.export import onnx_files

Run = Callable[..., Any]
SHORT = (*TINY, "optimizer.lr=0.001")
QUICK = ("mode=export", "export.latency_batches=[]", "export.fc_seeds=0", "export.images=8")
PROJECT = Path(__file__).resolve().parents[3]
PLACE = Path("handoff/src/infrastructure/osnet/client")


@pytest.fixture(scope="module")
def tiny(small_world: DemoWorld) -> tuple[str, ...]:
    return (*SHORT, f"dataset.root={small_world.reid}")


@pytest.fixture(scope="module")
def trained(run_engine: Run, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_engine(tmp_path_factory.mktemp("trained"), *tiny, "train.epochs=2")


@pytest.fixture(scope="module")
def exported(run_engine: Run, tiny: tuple[str, ...], trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Everything that can be asked for."""
    return run_engine(
        tmp_path_factory.mktemp("exported"),
        *tiny,
        "mode=export",
        f"checkpoint={trained.folder}/weights/best.pt",
        "export.fp16=true",
        "export.int8=true",
        "export.max_loss=1",
        "export.calibration_images=8",
        "export.fc_seeds=2",
        "export.latency_rounds=3",
        "export.threads=1",
    )


def tables(run: Any) -> dict[str, Table]:
    return {item.name: item for item in run.shown if isinstance(item, Table)}


def stock(path: Path) -> Any:
    """torchreid's model with the weights of a run, loaded by torch alone."""
    content = torch.load(path, weights_only=True)
    model = models.build_model("osnet_x0_25", content["num_classes"], loss="triplet", pretrained=False)
    model.load_state_dict(content["state_dict"])
    return model.eval()


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_handoff_holds_all_that_was_asked_for(exported: Any) -> None:
    assert exported.result.refused == ""
    names = {path.name for path in (exported.folder / PLACE).iterdir()}
    files = {"model.pth.tar", "model.torchscript", "model.onnx", "model_fp16.onnx", "model_int8.onnx"}
    assert names == files | {"load_reid.py", "MODEL_CARD.md", "preprocessing.json"}
    assert not [path for path in exported.folder.iterdir() if path.name.startswith(".")]
    assert exported.result.details["env"] == [
        "OSNET_SAVE_DIR=src/infrastructure/osnet/client",
        f"OSNET_NUM_CLASSES={torch.load(exported.folder / PLACE / 'model.pth.tar', weights_only=True)['num_classes']}",
        "OSNET_IMG_HEIGHT=64",
        "OSNET_IMG_WIDTH=32",
    ]
    assert {Path(path).is_file() for path in exported.result.details["files"].values()} == {True}


@pytest.mark.parametrize("size", [1, 3, 16])
def test_each_format_gives_the_trained_embeddings_at_any_batch_size(exported: Any, trained: Any, size: int) -> None:
    batch = torch.randn(size, 3, 64, 32, generator=torch.Generator().manual_seed(size))
    with torch.no_grad():
        wanted = stock(trained.folder / "weights" / "best.pt")(batch).numpy()
        traced = torch.jit.load(str(exported.folder / PLACE / "model.torchscript"))(batch).numpy()  # type: ignore[no-untyped-call]
        again = stock(exported.folder / PLACE / "model.pth.tar")(batch).numpy()
    session = onnxruntime.InferenceSession(str(exported.folder / PLACE / "model.onnx"))
    onnx_found = session.run(None, {"images": batch.numpy()})[0]
    assert np.array_equal(again, wanted)
    for found in (traced, onnx_found):
        assert np.abs(unit(found) - unit(wanted)).max() < 1e-5


def test_the_small_files_are_what_they_are_called(exported: Any) -> None:
    place = exported.folder / PLACE
    halves = onnx.load(str(place / "model_fp16.onnx")).graph
    assert {each.data_type for each in halves.initializer if len(each.dims) > 1} == {onnx.TensorProto.FLOAT16}
    assert halves.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    quantised = onnx.load(str(place / "model_int8.onnx"))
    assert {each.data_type for each in quantised.graph.initializer if len(each.dims) > 1} >= {onnx.TensorProto.INT8}
    metadata = {each.key: each.value for each in quantised.metadata_props}
    assert json.loads(metadata["preprocessing"])["input"]["shape"] == ["batch", 3, 64, 32]


def test_the_validation_metric_is_that_of_the_training(exported: Any, trained: Any) -> None:
    assert exported.result.metrics["val/map"] == pytest.approx(trained.result.objective, abs=1e-6)
    assert exported.result.objective == exported.result.metrics["val/map"]
    rows = {row[0]: row for row in tables(exported)["export/metrics"].rows}
    assert list(rows) == ["trained", "fc dropped, seed 0", "fc dropped, seed 1", "fp16", "int8"]
    for name in ("fp16", "int8"):
        assert rows["trained"][1] - rows[name][1] == pytest.approx(rows[name][3])
        assert exported.result.metrics[f"val/map_{name}"] == rows[name][1]
    dropped = [rows[f"fc dropped, seed {seed}"][1] for seed in (0, 1)]
    assert exported.result.metrics["val/map_fc_dropped"] == pytest.approx(np.mean(dropped))


def test_differences_and_latencies_are_shown(exported: Any) -> None:
    rows = {row[0]: row for row in tables(exported)["export/formats"].rows}
    assert rows["model.pth.tar"][3] == 0
    assert 0 < rows["onnx"][3] <= 1e-5
    assert rows["fp16"][3] > rows["onnx"][3]
    assert rows["int8"][3] > rows["fp16"][3]
    times = tables(exported)["export/latency"].rows
    assert {(row[0], row[1]) for row in times} == {(name, size) for name in rows for size in (1, 16)}
    assert all(0 < low <= median <= high for _, _, median, low, high, _, _ in times)
    assert {row[-1] for row in times} == {1}


def test_what_the_backend_cannot_follow_is_said(exported: Any, run_engine: Run, trained: Any, tmp_path: Path) -> None:
    assert any("osnet_ibn_x1_0" in text for text in exported.fallbacks)
    assert any("256x128" in text for text in exported.fallbacks)
    strange = ("augmentation.normalize=false", "evaluation.flip_test=true", "export.formats=[]")
    checkpoint = f"checkpoint={trained.folder}/weights/best.pt"
    root = f"dataset.root={trained.manifest['dataset']['root']}"
    run = run_engine(tmp_path, *SHORT, root, *QUICK, *strange, checkpoint)
    readme = (tmp_path / "handoff" / "README.md").read_text()
    for word in ("augmentation.normalize", "evaluation.flip_test"):
        assert any(word in text for text in run.fallbacks)
        assert word in readme
    steps = json.loads((tmp_path / PLACE / "preprocessing.json").read_text())["steps"]
    assert [step for step in steps if "subtract" in step] == []


def test_a_format_that_differs_is_refused(
    run_engine: Run, tiny: tuple[str, ...], trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = formats.write_onnx

    def wrong(made: formats.Trained, path: Path, size: tuple[int, int]) -> None:
        write(formats.Trained(ReidNet(made.name, 4).eval(), made.name, 4, None, False, True), path, size)

    monkeypatch.setattr(formats, "write_onnx", wrong)
    run = run_engine(tmp_path, *tiny, *QUICK, f"checkpoint={trained.folder}/weights/best.pt")
    assert "model.onnx differs" in run.result.refused
    assert "export.max_difference" in run.result.refused
    assert "model.torchscript" not in run.result.refused
    assert not (tmp_path / "handoff").exists()
    assert (tmp_path / "handoff-refused" / "SHA256SUMS").is_file()


def test_a_small_file_that_sees_nothing_is_refused(
    run_engine: Run, tiny: tuple[str, ...], trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mAP may be better than the model's: with equal embeddings the order of files ranks."""

    def blind(source: Path, target: Path) -> None:
        model = onnx.load(str(source))
        for each in model.graph.initializer:
            each.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(onnx.numpy_helper.to_array(each)), each.name))
        onnx.save(model, str(target))

    monkeypatch.setattr(onnx_files, "to_fp16", blind)
    checkpoint = f"checkpoint={trained.folder}/weights/best.pt"
    run = run_engine(tmp_path, *tiny, *QUICK, checkpoint, "export.fp16=true", "export.formats=[onnx]")
    assert "model_fp16.onnx gives other embeddings" in run.result.refused
    assert not (tmp_path / "handoff").exists()


@pytest.mark.parametrize(("value", "refused"), [(0.46, True), (0.48, False), (0.52, False), (float("nan"), True)])
def test_a_small_file_that_loses_too_much_is_refused(
    run_engine: Run,
    tiny: tuple[str, ...],
    trained: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
    refused: bool,
) -> None:
    found = {"trained": {"val/map": 0.5, "val/rank1": 0.5}, "fp16": {"val/map": value, "val/rank1": value}}
    monkeypatch.setattr(export.OsnetExporter, "rank", lambda *_: found)
    checkpoint = f"checkpoint={trained.folder}/weights/best.pt"
    run = run_engine(tmp_path, *tiny, *QUICK, checkpoint, "export.fp16=true", "export.formats=[onnx]")
    assert ("model_fp16.onnx loses" in run.result.refused) == refused
    assert (tmp_path / "handoff").exists() != refused


def test_the_size_that_foreign_weights_were_trained_on_is_not_made_up(
    run_engine: Run, tiny: tuple[str, ...], trained: Any, tmp_path: Path
) -> None:
    """It said that they were trained on the crops of whatever dataset the command had."""
    shutil.copytree(trained.folder / "weights", tmp_path / "run" / "weights")
    checkpoint = tmp_path / "run" / "weights" / "best.pt"
    for in_run in (False, True):
        if in_run:
            for name in ("run.json", "config.yaml"):
                (tmp_path / "run" / name).write_text("{}")
        run = run_engine(tmp_path / str(in_run), *tiny, *QUICK, "export.formats=[]", f"checkpoint={checkpoint}")
        said = " ".join(run.fallbacks)
        assert ("this model was trained on 64x32" in said) == in_run
        assert ("best.pt is in no run folder: on which size it was trained is not known here" in said) != in_run


def test_an_export_that_fails_leaves_nothing(
    run_engine: Run, tiny: tuple[str, ...], trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no such operator\nmore")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ExportError, match=r"cannot write onnx: no such operator\n"):
        run_engine(tmp_path, *tiny, *QUICK, f"checkpoint={trained.folder}/weights/best.pt")
    assert not list(tmp_path.iterdir())


def test_without_held_out_people_it_is_checked_on_the_test_split(
    run_engine: Run, tiny: tuple[str, ...], trained: Any, tmp_path: Path
) -> None:
    checkpoint = f"checkpoint={trained.folder}/weights/best.pt"
    asked = (*QUICK, "export.formats=[]", "export.fc_seeds=1")
    run = run_engine(tmp_path, *tiny, *asked, checkpoint, "dataset.val_identities=0")
    assert run.result.metrics["test/map"] == pytest.approx(trained.result.metrics["test/map"], abs=1e-6)
    assert any("query and gallery" in text for text in run.fallbacks)


def broken(kind: str, folder: Path, good: Path) -> Path:
    """A file that is no export of an osnet_x0_25."""
    path = folder / f"{kind}.pt"
    content: Any = torch.load(good, weights_only=True)
    if kind == "truncated":
        path.write_bytes(good.read_bytes()[:20000])
    elif kind == "text":
        path.write_text("not weights")
    elif kind == "yolo":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("best/data.pkl", b"\x80\x02cultralytics.nn.tasks\nDetectionModel\n.")
    elif kind == "other":
        torch.save(ReidNet("osnet_x0_5", 4).backbone.state_dict(), path)
    elif kind == "foreign":
        torch.save({"layer.weight": torch.zeros(3)}, path)
    elif kind == "missing":
        del content["state_dict"]["conv2.0.conv1.conv.weight"]
        torch.save(content, path)
    elif kind == "nan":
        content["state_dict"]["conv1.conv.weight"][0] = torch.nan
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("truncated", "cannot be read as a checkpoint"),
        ("text", "cannot be read as a checkpoint"),
        ("yolo", "holds a YOLO model of ultralytics.*model=yolo11n"),
        ("other", "holds osnet_x0_5, but model.name is osnet_x0_25"),
        ("foreign", "is not an OSNet"),
        ("missing", "is not an OSNet"),
        ("nan", "holds NaN or infinity in conv1.conv.weight"),
    ],
)
def test_a_file_that_is_no_such_model_is_refused(
    run_engine: Run, tiny: tuple[str, ...], trained: Any, tmp_path: Path, kind: str, text: str
) -> None:
    path = broken(kind, tmp_path, trained.folder / "weights" / "best.pt")
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(CheckpointError, match=text) as error:
        run_engine(run, *tiny, *QUICK, f"checkpoint={path}")
    assert str(path) in str(error.value)
    assert not list(run.iterdir())


def test_prefixes_and_other_layouts_are_made_plain(
    run_engine: Run, tiny: tuple[str, ...], trained: Any, tmp_path: Path
) -> None:
    content = torch.load(trained.folder / "weights" / "best.pt", weights_only=True)
    state = {
        f"module.{name}": value.to(memory_format=torch.channels_last) if value.ndim == 4 else value
        for name, value in content["state_dict"].items()
        if not name.startswith("classifier.")
    }
    torch.save({"state_dict": state, "epoch": 7}, tmp_path / "wrapped.pth.tar")
    run = run_engine(tmp_path, *tiny, *QUICK, "export.formats=[]", f"checkpoint={tmp_path}/wrapped.pth.tar")
    made = torch.load(tmp_path / PLACE / "model.pth.tar", weights_only=True)
    assert type(made["state_dict"]) is dict
    assert (made["arch"], made["num_classes"], made["epoch"]) == ("osnet_x0_25", 1, 7)
    for name, value in made["state_dict"].items():
        assert not name.startswith("module.")
        assert value.is_contiguous()
        if not name.startswith("classifier."):
            assert torch.equal(value, content["state_dict"][name])
    assert run.result.refused == ""
    assert "no classifier" in (tmp_path / "handoff" / "README.md").read_text()


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("checkpoint=null", "checkpoint"),
        ("checkpoint=nowhere.pt", "checkpoint"),
        ("checkpoint=random", "checkpoint"),
        ("export.formats=[onxx]", "export.formats"),
        ("export.formats=[onnx,onnx]", "export.formats"),
        ("export.place=/client", "export.place"),
        ("export.place=../client", "export.place"),
        ("export.latency_batches=[0]", "export.latency_batches"),
        ("export.max_difference=0", "export.max_difference"),
    ],
)
def test_a_wrong_config_is_told_at_once(
    typed_config: Callable[..., Any], tiny: tuple[str, ...], trained: Any, override: str, key: str
) -> None:
    good = () if override.startswith("checkpoint") else (f"checkpoint={trained.folder}/weights/best.pt",)
    with pytest.raises(ConfigError) as error:
        typed_config(*tiny, "mode=export", *good, override)
    assert [problem.key for problem in error.value.problems] == [key]


def test_small_files_need_onnx(typed_config: Callable[..., Any], tiny: tuple[str, ...], trained: Any) -> None:
    asked = ("export.formats=[torchscript]", "export.fp16=true", "export.int8=true")
    with pytest.raises(ConfigError) as error:
        typed_config(*tiny, "mode=export", f"checkpoint={trained.folder}/weights/best.pt", *asked)
    assert [problem.key for problem in error.value.problems] == ["export.fp16", "export.int8"]


def test_the_run_s_initial_weights_need_not_be_there_any_more(
    typed_config: Callable[..., Any], tiny: tuple[str, ...], trained: Any
) -> None:
    typed_config(*tiny, "mode=export", f"checkpoint={trained.folder}/weights/best.pt", "model.weights=gone.pth")


@pytest.mark.real
@pytest.mark.slow
def test_figures_on_real_people(run_engine: Run, real_data: Path, tmp_path: Path) -> None:
    """The figures of docs/handoff.md: torchreid's own value as it is, little lost by fp16 and int8, much by fc."""
    run = run_engine(
        tmp_path,
        "mode=export",
        "model=osnet_x0_25",
        "dataset=market1501",
        "model.weights=null",
        f"dataset.root={real_data}/market1501_mini",
        f"checkpoint={real_data}/weights/osnet_x0_25_msmt17.pth",
        "evaluation.distance=cosine",
        "export.split=test",
        "export.fp16=true",
        "export.int8=true",
        "export.fc_seeds=5",
        "export.latency_batches=[]",
        "train.workers=0",
    )
    metrics = run.result.metrics
    assert run.result.refused == ""
    assert metrics["test/map"] == pytest.approx(0.742240, abs=1e-5)  # ../shared/people/README.md
    assert abs(metrics["test/map_fp16"] - metrics["test/map"]) < 0.005
    assert abs(metrics["test/map_int8"] - metrics["test/map"]) < 0.02
    assert 0.04 < metrics["test/map"] - metrics["test/map_fc_dropped"] < 0.12
    assert metrics["test/cosine_fc_dropped"] == pytest.approx(0.303, abs=0.02)


@pytest.mark.slow
def test_the_command_ends_with_1_where_it_refuses(tiny: tuple[str, ...], trained: Any, tmp_path: Path) -> None:
    def train_py_whole(*arguments: str) -> "subprocess.CompletedProcess[str]":
        script = [sys.executable, str(PROJECT / "train.py"), *arguments]
        return subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    shutil.copy(trained.folder / "weights" / "best.pt", tmp_path / "best.pt")
    command = (*tiny, *QUICK, f"checkpoint={tmp_path}/best.pt", "export.formats=[onnx]")
    good = train_py_whole(*command, f"hydra.run.dir={tmp_path}/good")
    assert good.returncode == 0, good.stderr
    assert (tmp_path / "good" / PLACE / "model.pth.tar").is_file()
    assert "OSNET_IMG_HEIGHT=64" in good.stdout + good.stderr
    bad = train_py_whole(*command, "export.max_difference=1e-12", f"hydra.run.dir={tmp_path}/bad")
    assert bad.returncode == 1
    assert "model.onnx differs" in bad.stderr
    assert "Traceback" not in bad.stderr
    assert json.loads((tmp_path / "bad" / "run.json").read_text())["status"] == "refused"
