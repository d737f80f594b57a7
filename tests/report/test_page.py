"""The report of one run: whole, self-contained, and equal to what the run wrote."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from report.conftest import add_run, predict_page
from watchme.core.formatting import UNDEFINED
from watchme.core.interfaces import Picture, Table
from watchme.core.metric_names import DETECTION, SEARCH
from watchme.report.charts import group, rounded
from watchme.report.glossary import meaning
from watchme.report.run_page import as_text, render, write_report
from watchme.report.run_reader import read_run
from watchme.report.tables import shown_tables
from watchme.run import model_card


@pytest.fixture(scope="module")
def page(outputs: Path) -> str:
    return (outputs / "one" / "report.html").read_text()


def charts_of(page: str) -> list[dict[str, Any]]:
    return [chart for text in re.findall(r"data-charts='([^']*)'", page) for chart in json.loads(text)]


def test_the_slowest_operators_stand_beside_the_speed(tmp_path: Path) -> None:
    run = add_run(tmp_path, "profiled", 0.1)
    columns = ("operator", "calls", "self_ms", "total_ms", "share")
    run.session.show(Table("profile/operators", columns, (("aten::mm", 8, 1.5, 2.25, 0.75),)))
    text = re.sub(r"<[^>]+>", " ", write_report(run.folder).read_text())
    _, _, speed = " ".join(text.split()).partition("Slowest operators")
    assert "aten::mm 8 1.5000 2.2500 0.7500" in speed.partition("Next steps")[0]
    assert "profile_operators.csv" not in text


def test_nothing_is_loaded_from_elsewhere(outputs: Path) -> None:
    for path in outputs.rglob("report.html"):
        text = path.read_text()
        assert not re.search(r"(src|href|url\()\s*=?\s*[\"'(]?(https?:)?//", text), path
        assert "@import" not in text
        assert path.stat().st_size < 3_000_000


def test_curves_hold_the_numbers_of_metrics_jsonl(page: str, outputs: Path) -> None:
    lines = [json.loads(line) for line in (outputs / "one" / "metrics.jsonl").read_text().splitlines()]
    drawn = {}
    for chart in charts_of(page):
        assert chart["axis"] == "epoch"
        for curve in chart["series"]:
            drawn[chart["title"], curve["label"]] = curve["points"]
    assert drawn["map50", "val"] == [[line["epoch"], line["val/map50"]] for line in lines if line.get("val/map50")]
    loss = [[line["epoch"], pytest.approx(line["train/loss"], rel=1e-5)] for line in lines if "train/loss" in line]
    assert drawn["loss", "train"] == loss
    assert ("perf/data_wait_share", "data_wait_share") in drawn


def test_what_ran_is_shown_against_the_defaults(page: str) -> None:
    assert 'adamw</span> <span class="soft">default: sgd' in page
    assert '<td class="key">optimizer.lr</td>' in page
    assert "sha256:abc" in page
    assert "cores" in page
    assert "learning_rate" not in page


def test_result_pictures_table_fallback_and_next_steps(page: str) -> None:
    assert "0.5700" in page
    assert "0.0100 before training" in page
    pictures = re.findall(r'<img alt="([^"]+)" src="data:image/jpeg;base64,([^"]+)"', page)
    assert [name.split()[0] for name, _ in pictures] == ["test/ranked", "val/predictions"]
    assert all(base64.b64decode(data)[:2] == b"\xff\xd8" for _, data in pictures)
    assert "&lt;a&gt;.jpg" in page
    assert "bf16 is &lt;slow&gt; here" in page
    assert "mode=evaluate checkpoint=" in page


def test_cmc_is_drawn_from_the_ranks_of_the_queries(tmp_path: Path) -> None:
    from watchme.core.interfaces import Table

    run = add_run(tmp_path, "run", 0.1)
    rows = (("a", 1.0), ("b", 3.0), ("c", float("nan")), ("d", 1.0))
    run.session.show(Table("test/per_query", ("query", "first_match_rank"), rows))
    page = write_report(run.folder).read_text()
    chart = next(chart for chart in charts_of(page) if chart["axis"] == "rank")
    (curve,) = chart["series"]
    assert curve["points"][:4] == [[1, 0.5], [2, 0.5], [3, 0.75], [4, 0.75]]


def test_cmc_is_the_one_that_rank_k_is_of(tmp_path: Path) -> None:
    """Queries without a match lowered the curve, and CUHK03's was that of the whole gallery."""
    from watchme.core.interfaces import Table

    run = add_run(tmp_path, "run", 0.1)
    nan = float("nan")
    columns = ("query", "average_precision", "first_match_rank")
    # `b` is not in the gallery; `c` is there and was not detected.
    run.session.show(Table("test/a/per_query", columns, (("a", 1.0, 1.0), ("b", nan, nan), ("c", 0.0, nan))))
    run.session.show(Table("test/b/per_query", columns, (("a", 0.5, 2.0),)))
    run.session.show(Table("test/b/cmc_curve", ("rank", "share"), ((1, 0.7), (2, 0.9)), chart="cmc"))
    run.session.show(Table("test/c/per_query", columns, (("a", nan, nan),)))
    run.session.show(Table("test/c/cmc_curve", ("rank", "share"), ((1, nan), (2, nan)), chart="cmc"))
    found = [chart for chart in charts_of(write_report(run.folder).read_text()) if chart["axis"] == "rank"]
    curves = {chart["title"]: chart["series"][0]["points"][:2] for chart in found}
    assert curves == {"CMC, test a": [[1, 0.5], [2, 0.5]], "CMC, test b": [[1, 0.7], [2, 0.9]]}


def test_a_loss_below_zero_has_no_bar_and_a_square_has_all_its_rows() -> None:
    """-0.02 had the bar of 1, and of 16 cameras the last one was missing without a word."""
    rows = [["people missed", "0.8", "0.2", ""], ["box quality", "0.82", "-0.02", ""]]
    (lost,) = shown_tables({"test_decomposition": [["down to", "search_map", "lost", "to what"], *rows]})
    assert [row[2] for row in lost.shares] == [0.2, 0.0]
    assert [row[2] for row in lost.rows] == ["0.2000", "-0.0200"]
    pairs = [[str(one), str(other), "0.5"] for one in range(1, 17) for other in range(1, 17) if one != other]
    (square,) = shown_tables({"test_camera_pairs": [["query_camera", "gallery_camera", "map"], *pairs]})
    assert (len(square.rows), len(square.head)) == (16, 17)


def test_failed_run_shows_its_error(outputs: Path) -> None:
    page = (outputs / "broken" / "report.html").read_text()
    assert 'class="pill failed"' in page
    assert "ZeroDivisionError: division by zero" in page
    assert "Traceback (most recent call last)" in page


def test_a_folder_with_nothing_but_a_manifest_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": "running", "pid": 999999999, "host": "elsewhere"}')
    assert "? on ?" in render(read_run(tmp_path))


def test_many_and_large_pictures_stay_within_three_megabytes(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    from watchme.core.interfaces import Picture

    run = add_run(tmp_path, "run", 0.1)
    noise = np.random.default_rng(0).integers(0, 255, (1400, 1600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.jpg")
    Image.fromarray(noise).save(tmp_path / "noise.png", compress_level=1)
    for index in range(40):
        copy = tmp_path / f"{index}.jpg"
        copy.hardlink_to(tmp_path / "noise.jpg")
        run.session.show(Picture("test/predictions", copy))
    run.session.show(Picture("test/plot", tmp_path / "noise.png"))
    assert write_report(run.folder).stat().st_size < 3_000_000


def test_a_run_of_thousands_of_epochs_stays_within_three_megabytes(tmp_path: Path) -> None:
    run = read_run(add_run(tmp_path, "run", 0.1).folder)
    names = [f"{split}/metric{number}" for split in ("train", "val") for number in range(20)]
    lines = [{"epoch": epoch, **dict.fromkeys(names, epoch * 0.37 % 1.0)} for epoch in range(5000)]
    text = render(replace(run, lines=lines))
    assert len(text.encode()) < 3_000_000
    for chart in charts_of(text):
        for curve in chart["series"]:
            assert len(curve["points"]) <= 400
            assert curve["points"][-1][0] in (4999, 5)


def test_tables_of_mistakes_are_shown_at_once_with_the_numbers_of_their_files(tmp_path: Path) -> None:
    from watchme.core.interfaces import Table

    run = add_run(tmp_path, "run", 0.1)
    groups = (("size", "small", 4, 1, 0.25, 2), ("size", "large", 10, 9, 0.9, 0))
    pairs = ((1, 2, 20, 0.9, 1.0), (2, 1, 20, 0.2125, 0.1), (3, 1, 7, float("nan"), 0.0))
    columns = ("query_camera", "gallery_camera", "queries", "map", "rank1")
    for split in ("val", "test"):
        run.session.show(Table(f"{split}/by_group", ("by", "group", "people", "found", "recall", "false"), groups))
        run.session.show(Table(f"{split}/camera_pairs", columns, pairs))
        run.session.show(Table(f"{split}/counts", ("confidence", "found", "missed", "false"), ((0.312, 10, 4, 2),)))
    page = write_report(run.folder).read_text()
    wrong = page[page.index('<section id="wrong">') :].partition("</section>")[0]
    assert wrong.count("<table") == 2, "those of the test split; those of the validation are folded below"
    rows = [re.findall(r"<td[^>]*>([^<]*)", row) for row in re.findall(r"<tr>(.*?)</tr>", wrong)]
    assert ["size", "small", "4", "1", "0.2500", "2"] in rows
    assert ["", "large", "10", "9", "0.9000", "0"] in rows, "what stands above is not repeated"
    assert "width:25%" in wrong
    assert rows[-3:] == [["1", UNDEFINED, "0.9000"], ["2", "0.2125", UNDEFINED], ["3", UNDEFINED, UNDEFINED]], (
        "cameras as a square"
    )
    assert "10 of 14" in page
    assert "4 missed, 2 false at confidence &gt;= 0.312, the best F1" in page


def test_worst_images_take_the_place_of_the_first_batch_and_validation_is_folded(tmp_path: Path) -> None:
    run = add_run(tmp_path, "run", 0.1)
    for split in ("val", "test"):
        for name in ("detections", "labels", "predictions", "pr_curve"):
            run.picture(f"{split}/{name}")
    page = write_report(run.folder).read_text()
    assert re.findall(r'<img alt="(\S+)', page) == [
        *("test/detections", "val/detections", "test/ranked", "test/pr_curve", "val/pr_curve"),
    ]
    assert "<h3>Images with the greatest loss of F1, test</h3>" in page
    assert "<summary>Images with the greatest loss of F1, val</summary>" in page
    assert "<summary>Plots, val</summary>" in page


def test_people_stand_side_by_side_under_one_heading(tmp_path: Path) -> None:
    page = predict_page(tmp_path).read_text()
    people = page[page.index("<h2>People</h2>") :].partition("</section>")[0]
    assert re.findall("<h3>(.*?)</h3>", people) == ["Those seen most often first"]
    assert re.findall("<figcaption>(.*?)</figcaption>", people) == [
        *("person 1: 12 sightings", "person 2: 1 sightings", "person 3: 1 sightings"),
    ]
    assert "<h3>Frames with boxes</h3>" in page


@pytest.mark.parametrize(
    "name",
    [
        *DETECTION,
        *SEARCH,
        *("map", "minp", "rank1", "rank20", "map_reranked", "rank5_reranked", "loss", "lr", "accuracy"),
        *("box_loss", "cls_loss", "dfl_loss", "softmax_loss", "triplet_loss", "circle_loss", "arcface_loss"),
        *("epoch_s", "train_s", "eval_s", "images_per_s", "data_wait_share", "gpu_utilisation", "gpu_memory_gb"),
        *("map_fc_dropped", "cosine_fc_dropped"),
    ],
)
def test_every_metric_is_explained(name: str) -> None:
    text = meaning(f"val/{name}")
    assert text.endswith(".")
    assert len(text) > 20


def test_sheets_of_offenders_are_named_as_the_findings_are(tmp_path: Path) -> None:
    run = add_run(tmp_path, "run", 0.1)
    Image.new("RGB", (90, 60)).save(tmp_path / "sheet.png")
    run.session.show(Picture("offenders/unreadable_image", tmp_path / "sheet.png"))
    assert "<h3>Unreadable image</h3>" in write_report(run.folder).read_text()


def test_a_check_names_the_command_that_mends_each_finding(tmp_path: Path) -> None:
    run = read_run(add_run(tmp_path, "run", 0.1).folder)
    findings = [
        {"severity": severity, "problem": problem, "count": 2, "example": "a.jpg", "why": "Why."}
        for severity, problem in (("warning", "duplicate image"), ("note", "empty label file"))
    ]
    config = {**run.config, "mode": "check", "dataset": {"name": "shop", "root": "/data/my shop", "task": "detection"}}
    manifest = {**run.manifest, "check": {"errors": 0, "warnings": 2, "notes": 2, "findings": findings}}
    choices = {"dataset": "person_detection", "model": "yolo11n"}
    checked = replace(run, config=config, manifest=manifest, choices=choices)
    page = render(checked)
    again = "python train.py mode=check model=yolo11n dataset=person_detection dataset.root=&#39;/data/my shop&#39;"
    assert page.count('<pre tabindex="0">python ') >= 1
    assert again in page, "without issues.csv the whole check comes first"
    (run.folder / "issues.csv").write_text("")
    assert f"python -m watchme.data.check {run.folder} &#39;duplicate image&#39;" in render(checked)
    drawn = replace(checked, config={**config, "dataset": {"name": "demo", "root": None}})
    assert "watchme.data.check" not in render(drawn)


def test_a_picture_that_is_none_is_left_out(tmp_path: Path) -> None:
    run = add_run(tmp_path, "run", 0.1)
    (run.folder / "test_ranked.jpg").write_bytes(b"no picture")
    assert "val/predictions" in write_report(run.folder).read_text()


def test_charts_group_train_and_val_and_put_the_objective_first() -> None:
    series = {name: [(1, 0.5)] for name in ("train/loss", "train/lr", "val/loss", "val/recall", "val/map", "time/x_s")}
    grouped = group(series, "val/map")
    assert list(grouped) == ["map", "recall", "loss", "lr", "time/x_s"]
    assert list(grouped["loss"]) == ["val", "train"]


def test_thinned_points_keep_the_first_and_the_last() -> None:
    points = [(epoch, float(epoch)) for epoch in range(5000)]
    thinned = rounded(points, 400)
    assert len(thinned) == 400
    assert thinned[0] == points[0]
    assert thinned[-1] == points[-1]


def test_model_card_says_data_metrics_recipe_use_limits_and_licence(outputs: Path) -> None:
    card = (outputs / "one" / "weights" / model_card.CARD).read_text()
    for piece in ("| test/map50 | 0.5000 |", "sha256:abc", "| optimizer.lr | 0.001 |", "| seed | 7 |"):
        assert piece in card
    for heading in ("Results", "Data", "Recipe", "Intended use", "Limits", "Licence"):
        assert f"\n## {heading}\n" in card
    assert not (outputs / "broken" / "weights" / model_card.CARD).exists()


def test_model_card_of_ultralytics_weights_names_its_licence(outputs: Path) -> None:
    run = read_run(outputs / "one")
    config = {**run.config, "model": {**run.config["model"], "engine": "yolo"}}
    assert "AGPL-3.0: trained with ultralytics" in model_card.render(run.manifest, config, run.summary)


def test_a_search_begins_with_its_verdict_and_names_both_models(tmp_path: Path) -> None:
    run = read_run(add_run(tmp_path, "run", 0.1).folder)
    lost = {"test/lost_missed": 0.1, "test/lost_boxes": 0.02, "test/lost_embedding": 0.26}
    summary = {**run.summary, **lost, "details": {"verdict": "0.26 is lost to the re-ID model."}}
    config = {**run.config, "mode": "search", "detector": "/models/yolo.pt", "reid": "/models/<osnet>.pt"}
    page = render(replace(run, summary=summary, config=config))
    verdict = "0.26 is lost to the re-ID model. Most would be gained from a better re-ID model: up to 0.260."
    assert verdict in page
    assert page.index("Detector: ") < page.index("/models/&lt;osnet&gt;.pt") < page.index(verdict)
    assert page.index(verdict) < page.index("<h2>Results</h2>")


def test_what_the_short_check_found_stands_in_a_trainings_report(tmp_path: Path) -> None:
    run = add_run(tmp_path, "checked", 0.001)
    assert "Check of the dataset" not in render(read_run(run.folder))
    finding = {"severity": "warning", "problem": "odd <size>", "count": 1234, "example": "a<b>.jpg", "why": "Why not."}
    manifest = json.loads((run.folder / "run.json").read_text())
    for findings, shown in (([], False), ([finding], True)):
        manifest["check"] = {"short": True, "errors": 0, "warnings": 1, "notes": 0, "findings": findings}
        (run.folder / "run.json").write_text(json.dumps(manifest))
        page = render(read_run(run.folder))
        assert ("<h2>Check of the dataset</h2>" in page) == shown
    assert "odd &lt;size&gt;" in page
    assert "a&lt;b&gt;.jpg" in page
    assert "1,234" in page
    assert page.index("<h2>Curves</h2>") < page.index("<h2>Check of the dataset</h2>")


def test_settings_stand_as_they_are_typed() -> None:
    config = {"weights": None, "train": {"amp": True, "device": [0, 1]}, "root": "two words"}
    assert as_text(config) == {"weights": "null", "train.amp": "true", "train.device": "[0,1]", "root": "two words"}
