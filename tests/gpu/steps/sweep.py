"""Two trials at a time on one GPU, and one that runs out of memory, in worker processes and in this one."""

import csv
from functools import partial

from gpu.commands import Command
from gpu.step import Step
from gpu.steps.processes import injected

_LIMIT_S = 80.0
_SMALL = ("dataset.height=128", "dataset.width=64", "train.epochs=1", "train.workers=0", "hydra.sweeper.report=false")


def run(step: Step) -> None:
    """Each case is a sweep."""
    step.cases(partial(_two_slots, step), partial(_out_of_memory, step, 2), partial(_out_of_memory, step, 1))


def _two_slots(step: Step) -> None:
    options = step.setting.reid(*_SMALL, "train.device=cuda", "optimizer.lr=0.0001,0.0002,0.0004,0.0008")
    command = Command(step.setting, "sweep-slots", ["-m", *options, "hydra.sweeper.n_jobs=2"])
    status = command.wait(_LIMIT_S)
    rows = _leaderboard(command)
    step.fact("two slots", {"status": status, "seconds": round(command.seconds, 1), "trials": len(rows)})
    step.check("4 trials in two slots on one GPU finish", status == 0 and len(rows) == 4, command.output(300))


def _out_of_memory(step: Step, jobs: int) -> None:
    """One batch of the whole training set does not fit 2.4 GB; the trial after it must not suffer."""
    name = f"out of memory, n_jobs={jobs}"
    more = ["model.name=osnet_x1_0", "model.weights=null", "loss=softmax", "train.sampler=random", "train.device=cuda"]
    swept = ["train.batch_size=8192,32,16", "dataset.height=256", "dataset.width=128"]
    options = step.setting.reid(*_SMALL, *more, *swept, weights=False)
    environment = {"PYTHONPATH": injected(), "PROOF_MEMORY_FRACTION": "0.03"}
    options += ["-m", f"hydra.sweeper.n_jobs={jobs}"]
    command = Command(step.setting, f"sweep-memory-{jobs}", options, environment)
    status = command.wait(_LIMIT_S)
    texts = [path.read_text(errors="replace") for path in sorted(command.folder.glob("*/train.log"))]
    finished = [path for path in command.folder.glob("*/run.json") if '"status": "finished"' in path.read_text()]
    rows = _leaderboard(command)
    said = [text for text in (*texts, command.output(20_000)) if "out of memory" in text and "train.batch_size" in text]
    step.fact(name, {"status": status, "seconds": round(command.seconds, 1), "finished": len(finished), "rows": rows})
    step.check(f"{name}: the other trials finish", len(finished) == 2, [len(finished), command.output(400)])
    step.check(f"{name}: the message names train.batch_size", bool(said), len(said))


def _leaderboard(command: Command) -> list[dict[str, str]]:
    path = command.folder / "leaderboard.csv"
    return list(csv.DictReader(path.open())) if path.is_file() else []
