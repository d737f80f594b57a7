"""docs/osnet_guide_keys.md: every key of the guide stands there, and what it names exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchme.config.validation import known_keys
from watchme.engines.osnet.config import Config

PROJECT = Path(__file__).resolve().parents[3]
TABLE = (PROJECT / "docs" / "osnet_guide_keys.md").read_text(encoding="utf-8")
# What the guide's OSNet sections pass to torchreid, and its variables.
GUIDE = re.findall(
    r"\w+",
    """
    OSNET_DATASET_PATH OSNET_SAVE_DIR OSNET_NUM_CLASSES OSNET_EPOCHS OSNET_BATCH_SIZE OSNET_LEARNING_RATE
    OSNET_ARCHITECTURE
    root sources targets height width combineall transforms k_tfm load_train_targets batch_size_train batch_size_test
    num_instances num_cams num_datasets train_sampler random_flip random_crop random_erase color_jitter
    random_gray_scale normalize gt_bbox
    name num_classes loss pretrained use_gpu
    optim lr weight_decay eps amsgrad
    lr_scheduler stepsize max_epoch restart_epoch eta_min
    label_smooth margin weight_t weight_x
    save_dir eval_freq print_freq test_only resume visrank visrank_topk use_metric_cuhk03 ranks rerank save_checkpoint
    load_state_dict classifier requires_grad
""",
)


def rows() -> Iterator[tuple[str, str, str]]:
    for line in TABLE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and cells[2] not in ("test", "---"):
            yield cells[0], cells[1], cells[2]


ROWS = list(rows())


@pytest.mark.parametrize("key", GUIDE)
def test_the_guides_key_stands_in_the_table(key: str) -> None:
    assert any(re.search(rf"`[^`]*\b{key}\b[^`]*`", guide) for guide, _, _ in ROWS), key


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_keys_options_and_tests_of_a_row_exist(row: tuple[str, str, str]) -> None:
    _, here, test = row
    known = known_keys(Config)
    for code in re.findall(r"`([^`]+)`", here):
        for word in code.split():
            name, equals, option = word.partition("=")
            if equals and "." not in name and name != "mode" and not option.startswith("<"):
                assert (PROJECT / "conf" / name / f"{option}.yaml").is_file(), word
            elif re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", name):
                assert name in known, word
    (where,) = re.findall(r"`([^`]+)`", test)
    file, _, function = where.partition("::")
    path = PROJECT / file if "/" in file else Path(__file__).parent / file
    names = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
    assert function in names, where
