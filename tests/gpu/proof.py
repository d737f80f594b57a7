"""What watchme does on one GPU, proved in one command: correctness, resume, speed, hangs, memory.

On your own machine (about eight minutes on an H100 with 16 cores):

    python tests/gpu/proof.py --out proof                     # everything, on the built-in demo world
    python tests/gpu/proof.py --out proof --data <folder>     # a folder with market1501_mini, coco128_person, weights
    python tests/gpu/proof.py --out proof --steps throughput  # one step alone
    python tests/gpu/proof.py --out proof --tiny              # smallest sizes; without a GPU, its steps say "no GPU"

`<out>/result.json` is written after each step, `<out>/summary.txt` at the end. Each step is a process with its own time
limit, in the order of risk; one that fails or hangs does not stop the next. A check that does not hold is a fault of
the project; its status, and that of a step that fails, make the exit status 1.
"""

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gpu.setting import PROJECT, Setting
from gpu.step import Step, file_of
from gpu.summary import render

# Steps with their limits in seconds, what matters most first. Those of one group share the machine where it has the
# cores: they prove behaviour. A group of one step measures speed, or must come first; `compile` compiles beside the
# others, and measures once they have ended.
GROUPS: tuple[dict[str, float], ...] = (
    {"environment": 60},
    {"throughput": 130},
    {"correctness": 90, "processes": 100, "resume": 100, "inference": 150, "compile": 155},
    {"yolo": 85, "sweep": 85, "memory": 110},
    {"ranking": 25},
    {"loader": 60},
)
STEPS = {name: limit for group in GROUPS for name, limit in group.items()}
NEED_GPU = frozenset({"compile", "sweep", "memory"})
_CORES_TO_SHARE = 8
# A CPU of two cores needs its time.
_TINY_LIMIT_S = 900.0


def main() -> int:
    """Run the steps that were asked for; the exit status is 1 where one failed or a check does not hold."""
    options = _options()
    if options.step:
        return _run_step(options.step, Setting.load(options.setting))
    out = options.out.resolve()
    work = (options.work or Path(tempfile.mkdtemp(prefix="proof-"))).resolve()
    for folder in (out, work / "steps", work / "log", work / "runs"):
        folder.mkdir(parents=True, exist_ok=True)
    cuda = _has_cuda()
    setting = Setting(out, work, options.data and options.data.resolve(), options.tiny, cuda)
    wanted = options.steps.split(",") if options.steps else list(STEPS)
    if unknown := [name for name in wanted if name not in STEPS]:
        sys.exit(f"no such step: {', '.join(unknown)}; there are {', '.join(STEPS)}")
    deadline = time.monotonic() + options.minutes * 60
    results: dict[str, Any] = {}
    for group in GROUPS:
        names = [name for name in group if name in wanted]
        together = (os.cpu_count() or 1) >= _CORES_TO_SHARE
        for part in [names] if together else [[name] for name in names]:
            results |= _run_group(setting, part, deadline)
            _write(setting, results)
    text = render(results)
    (out / "summary.txt").write_text(text)
    print(text)
    good = all(
        result["status"] in ("done", "no GPU") and all(check["ok"] for check in result["checks"])
        for result in results.values()
    )
    return 0 if good else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("proof"), help="folder of result.json and summary.txt")
    parser.add_argument("--work", type=Path, help="folder of run folders and logs; default: a temporary one")
    parser.add_argument("--data", type=Path, help="folder with market1501_mini, coco128_person and weights")
    parser.add_argument("--steps", help=f"which, with commas between; default all: {','.join(STEPS)}")
    parser.add_argument("--minutes", type=float, default=30.0, help="no step starts, and each ends, by then")
    parser.add_argument("--tiny", action="store_true", help="smallest sizes, for a CPU and for CI")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--setting", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _has_cuda() -> bool:
    """Asked in another process: this one must stay free of CUDA."""
    code = "import torch, sys; sys.exit(0 if torch.cuda.is_available() else 3)"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _run_group(setting: Setting, names: list[str], deadline: float) -> dict[str, Any]:
    """Run steps side by side; what they wrote, by name."""
    path = setting.save()
    started = time.monotonic()
    processes: dict[str, subprocess.Popen[bytes]] = {}
    for name in names:
        if time.monotonic() > deadline - 5 or (name in NEED_GPU and not setting.cuda):
            continue
        command = [sys.executable, str(Path(__file__).resolve()), "--step", name, "--setting", str(path)]
        with (setting.work / "log" / f"step-{name}.txt").open("w") as log:
            processes[name] = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=setting.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    ends = {}
    # The shortest limit first: a step that waits for the others would else have to wait for its own end, too.
    for name, process in sorted(processes.items(), key=lambda each: STEPS[each[0]]):
        limit = _TINY_LIMIT_S if setting.tiny else STEPS[name]
        ends[name] = _wait(process, min(started + limit, deadline))
    results = {}
    for name in names:
        status = "no GPU" if name in NEED_GPU and not setting.cuda else "not started"
        found = {"status": status, "seconds": 0.0, "facts": {}, "checks": []}
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(file_of(setting, name).read_text())
        if name in ends and found["status"] in ("running", "not started"):
            found["status"] = "out of time" if ends[name] is None else "failed"
        results[name] = found
        print(f"{name:14s} {found['status']:12s} {found['seconds']:6.1f} s", flush=True)
    return results


def _wait(process: "subprocess.Popen[bytes]", deadline: float) -> int | None:
    """The status of a step's process; None where it had to be killed with all that it started."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(max(0.1, deadline - time.monotonic()))
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return None


def _write(setting: Setting, results: dict[str, Any]) -> None:
    temporary = setting.out / "result.tmp"
    temporary.write_text(json.dumps(results, indent=1))
    temporary.replace(setting.out / "result.json")


def _run_step(name: str, setting: Setting) -> int:
    """In the step's own process."""
    step = Step(name, setting)
    try:
        importlib.import_module(f"gpu.steps.{name}").run(step)
    except BaseException:
        step.save("failed")
        raise
    step.save("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
