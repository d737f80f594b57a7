"""ONNX files: run by onnxruntime, convert to fp16, quantise to int8. Both are imported lazily.

int8 is static quantisation of the convolutions and matrix products only, with unsigned 8-bit activations and one scale
for each output channel of the weights: the best that was tried with osnet_x0_25 on real people (docs/handoff.md).
Dynamic quantisation took seven times as long. A detector's head must stay float, as ultralytics found: boxes in pixels
and probabilities would share one scale, which rounds each probability to 0.
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CUDA = "CUDAExecutionProvider"
_QUANTISED = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Session:
    """A loaded ONNX file with one input."""

    session: Any
    input: str

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The first output for a batch, float32."""
        return np.asarray(self.session.run(None, {self.input: batch})[0], np.float32)

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a CUDA device: where CUDA's libraries are missing, onnxruntime takes the CPU."""
        return _CUDA in self.session.get_providers()

    def shapes(self) -> tuple[list[int | str], list[int | str]]:
        """Shapes of the input and of the first output; text where any size goes."""
        return list(self.session.get_inputs()[0].shape), list(self.session.get_outputs()[0].shape)


def session(path: Path, threads: int, gpu: int | None = None) -> Session:
    """Load a file to run on a CUDA device, or with `threads` threads on the CPU; 0: one a core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # its warnings concern its own graph optimisations
    providers: list[Any] = ["CPUExecutionProvider"]
    if gpu is not None:
        providers.insert(0, (_CUDA, {"device_id": gpu, "use_tf32": 0}))  # as exact as on the CPU
    made = onnxruntime.InferenceSession(str(path), options, providers=providers)
    return Session(made, made.get_inputs()[0].name)


def gpu_of(device: str) -> int | None:
    """Number of the GPU that onnxruntime runs on where torch would take `device`, cuda:<n> or else; None: the CPU."""
    import onnxruntime

    kind, _, number = device.partition(":")
    return int(number or 0) if kind == "cuda" and _CUDA in onnxruntime.get_available_providers() else None


def on_cpu(path: Path, device: str) -> str:
    """What is to be said of a file that runs on the CPU although there is such a device; empty for the CPU itself."""
    if device == "cpu":
        return ""
    return (
        f"{path} runs on the CPU, not on {device}: this onnxruntime is not built for it, or finds no CUDA and cuDNN; "
        "for CUDA `uv pip uninstall onnxruntime && uv pip install 'onnxruntime-gpu[cuda,cudnn]'`, or take the .pt file"
    )


def read_metadata(path: Path) -> tuple[dict[str, str], list[int | str]]:
    """A file's metadata, and the shape of its input; text where any size goes.

    Raises:
        ValueError: If it is no ONNX file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
        shape = model.graph.input[0].type.tensor_type.shape.dim
    except (DecodeError, IndexError, OSError) as error:
        raise ValueError(f"it is no ONNX file: {error}") from None
    values = {each.key: each.value for each in model.metadata_props}
    return values, [each.dim_value if each.HasField("dim_value") else each.dim_param for each in shape]


def describe(path: Path, values: Mapping[str, str]) -> None:
    """Add names and values to a file's metadata."""
    import onnx

    model = onnx.load(str(path))
    _add(model, values)
    onnx.save(model, str(path))


def to_fp16(source: Path, target: Path) -> None:
    """Convert weights to fp16; input and output stay float32, so callers need no change."""
    import onnx
    from onnxruntime.transformers import float16

    with _quiet():
        # It warns of each weight that is below fp16's smallest number and becomes 0.
        model = float16.convert_float_to_float16(onnx.load(str(source)), keep_io_types=True)
    onnx.save(model, str(target))


def to_int8(source: Path, target: Path, batches: Iterable[NDArray[np.float32]]) -> None:
    """Quantise the convolutions and matrix products, statically, by the ranges of activations in the `batches`."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx.load(str(source))
    values = {each.key: each.value for each in model.metadata_props}
    name = model.graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(batches)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {name: batch}

    prepared = target.with_name(f".{target.name}.prepared")
    try:
        with _quiet():
            # Folds batch normalisation into convolutions before they are quantised.
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            graph = onnx.load(str(prepared)).graph
            quantize_static(
                str(prepared),
                str(target),
                Reader(),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[node.name for node in graph.node if node.op_type not in _QUANTISED],
            )
    finally:
        prepared.unlink(missing_ok=True)
    describe(target, values)


def _add(model: Any, values: Mapping[str, str]) -> None:
    known = {each.key for each in model.metadata_props}
    for key, value in values.items():
        if key not in known:
            model.metadata_props.add(key=key, value=value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Mute these tools' log records and warnings."""
    import warnings

    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
