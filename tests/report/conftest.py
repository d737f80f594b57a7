"""Folders of runs, written by driving the package's own callbacks; a page of each kind; and a browser."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from report.chromium import NAMES, Chromium, find_program
from report.matches import made
from tracking.made_up import Tracked, make_config, make_trial
from watchme.core.interfaces import EpochEvent, Picture, Result, Table
from watchme.core.metric_names import measured_objective
from watchme.inference.match_results import write_found
from watchme.report.index_page import write_index
from watchme.report.matches_page import write_matches_page
from watchme.report.rendering import render_page
from watchme.report.run_page import render
from watchme.report.run_reader import read_run
from watchme.sweep.parameter_advice import Advice

OVERRIDES = ["optimizer=adamw", "optimizer.lr=0.001"]


def add_evaluation(root: Path, name: str, weights: Path) -> Tracked:
    """An evaluation of weights on the test split."""
    config = replace(make_config(), mode="evaluate", checkpoint=str(weights))
    run = Tracked.begin(root / name, config)
    result = Result({"test/map50": 0.9, "test/f1": 0.8}, 0.9)
    objective = measured_objective("evaluate", config.objective, result.metrics)
    run.record.write_summary(objective, "finished", result)
    run.record.close("finished", result)
    run.session.end("finished", result)
    return run


def add_run(root: Path, name: str, lr: float, status: str = "finished", trial: int | None = None) -> Tracked:
    """A run with curves, pictures, a table, a fallback, and what Hydra writes."""
    config = make_config()
    config = replace(config, optimizer=replace(config.optimizer, lr=lr))
    if trial is not None:
        config = replace(config, trial=make_trial(root / "study.db", "my_study", trial))
    run = Tracked.begin(root / name, config, OVERRIDES)
    hydra = {
        "overrides": {"task": OVERRIDES},
        "runtime": {
            "choices": {"optimizer": "adamw", "scheduler": "cosine", "hydra/launcher": "basic"},
            "config_sources": [{"provider": "main", "path": str(root / "conf")}],
        },
    }
    (run.folder / ".hydra").mkdir()
    (run.folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": hydra}))
    run.session.emit(EpochEvent(0, 5, {"val/map50": 0.01}))
    run.epochs()
    run.picture("test/ranked", boxes=())
    run.session.show(Table("test/per_image", ("image", "ap"), (("<a>.jpg", 0.5), ("b.jpg", 0.25))))
    run.session.fallback("train.precision=bf16 is <slow> here; fp32 is used")
    if status == "failed":
        try:
            raise ZeroDivisionError("division by zero")
        except ZeroDivisionError as error:
            run.end(status, None, error)
    else:
        run.end(status, run.result())
    return run


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, a failed one, a sweep of two trials with its report, and the index."""
    root = tmp_path_factory.mktemp("outputs")
    (root / "conf").mkdir()
    (root / "conf" / "config.yaml").write_text("defaults: [_self_, {optimizer: sgd}, {scheduler: cosine}]")
    add_run(root, "one", 0.001)
    add_run(root, "two", 0.01)
    add_run(root, "broken", 0.1, "failed")
    add_run(root, "sweep/0", 0.001, trial=0)
    add_run(root, "sweep/1", 0.002, "pruned", trial=1)
    (root / "sweep" / "report").mkdir()
    (root / "sweep" / "report" / "index.html").write_text("<p>a sweep</p>")
    (root / "not_a_run").mkdir()
    (root / "not_a_run" / "run.json").write_text("{ half")
    write_index(root)
    return root


def matches_page(folder: Path) -> Path:
    """The page of mode=find in a source with a long path."""
    found = replace(made(folder), source="/a_rather/long_path_without/any_blank_in_it/of_the_source/street.mp4")
    for picture in (*found.queries.values(), *(path for each in found.matches for path in (each.crop, each.picture))):
        if picture:
            (folder / picture).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (120, 256), "grey").save(folder / picture)
    (folder / "run.json").write_text(json.dumps({"status": "finished", "fallbacks": ["a" * 200]}))
    write_found(found)
    return write_matches_page(folder)


def predict_page(root: Path) -> Path:
    """The report of mode=predict with rows of pictures of people."""
    run = add_run(root, "predict", 0.1)
    for person, crops in ((1, 12), (2, 1), (3, 1)):
        path = run.folder / f"person{person}.png"
        Image.new("RGB", (94 * crops, 194), "grey").save(path)
        run.session.show(Picture(f"people/person {person}", path, f"person {person}: {crops} sightings"))
    for frame in range(3):
        path = run.folder / f"frame{frame}.png"
        Image.new("RGB", (640, 360), "grey").save(path)
        run.session.show(Picture(f"frames/{frame}", path, f"{frame}: 2 people"))
    page = run.folder / "predict.html"
    page.write_text(render(read_run(run.folder)))
    return page


Browse = Callable[[str], tuple[str, list[str]]]
# A page that asks a server for what it shows is ready once it has stayed as it is for two seconds.
_SETTLED = """
new Promise((done) => {
  let [size, same] = [-1, 0];
  const look = () => {
    same = size === (size = document.documentElement.outerHTML.length) ? same + 1 : 0;
    if (same >= 20) done(true);
    else setTimeout(look, 100);
  };
  look();
})
"""


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser for all tests."""
    program = find_program()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on PATH (apt-get install chromium)")
    with Chromium(program, tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="session")
def browse(browser: Chromium) -> Browse:
    """`browse(url)`: the page's document after its scripts ran, and what it wrote to the console."""

    def visit(url: str) -> tuple[str, list[str]]:
        page = browser.open(url)
        if url.startswith("http"):
            page.run(_SETTLED)
        found = page.html(), page.messages()
        page.close()
        return found

    return visit


@pytest.fixture(scope="session")
def sweep_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of a complete, a pruned and a failed trial over a number and a choice."""

    def trial(number: int, state: str, value: float | None, lr: float, name: str, **more: Any) -> dict[str, Any]:
        shown = {"number": number, "state": state, "values": [value], "params": {"optimizer.lr": lr, "optimizer": name}}
        return {**shown, "curve": [[1, 0.1], [2, value]] if value else [], "link": None, "reason": "", **more}

    trials = [
        trial(0, "complete", 0.5, 0.001, "sgd", link="../0/report.html"),
        trial(1, "pruned", 0.2, 0.1, "adamw"),
        trial(2, "failed", None, 1.0, "adamw", reason="<out> of memory"),
    ]
    data = {"objectives": ["val/map"], "maximize": True, "best": [0], "log": ["optimizer.lr"], "trials": trials}
    data["choices"] = ["optimizer"]
    row: dict[str, Any] = {
        "link": None,
        "on_front": False,
        "state": "x",
        "state_class": "",
        "reason": "",
        "cells": ["0.5"],
    }
    text = render_page(
        "sweep.jinja",
        **{"title": "Study t", "meta": "", "folder": "f", "status": "finished"},
        **{"columns": ["val/map"], "settings": {"sampler": "tpe"}, "few": 3},
        failures={"<out> of memory": [(2, None)]},
        cards=[("trials", "3", "1 failed, 1 pruned")],
        best={"number": 0, "link": "../0/report.html", "command": "python train.py experiment=best"},
        advice=[
            Advice("optimizer.lr", "0.001", "0.001", 0.7, 0.5, 0.9),
            Advice("optimizer", "sgd", "sgd (1 of 1)", None),
        ],
        rows=[{**row, "number": number} for number in range(3)],
        data={**data, "parameters": ["optimizer.lr", "optimizer"]},
    )
    page = tmp_path_factory.mktemp("sweep") / "sweep.html"
    page.write_text(text)
    return page


@pytest.fixture(scope="session")
def every_page(outputs: Path, sweep_page: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Address of a page of each kind, with all that it can hold."""
    root = tmp_path_factory.mktemp("pages")
    run = add_run(root, "run", 0.1)
    detailed = {
        "by_group": (("by", "group", "people", "found", "recall", "false"), (("size", "small", 4, 1, 0.25, 2),)),
        "counts": (("confidence", "found", "missed", "false"), ((0.31, 3, 1, 2),)),
        "camera_pairs": (("query_camera", "gallery_camera", "map"), ((1, 2, 0.9), (2, 1, 0.2))),
        "hardest_identities": (("identity", "map", "taken_for"), ((7, 0.1, "9 (2 of 3)"),)),
    }
    for name, (columns, rows) in detailed.items():
        run.session.show(Table(f"test/{name}", columns, rows))
    run.picture("test/detections")
    known = read_run(run.folder)
    finding = {"severity": "warning", "problem": "duplicate image", "count": 3, "example": "a.jpg", "why": "Twice."}
    check = {"errors": 0, "warnings": 3, "notes": 0, "images": 9, "findings": [finding]}
    dataset = {**known.config["dataset"], "root": "/data/people", "task": "detection"}
    checked = replace(
        known, config={**known.config, "mode": "check", "dataset": dataset}, manifest={**known.manifest, "check": check}
    )
    lost = {"test/search_map": 0.5, "test/lost_missed": 0.1, "test/lost_embedding": 0.4}
    searched = replace(
        known,
        summary={**known.summary, **lost, "objective": "test/search_map", "details": {"verdict": "Lost: 0.5."}},
        config={
            **known.config,
            "mode": "search",
            "detector": "/m/yolo.pt",
            "reid": str(run.folder / "weights/best.pt"),
        },
    )
    evaluation = add_evaluation(root, "evaluation", run.folder / "weights" / "best.pt")
    cut = replace(known, manifest={**known.manifest, "status": "interrupted"}, summary={})
    pages = {"run": render(known), "interrupted": render(cut), "check": render(checked), "search": render(searched)}
    for name, text in pages.items():
        (run.folder / f"{name}.html").write_text(text)
    found = {name: (run.folder / f"{name}.html").as_uri() for name in pages}
    index = (outputs / "index.html").as_uri()
    return {
        **found,
        "matches": matches_page(root / "matches").as_uri(),
        "predict": predict_page(root).as_uri(),
        "failed": (outputs / "broken" / "report.html").as_uri(),
        "evaluation": (evaluation.folder / "report.html").as_uri(),
        "index": index,
        "comparison": f"{index}#run=one&run=two&run=sweep%2F0",
        "sweep": sweep_page.as_uri(),
    }
