"""TensorBoard event files in `<run>/tensorboard`, for `tensorboard --logdir outputs`.

Written with tensorboard's own writer rather than torch's, so that this process need not import torch.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from watchme.core.formatting import flatten
from watchme.core.interfaces import Callback, EpochEvent, Picture, Result, Stop, Table
from watchme.core.metric_names import measured_objective
from watchme.io.files import read_json, read_yaml
from watchme.run.run_dir import CONFIG, MANIFEST
from watchme.tracking.draw_boxes import with_boxes
from watchme.tracking.setup import Setup

FOLDER = "tensorboard"
_SECTIONS = ("model", "dataset", "optimizer", "scheduler", "augmentation", "loss", "train")


class TensorBoardTracker(Callback):
    """Scalars under canonical names with the epoch as step, pictures, and hyper-parameters with the result.

    The hparams view shows the last value of a scalar. So that it shows the result rather than the last epoch, final
    metrics are written once more, as `final/<name>`. No experiment summary is written: TensorBoard takes that of the
    first run for all of them, while without one it gathers columns and filters from all runs, differing ones first.
    """

    def __init__(self, setup: Setup) -> None:
        self._folder = Path(setup.folder)
        self._objective = setup.objective
        self._writer = EventFileWriter(str(self._folder / FOLDER))
        self._shown: dict[tuple[str, int], int] = {}
        self._epoch = 0
        self._config = read_yaml(self._folder / CONFIG)
        start = SessionStartInfo(start_time_secs=time.time(), group_name="/".join(self._folder.parts[-2:]))
        for name, value in hyperparameters(self._config).items():
            kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
            setattr(start.hparams[name], f"{kind}_value", value)
        self._add_hparams(metadata.SESSION_START_INFO_TAG, session_start_info=start)
        self._add_text("run", self._description())

    def on_resume(self, epoch: int) -> None:
        """Have readers drop what an earlier attempt wrote of later epochs, so that no curve is drawn twice."""
        session = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(wall_time=time.time(), step=epoch + 1, session_log=session))

    def on_epoch(self, event: EpochEvent) -> Stop | None:
        """Write the epoch's scalars; undefined ones are left out."""
        self._epoch = max(self._epoch, event.epoch)
        self._scalars({**event.metrics, **event.timings}, event.epoch)
        self._writer.flush()
        return None

    def on_show(self, item: Picture | Table) -> None:
        """Write a picture. Further pictures of one name and epoch get a number."""
        if isinstance(item, Table):
            return
        step = self._epoch if item.epoch is None else item.epoch
        count = self._shown.get((item.name, step), 0)
        self._shown[item.name, step] = count + 1
        encoded = with_boxes(item)
        with Image.open(item.path) as picture:
            width, height = picture.size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
        tag = item.name if count == 0 else f"{item.name}/{count}"
        self._add(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def on_end(self, status: str, result: Result | None) -> None:
        """Write the final metrics and how the run ended."""
        if result is not None:
            metrics = {name: value for name, value in result.metrics.items() if not name.startswith("train/")}
            mode = str(self._config.get("mode", "train"))
            metrics.setdefault(measured_objective(mode, self._objective, metrics), result.objective)
            defined = {f"final/{name}": value for name, value in metrics.items() if not math.isnan(value)}
            self._scalars(defined, self._epoch)
        good = status in ("finished", "pruned")
        code = api_pb2.STATUS_SUCCESS if good else api_pb2.STATUS_FAILURE
        end = SessionEndInfo(status=code, end_time_secs=time.time())
        self._add_hparams(metadata.SESSION_END_INFO_TAG, session_end_info=end)
        self._writer.close()

    def _description(self) -> str:
        """Command, overrides and config as Markdown."""
        manifest = read_json(self._folder / MANIFEST)
        overrides = "\n".join(f"    {override}" for override in manifest.get("overrides", []))
        config = "\n".join(f"    {name}: {value}" for name, value in flatten(self._config).items())
        return f"Command\n\n    {manifest.get('command', '')}\n\nOverrides\n\n{overrides}\n\nConfig\n\n{config}\n"

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        found = [Summary.Value(tag=name, simple_value=value) for name, value in values.items() if not math.isnan(value)]
        self._add(Summary(value=found), step)

    def _add(self, values: Summary, step: int) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=values))

    def _add_text(self, tag: str, text: str) -> None:
        plugin = SummaryMetadata.PluginData(plugin_name="text")
        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
        self._add(
            Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)]), step=0
        )

    def _add_hparams(self, tag: str, **content: Any) -> None:
        # The porcelain in tensorboard.plugins.hparams.summary needs TensorFlow; these are the messages it makes.
        data = HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content).SerializeToString()
        plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data)
        self._add(Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))]), step=0)


def hyperparameters(config: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """The settings of a config that may matter for its result, flat: `optimizer.lr` -> 0.001. Nulls are left out."""
    found: dict[str, bool | float | str] = {}
    for name, value in flatten({section: config.get(section) for section in _SECTIONS}).items():
        if isinstance(value, list):
            found[name] = ", ".join(map(str, value))
        elif isinstance(value, (bool, int, float, str)) and not name.startswith("model.family."):
            found[name] = value
    return found
