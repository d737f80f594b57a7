"""TensorBoard event files in `<run>/tensorboard`, for `tensorboard --logdir outputs`.

Written with tensorboard's own writer rather than torch's, so that this process need not import torch.
"""

import math
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_STRING
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.plugins.pr_curve.metadata import create_summary_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from watchme.core.formatting import flatten
from watchme.core.interfaces import Embedding, EpochEvent, Picture, Result, Shown, StepEvent, Stop, Table
from watchme.core.metric_names import measured_objective
from watchme.io.files import read_yaml
from watchme.io.run_lookup import CONFIG, manifest_of
from watchme.tracking.curves import by_class
from watchme.tracking.draw_boxes import with_boxes
from watchme.tracking.projector import write_embedding
from watchme.tracking.setup import Setup
from watchme.tracking.tracker import Tracker

FOLDER = "tensorboard"
# Settings that have a short name.
_SHORT = {"optimizer.lr", "train.batch_size", "train.epochs", "train.seed"}
_SECTIONS = ("model", "dataset", "optimizer", "scheduler", "augmentation", "loss", "train")


class TensorBoardTracker(Tracker):
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
        self._manifest = manifest_of(self._folder)
        self._steps: EventFileWriter | None = None
        start = SessionStartInfo(start_time_secs=time.time(), group_name=_short_name(self._folder))
        for name, value in hyperparameters(self._config, self._manifest).items():
            kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
            setattr(start.hparams[name], f"{kind}_value", value)
        self._add_hparams(metadata.SESSION_START_INFO_TAG, session_start_info=start)
        self._add_text("run", self._description())

    def on_resume(self, epoch: int) -> None:
        """Have readers drop what an earlier attempt wrote of later epochs, so that no curve is drawn twice."""
        session = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(wall_time=time.time(), step=epoch + 1, session_log=session))

    def on_step(self, event: StepEvent) -> None:
        """Write a point within an epoch.

        Into events of their own, since a resumed run drops what is of a later step, and epochs are counted otherwise.
        """
        if self._steps is None:
            self._steps = EventFileWriter(str(self._folder / FOLDER / "steps"))
            session = SessionLog(status=SessionLog.START)  # of a resumed run: drop what it repeats
            self._steps.add_event(Event(wall_time=time.time(), step=event.step, session_log=session))
        found = [Summary.Value(tag=name, simple_value=value) for name, value in event.metrics.items()]
        self._steps.add_event(Event(wall_time=time.time(), step=event.step, summary=Summary(value=found)))

    def on_epoch(self, event: EpochEvent) -> Stop | None:
        """Write the epoch's scalars; undefined ones are left out."""
        self._epoch = max(self._epoch, event.epoch)
        self._scalars({**event.metrics, **event.timings}, event.epoch)
        self._writer.flush()
        return None

    def on_show(self, item: Shown) -> None:
        """Write a picture, PR curves or an embedding. Further pictures of one name and epoch get a number."""
        if isinstance(item, Embedding):
            write_embedding(self._folder / FOLDER, item)
        elif isinstance(item, Picture):
            self._add_picture(item)
        elif item.chart == "precision_recall":
            self._add_curves(item)

    def _add_picture(self, item: Picture) -> None:
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
        if self._steps is not None:
            self._steps.close()

    def _description(self) -> str:
        """Command, what differs from the defaults, and config as Markdown."""
        pairs = [override.partition("=") for override in self._manifest.get("overrides", [])]
        bar = str.maketrans({"|": "\\|"})  # would begin another column
        rows = "\n".join(f"| {key.lstrip('+~')} | {value.translate(bar)} |" for key, _, value in pairs)
        differs = f"| setting | value |\n|---|---|\n{rows}" if rows else "Nothing."
        config = textwrap.indent(yaml.safe_dump(self._config, sort_keys=False, allow_unicode=True), "    ")
        command = f"Command\n\n    {self._manifest.get('command', '')}"
        return f"{command}\n\nWhat differs from the defaults\n\n{differs}\n\nConfig\n\n{config}\n"

    def _add_curves(self, table: Table) -> None:
        """A PR curve of each class, from precision and recall at evenly spaced confidences."""
        for name, points in by_class(table).items():
            found = [recall * boxes for _, _, recall, _, boxes in points]
            false = [at * (1 - row[1]) / row[1] if row[1] else 0.0 for at, row in zip(found, points, strict=True)]
            missed = [row[4] - at for at, row in zip(found, points, strict=True)]
            values = [found, false, [0.0] * len(points), missed, [row[1] for row in points], [row[2] for row in points]]
            tensor = TensorProto(dtype=DT_FLOAT, float_val=[value for line in values for value in line])
            for size in (len(values), len(points)):
                tensor.tensor_shape.dim.add(size=size)
            about = create_summary_metadata(f"{table.name} of {name}", "", len(points))
            tag = f"{table.name}/{name}"
            self._add(Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=tensor)]), self._epoch)

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


def _short_name(folder: Path) -> str:
    """What tells a run apart comes first, as the HPARAMS tab shows 14 characters; the folder above makes it unique."""
    return " ".join(reversed(folder.parts[-2:]))


def hyperparameters(config: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """What runs are told apart by: eight settings under short names, and what was overridden. Nulls are left out.

    Args:
        config: The run's, resolved.
        manifest: Its manifest, with `choices` of groups and `overrides`.
    """
    train, choices = config.get("train") or {}, manifest.get("choices") or {}
    named = {
        "model": (config.get("model") or {}).get("name"),
        "dataset": (config.get("dataset") or {}).get("name"),
        "optimizer": (config.get("optimizer") or {}).get("name"),
        "lr": (config.get("optimizer") or {}).get("lr"),
        "batch_size": train.get("batch_size"),
        "epochs": train.get("epochs"),
        "seed": train.get("seed"),
        "augmentation": choices.get("augmentation"),
    }
    keys = [str(override).partition("=")[0].lstrip("+~") for override in manifest.get("overrides", [])]
    flat = flatten({section: config.get(section) for section in _SECTIONS})
    named |= {key: choices[key] for key in keys if key in choices and key not in named}
    named |= {key: flat[key] for key in keys if key in flat and key not in _SHORT}
    found: dict[str, bool | float | str] = {}
    for name, value in named.items():
        if isinstance(value, list):
            found[name] = ", ".join(map(str, value))
        elif isinstance(value, (bool, int, float, str)):
            found[name] = value
    return found
