"""What is left after a sweep: leaderboard, winner, pictures, page; and a live table while it runs."""

import csv
import io
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from sweep.conftest import Swept
from watchme.sweep.leaderboard import write_leaderboard
from watchme.sweep.progress import Progress, wants_table
from watchme.sweep.results import write_results
from watchme.sweep.sweep_page import _cards, _is_logarithmic, _plot_data, _unfinished

Sweep = Callable[..., Swept]
Train = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def tuned(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A search with pruned and failed trials, and momentum searched with SGD alone."""
    done = sweep(
        tmp_path_factory.mktemp("tuned") / "s",
        *("sweeper=standin_tune_conditional", "train.epochs=9", "hydra.sweeper.n_trials=20", "hydra.sweeper.seed=7"),
        *("model.fault=exception", "model.fault_above=0.03", "model.fault_epoch=1", "scheduler=cosine", "train.seed=3"),
        *("hydra.sweeper.points_to_evaluate=[{optimizer.lr: 0.01, optimizer: adamw}]",),
    )
    assert done.code == 0, done.stderr
    return done


def test_conditional_parameters_are_searched_only_where_they_mean_something(tuned: Swept) -> None:
    kinds = {trial.params["optimizer"] for trial in tuned.trials}
    assert len(kinds) > 1
    for trial in tuned.trials:
        assert ("optimizer.momentum" in trial.params) == (trial.params["optimizer"] == "sgd")


def test_points_to_evaluate_come_first(tuned: Swept) -> None:
    assert tuned.trials[0].params["optimizer.lr"] == 0.01
    assert tuned.trials[0].params["optimizer"] == "adamw"


def test_the_winner_can_be_trained_again(tuned: Swept, train: Train, tmp_path: Path) -> None:
    best = max((t for t in tuned.trials if t.state == TrialState.COMPLETE), key=lambda trial: trial.value)
    text = (tuned.folder / "experiment" / "best.yaml").read_text()
    assert text.startswith("# @package _global_\n")
    winner = yaml.safe_load((tuned.folder / str(best.number) / "config.yaml").read_text())
    done = train("--config-dir", str(tuned.folder), "experiment=best", f"hydra.run.dir={tmp_path / 'final'}")
    assert done.returncode == 0, done.stderr
    again = yaml.safe_load((tmp_path / "final" / "config.yaml").read_text())
    for config in (winner, again):
        config.pop("trial")
    assert again == winner
    summary = json.loads((tmp_path / "final" / "summary.json").read_text())
    assert summary["val/map"] == pytest.approx(best.value)
    longer = train("--config-dir", str(tuned.folder), "experiment=best", "train.epochs=2", "--cfg", "job")
    assert "epochs: 2" in longer.stdout


def test_the_page_is_one_file_that_links_to_the_trials(tuned: Swept) -> None:
    page = (tuned.folder / "report" / "index.html").read_text()
    data = json.loads(re.findall(r'id="study">(.*?)</script>', page, re.S)[0])
    assert [trial["number"] for trial in data["trials"]] == [trial.number for trial in tuned.trials]
    for shown, trial in zip(data["trials"], tuned.trials, strict=True):
        assert shown["params"] == trial.params
        assert dict(shown["curve"]) == trial.intermediate_values
        assert shown["values"] == (trial.values or [None]) or shown["state"] != "complete"
    assert "prove little" in page
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)
    links = re.findall(r'href="(\.\./\d+/report\.html)"', page)
    assert len(set(links)) >= 10
    assert all((tuned.folder / "report" / link).is_file() for link in links)
    assert "ZeroDivisionError" in page
    back = re.findall(r'href="(\.\./report/index\.html)"', (tuned.folder / "0" / "report.html").read_text())
    assert back, "a trial leads back to its sweep"
    assert "python train.py --config-dir" in page


def test_two_objectives_give_a_pareto_front(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(
        tmp_path / "s",
        *("optimizer.lr=tag(log,interval(0.0001,0.1))", "hydra.sweeper.objectives=[val/map,val/rank1]"),
        *("hydra.sweeper.sampler=nsgaii", "hydra.sweeper.n_trials=8", "hydra.sweeper.seed=1"),
    )
    assert done.code == 0, done.stderr
    assert all(len(trial.values) == 2 for trial in done.trials)
    page = (done.folder / "report" / "index.html").read_text()
    assert "on the Pareto front" in page
    drawn = json.loads(page.partition('id="study">')[2].partition("</script>")[0])
    assert drawn["objectives"] == ["val/map", "val/rank1"]
    undominated = [
        one.number
        for one in done.trials
        if not any(
            all(a >= b for a, b in zip(other.values, one.values, strict=True)) and other.values != one.values
            for other in done.trials
        )
    ]
    assert drawn["best"] == undominated
    assert (done.folder / "leaderboard.csv").read_text().startswith("rank,trial,state,val/map,val/rank1,")


def test_results_name_the_objective_that_was_measured(sweep: Sweep, tmp_path: Path) -> None:
    """Where nobody is seen by two cameras, val/map is measured as val_same_camera/map."""
    done = sweep(tmp_path / "s", "optimizer.lr=0.001,0.01", "model.one_camera=[0,1]")
    assert done.code == 0, done.stderr
    name = "val_same_camera/map"
    with (done.folder / "leaderboard.csv").open(newline="") as file:
        board = list(csv.DictReader(file))
    assert sorted(float(row[name]) for row in board) == sorted(trial.value for trial in done.trials)
    assert not re.search(r"(?<!\w)val/map", (done.folder / "report" / "index.html").read_text())
    assert json.loads((done.folder / "study.json").read_text())["objectives"] == [name]
    assert re.search(rf"^ +{name} +0\.\d{{4}}$", done.stdout, re.M)
    assert f": {name}=" in (done.folder / "experiment" / "best.yaml").read_text()
    again = sweep(tmp_path / "s", "optimizer.lr=0.001,0.01", "model.one_camera=[0,1]", "hydra.sweeper.console=table")
    assert again.code == 0, again.stderr
    assert re.search(rf"^trial +state +epoch +{name} ", again.stdout, re.M)


def test_what_is_measured_otherwise_is_not_ranked(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(tmp_path / "s", "optimizer.lr=0.001,0.01,0.1", "model.one_camera=[1]")
    assert done.code == 0, done.stderr
    assert [trial.state.name for trial in done.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "measured val_same_camera/map, where the study's trials measured val/map" in done.stdout
    assert (done.folder / "leaderboard.csv").read_text().startswith("rank,trial,state,val/map,epochs")


def made_up_trials() -> list[optuna.trial.FrozenTrial]:
    """A complete, a pruned, a failed and a running trial."""
    study = optuna.create_study(direction="maximize")
    space = {"optimizer.lr": FloatDistribution(0.001, 0.1)}
    for state, value in ((TrialState.COMPLETE, 0.5), (TrialState.PRUNED, None), (TrialState.FAIL, None)):
        curve = {1: 0.2, 2: value or 0.3}
        study.add_trial(
            create_trial(
                state=state, value=value, params={"optimizer.lr": 0.01}, distributions=space, intermediate_values=curve
            )
        )
    running = study.ask(space)
    running.report(0.25, 3)
    found: list[optuna.trial.FrozenTrial] = study.trials
    return found


def test_the_share_of_epochs_is_of_the_trials_that_are_done(tmp_path: Path) -> None:
    """Epochs of lost and of running trials made it more than 100%."""
    trials = made_up_trials()  # 2 epochs each but the running one's 3
    lost = create_trial(state=TrialState.FAIL, user_attrs={"lost": True}, intermediate_values={6: 0.1})
    plan: Any = SimpleNamespace(objectives=["val/map"], directions=["maximize"], n_trials=8, epochs=2, folder=tmp_path)
    cards = {name: (value, note) for name, value, note in _cards(plan, [*trials, lost], 3)}
    assert cards["epochs"] == ("15", "100% of 3 whole trials")


def test_a_value_that_is_not_finite_leaves_the_page_valid(tmp_path: Path) -> None:
    """JSON has no Infinity: a loss that reached it left the whole page without plots."""
    curve = {1: 0.5, 2: float("inf"), 3: 0.4}
    trial = create_trial(value=0.4, user_attrs={"folder": str(tmp_path / "0")}, intermediate_values=curve)
    plan: Any = SimpleNamespace(objectives=["val/cls_loss"], directions=["minimize"], folder=tmp_path)
    (drawn,) = _plot_data(plan, [trial], [], set())["trials"]
    assert drawn["curve"] == [[1, 0.5], [3, 0.4]]


def test_the_live_table_shows_state_epoch_objective_best_and_what_is_left() -> None:
    stream = io.StringIO()
    trials = made_up_trials()
    progress = Progress("Study s", ["val/map"], ["maximize"], 8, 9, lambda: trials, live=True, stream=stream)
    progress.ended(trials[0])
    shown = stream.getvalue()
    assert re.search(r"3 +running +3/9 +0\.2500 +lr=", shown)
    assert re.search(r"0 +complete +2/9 +0\.5000 +lr=0\.01", shown)
    assert "3 of 8 trials, 1 pruned, 1 failed, best 0.5000 of trial 0" in shown
    assert " left" in shown
    progress.draw()
    assert "\x1b[7F\x1b[J" in stream.getvalue(), "it is drawn over itself"


def test_settings_stand_as_they_are_typed(tmp_path: Path) -> None:
    """A choice that is null is no empty cell, which a trial without the parameter has."""
    space = {"model.cap": CategoricalDistribution([None, 8]), "model.flip": CategoricalDistribution([True, False])}
    trials = [
        create_trial(value=0.5, params={"model.cap": None, "model.flip": True}, distributions=space),
        create_trial(value=0.4, params={"model.cap": 8}, distributions={"model.cap": space["model.cap"]}),
    ]
    progress = Progress("Study s", ["val/map"], ["maximize"], 2, 1, lambda: trials, live=True, stream=io.StringIO())
    assert re.search(r"0\.5000 +cap=null flip=true$", "\n".join(progress.lines(trials)), re.M)
    write_leaderboard(tmp_path / "board.csv", trials, ["val/map"], ["maximize"])
    with (tmp_path / "board.csv").open(newline="") as file:
        rows = [(row["model.cap"], row["model.flip"]) for row in csv.DictReader(file)]
    assert rows == [("null", "true"), ("8", "")]


def test_without_a_terminal_each_event_is_a_line() -> None:
    stream = io.StringIO()
    trials = made_up_trials()
    progress = Progress("Study s", ["val/map"], ["maximize"], 8, 9, lambda: trials, live=False, stream=stream)
    progress.started(3, ["optimizer.lr=0.1"])
    progress.draw()
    progress.ended(trials[0])
    assert stream.getvalue().splitlines()[0] == "trial 3: optimizer.lr=0.1"
    assert stream.getvalue().splitlines()[1].startswith("trial 0 complete 0.5000 | 3 of 8 trials")
    assert "\x1b" not in stream.getvalue()
    assert not wants_table("auto", stream)


def test_without_a_terminal_a_long_trial_is_no_silence_and_the_time_left_counts_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("watchme.sweep.progress.time.monotonic", lambda: clock[0])
    stream, trials = io.StringIO(), made_up_trials()
    progress = Progress("Study s", ["val/map"], ["maximize"], 8, 9, lambda: trials, live=False, stream=stream)
    clock[0] = 60.0
    progress.ended(trials[0])
    for second in range(62, 162, 2):
        clock[0] = float(second)
        progress.draw()
    first, *later = stream.getvalue().splitlines()
    assert first.endswith(", 5 min 0 s left")
    summary = "trial 3 at epoch 3/9 | 3 of 8 trials, 1 pruned, 1 failed, best 0.5000 of trial 0"
    assert later == [f"{summary}, {left} left" for left in ("4 min 30 s", "4 min 0 s", "3 min 30 s")]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("a fault")])
def test_a_page_that_cannot_be_written_ends_no_sweep(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk is said in a line; a fault of ours comes with its traceback."""
    monkeypatch.setattr("watchme.sweep.sweep_page.write_page", Mock(side_effect=error))
    monkeypatch.setattr("watchme.sweep.results.replace", lambda plan, **changes: plan)
    settings = SimpleNamespace(report=True)
    plan: Any = SimpleNamespace(
        folder=tmp_path, study_name="s", storage="", objectives=["val/map"], directions=["maximize"], settings=settings
    )
    study: Any = SimpleNamespace(get_trials=lambda deepcopy: [t for t in made_up_trials() if t.values is None])
    write_results(plan, study)
    assert (tmp_path / "leaderboard.csv").is_file()
    (record,) = (each for each in caplog.records if each.name == "watchme.sweep.results")
    assert record.getMessage().endswith("leaderboard.csv and the study hold every trial.")
    assert (record.exc_info is None) == isinstance(error, OSError)


@pytest.mark.slow
def test_baseline_tune_final(sweep: Sweep, train: Train, tmp_path: Path) -> None:
    """The documented sequence: what is trained last is the best trial, for longer; the search again does nothing."""
    base = train("model=standin", f"hydra.run.dir={tmp_path}/baseline", "train.epochs=9")
    assert base.returncode == 0, base.stderr
    tune = ("sweeper=standin_tune", "hydra.sweeper.n_trials=5", "hydra.sweeper.seed=0", "train.epochs=9")
    first = sweep(tmp_path / "tune", *tune)
    assert first.code == 0, first.stderr
    trials = first.trials
    assert len(trials) == 5
    again = sweep(tmp_path / "tune", *tune)
    assert again.code == 0, again.stderr
    assert [trial.datetime_complete for trial in again.trials] == [trial.datetime_complete for trial in trials]
    final = train(
        "--config-dir", f"{tmp_path}/tune", "experiment=best", "train.epochs=20", f"hydra.run.dir={tmp_path}/final"
    )
    assert final.returncode == 0, final.stderr
    best = max((trial for trial in trials if trial.state is TrialState.COMPLETE), key=lambda trial: trial.values[0])
    of_best, of_final = (
        yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in (f"tune/{best.number}", "final")
    )
    for section in ("optimizer", "model", "dataset"):
        assert of_final[section] == of_best[section]
    assert of_final["train"] == of_best["train"] | {"epochs": 20}
    values = [json.loads((tmp_path / name / "summary.json").read_text())["val/map"] for name in ("baseline", "final")]
    assert values[1] > best.values[0]
    assert values[1] >= values[0] - 0.05


def test_a_sweep_that_was_left_before_its_last_trial_is_interrupted_unless_others_work_on_it() -> None:
    done, queued, running = (
        create_trial(state=state, value=value)
        for state, value in ((TrialState.COMPLETE, 0.5), (TrialState.WAITING, None), (TrialState.RUNNING, None))
    )
    assert _unfinished([done, queued]) == "interrupted"
    assert _unfinished([done, running]) == "running"


def test_choices_that_are_magnitudes_apart_are_drawn_over_their_logarithm() -> None:
    assert _is_logarithmic(CategoricalDistribution([0.0003, 0.003, 0.03]))
    assert _is_logarithmic(FloatDistribution(0.1, 1.0, log=True))
    for linear in ([16, 32, 64], [0, 1, 1000], ["sgd", 1000, 1], [-1.0, 100.0]):
        assert not _is_logarithmic(CategoricalDistribution(linear))
