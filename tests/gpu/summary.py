"""The proof's last page: what held, ratios against torchreid, the roofline, mAP differences, hangs survived."""

from collections.abc import Iterator
from typing import Any

# Bytes that a training step of osnet_x1_0 at 256x128 moves an image, unfused: each operator reads its inputs and writes
# its outputs once, forward and backward. Counted from the operators' tensors; a fused step moves less.
_BYTES = {"bf16": 359e6, "fp16": 359e6, "fp32": 699e6}


def render(results: dict[str, Any]) -> str:
    """Text of a proof's results."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: dict[str, Any]) -> Iterator[str]:
    facts = {name: result["facts"] for name, result in results.items()}
    environment = facts.get("environment", {})
    yield f"watchme on {environment.get('device', 'an unknown device')}, torch {_torch(environment)}"
    if "copy_tb_s" in environment:
        yield f"ceilings: copy {environment['copy_tb_s']} TB/s, bf16 product {environment['bf16_tflop_s']} TFLOP/s"
    yield ""
    for name, result in results.items():
        held = sum(check["ok"] for check in result["checks"])
        count = len(result["checks"])
        yield f"{name:14s} {result['status']:12s} {held:3d} of {count:3d} hold  {result['seconds']:6.1f} s"
    failed = [(name, check) for name, result in results.items() for check in result["checks"] if not check["ok"]]
    if failed:
        yield "\nDoes not hold:"
        for name, check in failed:
            yield f"  {name}: {check['name']}: {str(check['found'])[-300:]!r}"
    rows = [row for name in ("throughput", "compile") for row in facts.get(name, {}).get("rows", [])]
    if rows:
        yield "\nTraining steps, osnet_x1_0 at 256x128 on a GPU; loading left out"
        yield from _table(rows, environment.get("copy_tb_s"))
    for name, values in facts.get("throughput", {}).items():
        if name.startswith("profile_"):
            yield f"a step of {name.removeprefix('profile_')}: {_values(values)}"
    yield from _more(facts)


def _torch(environment: dict[str, Any]) -> str:
    return str(environment.get("packages", {}).get("torch", "?"))


def _table(rows: list[dict[str, Any]], bandwidth: float | None) -> Iterator[str]:
    theirs = {row["batch"]: row["images_per_s"] for row in rows if row["engine"] == "torchreid"}
    yield f"{'images/s':>10} {'ratio':>6} {'roof':>5} {'ms':>8} {'GB':>6}  what"
    for row in rows:
        rival = theirs.get(row["batch"])
        ratio = f"{row['images_per_s'] / rival:.2f}" if rival and row["engine"] == "watchme" else ""
        options = [each.removeprefix("train.") for each in row["overrides"]]
        what = " ".join([row["engine"], row["recipe"], f"batch={row['batch']}", *options])
        share = ""
        if bandwidth:
            precision = next((name for name in ("fp32", "fp16") if any(name in each for each in options)), "bf16")
            share = f"{row['images_per_s'] * _BYTES[precision] / (bandwidth * 1e12):.2f}"
        measured = f"{row['step_ms']:8.2f} {row.get('peak_gb', 0):6.2f}"
        yield f"{row['images_per_s']:10.0f} {ratio:>6} {share:>5} {measured}  {what}"
    yield "ratio: to torchreid's engine at that batch in fp32; roof: share of the unfused step's memory bandwidth"


def _more(facts: dict[str, dict[str, Any]]) -> Iterator[str]:
    loader = facts.get("loader", {})
    if "images_per_s" in loader:
        yield "\nInput pipeline, images/s: " + _values(loader["images_per_s"])
    for name, values in loader.get("epoch", {}).items():
        yield f"an epoch with {name}: {_values(values)}"
    for name, values in facts.get("ranking", {}).items():
        if isinstance(values, dict):
            yield f"{name}, 3,368 x 15,913 on a GPU: {_values(values)}"
    correctness = facts.get("correctness", {})
    differences = {key: value for key, value in correctness.items() if key.startswith("map_difference")}
    if differences:
        yield "\nmAP, CPU against this device: " + _values(differences)
    ended = {
        name: f"{values['seconds']} s" + ("" if values["status"] is not None else ", killed by the proof")
        for name, values in facts.get("processes", {}).items()
        if isinstance(values, dict) and "seconds" in values
    }
    if ended:
        yield "Ended after: " + _values(ended)


def _values(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
    )
