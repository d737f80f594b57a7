"""Images a second of training steps by precision, batch and recipe, and torchreid's; a profile of a step."""

from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gpu.bench import Torchreid, Variant, our_trainer, rate, synchronize, use, warm_up
from gpu.step import Step

_PROFILED_STEPS = 5
_SYNCS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "aten::_local_scalar_dense", "aten::item")


def run(step: Step) -> None:
    """The figures that matter most come first: a step that runs out of time has them."""
    tiny, cuda = step.setting.tiny, step.setting.cuda
    rows: list[dict[str, Any]] = []
    for variant in _variants(tiny, cuda):
        with step.part(f"throughput of {variant}"):
            if isinstance(variant, int):
                found: dict[str, Any] = Torchreid(step.setting, variant).rate(2 if tiny else 30, 1 if tiny else 5)
                row = {"engine": "torchreid", "batch": variant, "recipe": "osnet_basic", "overrides": ["fp32"], **found}
            else:
                trainer = our_trainer(step.setting, variant)
                found = rate(trainer, 2 if tiny else 60, 1 if tiny else 10, variant.batch)
                shown = {"engine": "watchme", "batch": variant.batch, "recipe": variant.recipe}
                row = {**shown, "overrides": list(variant.overrides), **found}
                del trainer
            rows.append(row)
            step.fact("rows", rows)
        if cuda:
            torch.cuda.empty_cache()
        if len(rows) == (2 if tiny else 4):
            with step.part("profile of osnet_basic"):
                _profile(step, "osnet_basic")
    with step.part("profile of reid_modern"):
        _profile(step, "reid_modern")
    rates = {row["engine"]: row["images_per_s"] for row in reversed(rows)}
    step.check("both engines train", set(rates) == {"watchme", "torchreid"}, rates)


def _variants(tiny: bool, cuda: bool) -> list[int | Variant]:
    """A number is torchreid's batch."""
    if tiny:
        return [8, Variant(8), Variant(8, ("train.channels_last=false",))]
    bf16, graphs = "train.precision=bf16", "train.compile=cudagraphs"
    on_gpu = [
        Variant(64, (bf16, graphs)),
        Variant(64, (graphs,), "reid_modern"),
        Variant(256, (bf16, graphs)),
    ]
    shown = [Variant(64, (bf16,)), Variant(64, ("train.precision=fp32",))]
    # `deterministic=auto` is false on a GPU.
    more = [Variant(64, recipe="reid_modern"), Variant(64, (bf16, "train.deterministic=true"))]
    return [64, *(on_gpu if cuda else []), *shown, *(more if cuda else [])]


def _profile(step: Step, recipe: str) -> None:
    """Kernels, launches, synchronisations and the idle share of a few steps."""
    cuda = step.setting.cuda
    variant = Variant(8 if step.setting.tiny else 64, ("train.precision=bf16",) if cuda else (), recipe)
    trainer: Any = our_trainer(step.setting, variant)
    batches = trainer.loader.batches
    warm_up(trainer, 1 if not cuda else 5)
    use(trainer, batches, _PROFILED_STEPS)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiler:
        trainer.train_epoch(1)
        synchronize()
    events = profiler.events() or []
    found: dict[str, Any] = {name: sum(event.name == name for event in events) / _PROFILED_STEPS for name in _SYNCS}
    found["operators"] = sum(event.name.startswith("aten::") for event in events) / _PROFILED_STEPS
    kernels = [event for event in events if event.device_type == DeviceType.CUDA and _is_kernel(event.name)]
    if kernels:
        busy = sum(event.time_range.elapsed_us() for event in kernels)
        span = max(event.time_range.end for event in kernels) - min(event.time_range.start for event in kernels)
        found["kernels"] = len(kernels) / _PROFILED_STEPS
        found["gpu_ms"] = round(busy / 1000 / _PROFILED_STEPS, 3)
        found["idle_share"] = round(1 - busy / span, 3)
    step.fact(f"profile_{recipe}", found)
    sort = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=sort, row_limit=25, max_name_column_width=80)
    with (step.setting.out / "profile.txt").open("a") as file:
        file.write(f"\n{recipe}, batch {variant.batch}, {_PROFILED_STEPS} steps\n{table}\n")


def _is_kernel(name: str) -> bool:
    """Annotations of the profiler stand among the device's events."""
    return not name.startswith(("ProfilerStep", "Optimizer.", "## ", "gpu_user_annotation", "nccl:"))
