"""Runs that are online: what arrives at a W&B server on 127.0.0.1, compared with metrics.jsonl."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tracking.made_up import Tracked, make_config, make_trial
from tracking.wandb_server import ENTITY, ServedRun, WandbServer, wandb_server
from watchme.core.interfaces import Result
from watchme.tracking.wandb_view import view_name

KEY = "0" * 40
PROJECT = "people"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServer]:
    """One server for the runs of this module, and the environment that leads to it; nothing went wrong in it."""
    with wandb_server() as served, pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        values = {"WANDB_BASE_URL": served.url, "WANDB_API_KEY": KEY, "HOME": str(home)}
        for name, value in values.items():
            patch.setenv(name, value)
        served.projects.add(PROJECT)
        served.views["view"] = {
            **{"id": "view", "name": view_name(ENTITY, PROJECT), "type": "project-view", "projectName": PROJECT}
        }
        yield served
        assert not served.errors, served.errors[0]


def online(**tracker: object) -> dict[str, object]:
    return {"wandb": True, "mode": "online", "project": PROJECT, **tracker}


def run_of(server: WandbServer, run: Tracked) -> ServedRun:
    manifest = json.loads((run.folder / "run.json").read_text())
    assert manifest["wandb"]["mode"] == "online"
    return server.runs[manifest["wandb"]["id"]]


def assert_equal_to_metrics_jsonl(served: ServedRun, run: Tracked) -> None:
    """Each epoch arrived once, with the numbers of its line, and no row's number twice."""
    lines = run.lines()
    rows = [row for row in served.history if "train/loss" in row]
    assert [row["epoch"] for row in rows] == [line["epoch"] for line in lines]
    for line, row in zip(lines, rows, strict=True):
        expected = {name: value for name, value in line.items() if "/" in name and value is not None}
        assert {name: row.get(name) for name in expected} == pytest.approx(expected)
    numbers = [row["_step"] for row in served.history]
    assert numbers == sorted(set(numbers))


@pytest.fixture(scope="module")
def trained(server: WandbServer, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """A whole run."""
    folder = tmp_path_factory.mktemp("online") / "run"
    alerts = ["failed", "finished", "worse", "undefined"]
    run = Tracked.begin(folder, make_config(**online(alerts=alerts, group="night", tags=["mine"])))
    (folder / "train.log").write_text("first line\nsecond line\n")
    run.epochs()
    run.end("finished", run.result())
    return run


def test_a_run_arrives_once_with_all_its_numbers(server: WandbServer, trained: Tracked) -> None:
    served = run_of(server, trained)
    assert_equal_to_metrics_jsonl(served, trained)
    assert [row["step"] for row in served.history if "step/loss" in row] == list(range(5, 51, 5))
    assert served.exit_codes == [0]
    assert served.last("groupName") == "night"
    assert served.last("jobType") == "train"
    assert "mine" in served.last("tags")
    assert served.summary["best"] == {"val/map50": 0.57}
    assert served.summary["test/map50"] == 0.5
    assert served.summary["status"] == "finished"
    assert served.config["optimizer"]["value"]["lr"] == 0.001


def test_its_log_code_and_packages_arrive(server: WandbServer, trained: Tracked) -> None:
    served = run_of(server, trained)
    assert "first line" in served.output
    assert "second line" in served.output
    assert b"wandb==" in served.files["requirements.txt"]
    assert served.last("commit") == served.config["git"]["value"]["commit"]
    assert json.loads(served.files["run.json"])["status"] == "finished"


def test_it_links_to_the_saved_workspace(server: WandbServer, trained: Tracked) -> None:
    name = view_name(ENTITY, PROJECT).removeprefix("nw-").removesuffix("-v")
    url = f"{server.url}/{ENTITY}/{PROJECT}?nw={name}"
    assert run_of(server, trained).summary["dashboard"] == url
    assert json.loads((trained.folder / "run.json").read_text())["wandb"]["dashboard"] == url


def test_alerts_that_were_asked_for_are_sent_once(server: WandbServer, trained: Tracked) -> None:
    name = run_of(server, trained).name
    sent = [(alert["title"], alert["severity"]) for alert in server.alerts if alert["runName"] == name]
    assert sent == [("run: val/map50 is NaN", "WARN"), ("run finished", "INFO")]


def test_dataset_and_weights_are_artifacts(server: WandbServer, trained: Tracked) -> None:
    served = run_of(server, trained)
    (dataset,) = (artifact for artifact in server.artifacts if artifact["type"] == "dataset")
    assert json.loads(dataset["metadata"])["fingerprint"] == "sha256:abc"
    assert (served.name, dataset["id"]) in server.used
    models = [artifact for artifact in server.artifacts if artifact["name"] == f"weights-{served.name}"]
    assert {alias for artifact in models for alias in artifact["aliases"]} == {"best", "last", "latest"}
    (best,) = (artifact for artifact in models if "best" in artifact["aliases"])
    assert best["state"] == "COMMITTED"
    assert server.uploads[f"{best['id']}/best.pt"] == (trained.folder / "weights" / "best.pt").read_bytes()


def test_an_evaluation_uses_the_trainings_weights(server: WandbServer, trained: Tracked, tmp_path: Path) -> None:
    weights = trained.folder / "weights" / "best.pt"
    config = replace(make_config(**online()), mode="evaluate", checkpoint=str(weights))
    run = Tracked.begin(tmp_path / "evaluation", config)
    run.end("finished", Result({"test/map50": 0.5}, 0.5))
    served, training = run_of(server, run), run_of(server, trained)
    (best,) = (at for at in server.artifacts if at["name"] == f"weights-{training.name}" and "best" in at["aliases"])
    assert (served.name, best["id"]) in server.used
    (uses,) = served.config["uses"]["value"]
    assert (uses["run"], uses["artifact"]) == (training.name, f"weights-{training.name}:best")
    assert not [at for at in server.artifacts if at["name"] == f"weights-{served.name}"], "it made no weights"
    assert "optimizer" not in served.config


def test_a_resumed_run_is_one_run_without_an_epoch_or_a_step_twice(server: WandbServer, tmp_path: Path) -> None:
    before = set(server.runs)
    config = make_config(**online())
    first = Tracked.begin(tmp_path / "run", config)
    first.epochs(1, 3, pictures=False)
    first.epochs(4, 4, pictures=False, saved=False)
    first.end("interrupted")
    second = Tracked.begin(first.folder, replace(config, train=replace(config.train, resume=str(first.folder))))
    second.session.resumed(3)
    second.epochs(4, 5, pictures=False)
    second.end("finished", second.result())
    served = run_of(server, second)
    assert set(server.runs) - before == {served.name}
    assert_equal_to_metrics_jsonl(served, second)
    assert [row["step"] for row in served.history if "step/loss" in row] == list(range(5, 51, 5))
    assert served.exit_codes == [255, 0]
    last = next(at["id"] for at in server.artifacts if at["name"] == f"weights-{served.name}")
    assert (served.name, last) in server.used, "what it was resumed from"


def test_trials_of_a_sweep_share_group_and_artifact_and_the_best_has_an_alias(
    server: WandbServer, tmp_path: Path
) -> None:
    runs = []
    for number, value in enumerate((0.4, 0.6, 0.5)):
        trial = make_trial(tmp_path / "study.db", "tune", number)
        run = Tracked.begin(tmp_path / "sweep" / str(number), replace(make_config(**online()), trial=trial))
        run.epochs(1, 1, pictures=False)
        result = replace(run.result(), objective=value)
        (run.folder / "weights" / "best.pt").write_bytes(b"weights %d" % number)
        run.end("finished", result)
        runs.append(run_of(server, run))
    assert len({served.name for served in runs}) == 3
    assert {served.last("groupName") for served in runs} == {"tune"}
    assert [served.config["trial"]["value"]["number"] for served in runs] == [0, 1, 2]
    found = {alias: at for at in server.artifacts if at["name"] == "weights-tune" for alias in at["aliases"]}
    assert {f"trial{number}-best" for number in range(3)} <= set(found)
    assert found["best"] is found["trial1-best"]


def test_a_failed_training_sends_its_alert_and_its_exit_code(server: WandbServer, tmp_path: Path) -> None:
    run = Tracked.begin(tmp_path / "broken", make_config(**online(alerts=["failed"])))
    run.epochs(1, 1, pictures=False)
    run.end("failed", None, ZeroDivisionError("division by zero"))
    served = run_of(server, run)
    assert served.exit_codes == [1]
    assert "failed" in served.last("tags")
    (sent,) = (alert for alert in server.alerts if alert["runName"] == served.name)
    assert sent["title"] == "broken failed"
    assert "division by zero" in sent["text"]


def test_what_is_switched_off_does_not_arrive(server: WandbServer, tmp_path: Path) -> None:
    off = {"code": False, "console": False, "weights": False, "dataset": "none", "alerts": []}
    run = Tracked.begin(tmp_path / "run", make_config(**online(**off)))
    (run.folder / "train.log").write_text("a line\n")
    run.epochs(1, 1, pictures=False)
    run.end("failed", None, ZeroDivisionError("division by zero"))
    served = run_of(server, run)
    assert "requirements.txt" not in served.files
    assert served.last("commit") is None
    assert "a line" not in served.output
    assert not [alert for alert in server.alerts if alert["runName"] == served.name]
    assert not [at for at in server.artifacts if served.name in at["name"]]


def test_an_offline_run_that_was_resumed_is_synced_without_an_epoch_twice(
    server: WandbServer, resumed_run: Tracked, tmp_path: Path
) -> None:
    """`wandb sync`, as the closing lines say."""
    folders = sorted((resumed_run.folder / "wandb").glob("offline-run-*"))
    program = Path(sys.executable).with_name("wandb")
    done = subprocess.run(
        [program, "sync", *folders], capture_output=True, text=True, timeout=100, env=os.environ, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    name = json.loads((resumed_run.folder / "run.json").read_text())["wandb"]["id"]
    served = server.runs[name]
    assert_equal_to_metrics_jsonl(served, resumed_run)
    assert served.exit_codes == [255, 0]
    assert not math.isnan(served.summary["best"]["val/map50"])
