"""The guide's search by our sweeper and by Ray Tune's ASHA and Optuna search, over the same curves.

Ray is needed here alone: `uv venv /tmp/ray && VIRTUAL_ENV=/tmp/ray uv pip install 'ray[tune]' optuna`, then
`WATCHME_RAY_PYTHON=/tmp/ray/bin/python uv run pytest tests/benchmarks/test_against_ray.py -m benchmark -s`.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweep.conftest import project, trials_of  # noqa: F401  (a fixture)

_TRIALS, _SLOTS, _EPOCHS, _EPOCH_S = 40, 2, 20, 0.05
_SEEDS = (0, 1)
_RAY = """
import json, math, random, sys, time
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

trials, slots, epochs, seed = (int(sys.argv[place]) for place in (1, 2, 3, 5))
epoch_s, folder = float(sys.argv[4]), sys.argv[6]

def train(config):
    lr, batch = config["lr"], config["batch_size"]
    noise = random.Random(f"{lr}{batch}0").random()
    height = 0.9 * math.exp(-0.5 * math.log10(lr / 0.01) ** 2) - 0.0005 * batch + 0.01 * noise
    for epoch in range(1, epochs + 1):
        time.sleep(epoch_s)
        tune.report({"map": height * (1 - math.exp(-epoch / (0.2 * epochs + 1)))})

ray.init(num_cpus=slots, include_dashboard=False, logging_level="ERROR")
found = tune.Tuner(
    train,
    param_space={
        "lr": tune.loguniform(1e-4, 1e-1),
        "batch_size": tune.choice([16, 32, 64]),
        "optimizer": tune.choice(["sgd", "adam", "adamw"]),
        "weight_decay": tune.uniform(1e-4, 1e-3),
        "momentum": tune.uniform(0.8, 0.95),
    },
    tune_config=tune.TuneConfig(
        metric="map", mode="max", num_samples=trials, max_concurrent_trials=slots,
        search_alg=OptunaSearch(seed=seed), scheduler=ASHAScheduler(max_t=epochs, grace_period=1, reduction_factor=4),
    ),
    run_config=tune.RunConfig(storage_path=folder, verbose=0),
).fit()
best = max(max(one.metrics_dataframe["map"]) for one in found)
steps = sum(len(one.metrics_dataframe) for one in found)
print("RESULT", json.dumps({"best": best, "trials": len(found), "epochs": steps}))
"""


def _ray_python() -> str:
    python = os.environ.get("WATCHME_RAY_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import ray.tune, optuna"], capture_output=True).returncode:
        pytest.skip("no Ray; see the head of this file")
    return python


@pytest.mark.benchmark
def test_no_slower_and_no_worse_than_ray(project: Path, tmp_path: Path) -> None:  # noqa: F811
    python = _ray_python()
    rows: dict[str, list[tuple[float, float, int]]] = {"watchme": [], "ray": []}
    for seed in _SEEDS:
        began = time.perf_counter()
        folder = tmp_path / f"ours{seed}"
        subprocess.run(
            [
                *(
                    sys.executable,
                    "train.py",
                    "-m",
                    "model=standin",
                    "sweeper=standin_tune",
                    f"hydra.sweep.dir={folder}",
                ),
                *(f"train.epochs={_EPOCHS}", f"model.epoch_s={_EPOCH_S}", f"hydra.sweeper.n_trials={_TRIALS}"),
                *(f"hydra.sweeper.n_jobs={_SLOTS}", f"hydra.sweeper.seed={seed}", "hydra.sweeper.report=false"),
            ],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(project)},
            check=True,
            capture_output=True,
        )
        wall = time.perf_counter() - began
        trials = trials_of(folder)
        assert len(trials) == _TRIALS
        best = max(max(trial.intermediate_values.values()) for trial in trials)
        rows["watchme"].append((wall, best, sum(len(trial.intermediate_values) for trial in trials)))

        began = time.perf_counter()
        done = subprocess.run(
            [
                *(python, "-c", _RAY, str(_TRIALS), str(_SLOTS), str(_EPOCHS), str(_EPOCH_S), str(seed)),
                str(tmp_path / f"ray{seed}"),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        wall = time.perf_counter() - began
        result = json.loads(done.stdout.rsplit("RESULT", 1)[1])
        assert result["trials"] == _TRIALS
        rows["ray"].append((wall, result["best"], result["epochs"]))
    print()
    for name, found in rows.items():
        print(
            f"{name:<8}",
            "  ".join(f"wall {wall:5.1f} s, best {best:.4f}, {epochs} epochs" for wall, best, epochs in found),
        )
    ours, theirs = (sum(row[0] for row in rows[name]) for name in ("watchme", "ray"))
    print(f"wall, watchme / ray: {ours / theirs:.2f}")
    assert ours <= theirs
    best_ours, best_theirs = (sum(row[1] for row in rows[name]) / len(_SEEDS) for name in ("watchme", "ray"))
    assert best_ours >= best_theirs - 0.01  # the curves' own noise
