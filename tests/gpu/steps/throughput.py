"""Images a second of a training step by precision, memory layout, determinism and batch, and torchreid's."""

from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gpu.bench import Torchreid, Variant, our_loop, rate, synchronize, use
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
                found: dict[str, Any] = Torchreid(step.setting, variant).rate(2 if tiny else 40, 1 if tiny else 10)
                row = {"engine": "torchreid", "batch": variant, "recipe": "osnet_basic", "overrides": ["fp32"], **found}
            else:
                loop = our_loop(step.setting, variant)
                found = rate(loop, 2 if tiny else 40, 1 if tiny else 10, variant.batch)
                shown = {"engine": "watchme", "batch": variant.batch, "recipe": variant.recipe}
                row = {**shown, "overrides": list(variant.overrides), **found}
                del loop
            rows.append(row)
            step.fact("rows", rows)
        if cuda:
            torch.cuda.empty_cache()
        if len(rows) == (2 if tiny else 5):
            for recipe in ("osnet_basic", "reid_modern"):
                with step.part(f"profile of {recipe}"):
                    _profile(step, recipe)
    rates = {row["engine"]: row["images_per_s"] for row in reversed(rows)}
    step.check("both engines train", set(rates) == {"watchme", "torchreid"}, rates)


def _variants(tiny: bool, cuda: bool) -> list[int | Variant]:
    """A number is torchreid's batch."""
    if tiny:
        return [8, Variant(8), Variant(8, ("train.channels_last=false",))]
    first: list[int | Variant] = [
        64,
        Variant(64, ("train.precision=bf16",)),
        Variant(64, ("train.precision=fp32",)),
        Variant(32),
        32,
        Variant(64, ("train.precision=bf16", "train.ema_decay=0.999")),
        Variant(64, recipe="reid_modern"),
    ]
    grid = [
        Variant(64, (f"train.precision={precision}", f"train.channels_last={last}", f"train.deterministic={same}"))
        for precision in ("bf16", "fp32")
        for last in ("true", "false")
        for same in ("true", "false")
    ]
    sizes = [
        Variant(batch, (f"train.precision={precision}", "train.deterministic=false"))
        for batch in (32, 128, 256)
        for precision in ("bf16", "fp32")
    ]
    others: list[int | Variant] = [
        Variant(64, ("train.precision=bf16", "model.name=osnet_ibn_x1_0")),
        128,
        Variant(64, ("train.precision=fp16",)),
    ]
    return [*first, *grid, *sizes, *others] if cuda else first


def _profile(step: Step, recipe: str) -> None:
    """Kernels, launches, synchronisations and the idle share of a few steps."""
    cuda = step.setting.cuda
    variant = Variant(8 if step.setting.tiny else 64, ("train.precision=bf16",) if cuda else (), recipe)
    loop: Any = our_loop(step.setting, variant)
    batches = loop.loader.batches
    rate(loop, 1 if not cuda else 5, 1 if not cuda else 5, variant.batch)
    use(loop, batches, _PROFILED_STEPS)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiler:
        loop.train_epoch(1)
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
