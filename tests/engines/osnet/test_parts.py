"""Reader, split, sampler, losses, schedules: each against its definition, or against torchreid's own."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchreid.reid import losses as theirs
from torchreid.reid.data.sampler import RandomIdentitySampler

from watchme.config.schema import OptimizerConfig, SchedulerConfig
from watchme.core.errors import ConfigError, DataError
from watchme.data.demo import DemoWorld
from watchme.data.formats.market1501 import Crop, find_root, read_market
from watchme.engines.osnet.data.holdout import hold_out
from watchme.engines.osnet.data.sampler import EpochBatches, identity_batches
from watchme.engines.osnet.losses import batch_hard_triplet
from watchme.engines.osnet.optim import build_optimizer, learning_rate_factor, set_learning_rate

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


def market(root: Path, *, train: str = "0001_c1 0001_c2 0002_c1 0002_c2", query: str, gallery: str) -> Path:
    """A dataset of empty files: the reader looks at names alone."""
    for folder, names in zip(FOLDERS, (train, query, gallery), strict=True):
        (root / folder).mkdir(parents=True)
        for number, name in enumerate(names.split()):
            (root / folder / f"{name}s1_{number:06d}_00.jpg").touch()
    return root


class TestReader:
    def test_junk_is_left_out_and_distractors_stay_in_the_gallery(self, tmp_path: Path) -> None:
        root = market(tmp_path, query="0003_c1 -1_c1", gallery="0003_c2 0000_c1 -1_c2")
        splits = read_market(root)
        assert [crop.pid for crop in splits.query] == [3]
        assert sorted(crop.pid for crop in splits.gallery) == [0, 3]

    @pytest.mark.parametrize("nested", ["", "Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15"])
    def test_the_folder_itself_and_torchreids_nesting_are_accepted(self, nested: str, tmp_path: Path) -> None:
        made = market(tmp_path / nested, query="0003_c1", gallery="0003_c2")
        (made / "gt_bbox").mkdir()
        assert find_root(tmp_path) == made

    def test_missing_folder_shows_the_layout(self, tmp_path: Path) -> None:
        (tmp_path / "bounding_box_train").mkdir()
        with pytest.raises(DataError, match=r"(?s)has no query and no bounding_box_test.*expected layout"):
            find_root(tmp_path)

    def test_strange_names_are_named(self, tmp_path: Path) -> None:
        root = market(tmp_path, query="0003_c1", gallery="0003_c2")
        (root / "query" / "holiday.jpg").touch()
        with pytest.raises(DataError, match=r"holiday\.jpg"):
            read_market(root)

    def test_queries_without_a_match_from_another_camera_are_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="another camera"):
            read_market(market(tmp_path, query="0003_c1", gallery="0003_c1 0004_c2"))

    def test_reads_what_torchreid_reads(self, small_world: DemoWorld) -> None:
        splits = read_market(small_world.reid)
        names = {path.name for path in (small_world.reid / "query").glob("*.jpg")}
        assert {crop.path.name for crop in splits.query} == names
        train = sorted((small_world.reid / "bounding_box_train").glob("*.jpg"))
        assert [crop.path for crop in splits.train] == train


def crowd(identities: int, cameras: int, seed: int = 0, images: int = 3) -> list[Crop]:
    """Identities that some of the cameras saw, some only one."""
    rng = random.Random(seed)
    crops = []
    for pid in range(1, identities + 1):
        for cam in rng.sample(range(cameras), rng.randint(1, cameras)):
            crops += [Crop(Path(f"{pid}_{cam}_{number}.jpg"), pid, cam) for number in range(images)]
    return crops


class TestSplit:
    @pytest.mark.parametrize("seed", range(5))
    def test_every_query_has_a_match_from_another_camera(self, seed: int) -> None:
        held = hold_out(crowd(40, 4, seed), 0.2, seed)
        assert len({crop.pid for crop in held.gallery}) == 8
        for query in held.query:
            assert any(crop.pid == query.pid and crop.cam != query.cam for crop in held.gallery)

    def test_identities_are_disjoint_and_nothing_is_lost(self) -> None:
        crops = crowd(40, 4)
        held = hold_out(crops, 5, 0)
        assert not {crop.pid for crop in held.train} & {crop.pid for crop in held.gallery}
        assert sorted(map(str, [*held.train, *held.gallery])) == sorted(map(str, crops))

    def test_stable_for_a_seed_and_different_for_another(self) -> None:
        crops = crowd(40, 4)
        chosen = [{crop.pid for crop in hold_out(crops, 0.2, seed).gallery} for seed in (1, 1, 2)]
        assert chosen[0] == chosen[1] != chosen[2]

    def test_each_camera_is_served_in_proportion(self) -> None:
        crops = crowd(200, 6)
        held = hold_out(crops, 0.2, 0)
        seen = Counter(cam for _, cam in {(crop.pid, crop.cam) for crop in held.gallery})
        total = Counter(
            cam for pid, cam in {(c.pid, c.cam) for c in crops} if len({c.cam for c in crops if c.pid == pid}) > 1
        )
        shares = [seen[cam] / total[cam] for cam in total]
        assert max(shares) - min(shares) < 0.06

    def test_too_many_identities_are_refused_with_the_reason(self) -> None:
        with pytest.raises(DataError, match="seen by two cameras"):
            hold_out(crowd(10, 2), 10, 0)


class TestSampler:
    pids = tuple(pid for pid in range(10) for _ in range(4 + pid))

    def test_batches_hold_p_identities_of_k_images(self) -> None:
        for batch in identity_batches(self.pids, 16, 4, np.random.default_rng(0)):
            counts = Counter(self.pids[index] for index in batch)
            assert len(batch) == 16
            assert set(counts.values()) == {4}

    def test_as_many_batches_as_torchreids_sampler_makes(self) -> None:
        source = [("", pid, 0, 0) for pid in self.pids]
        ours = [len(identity_batches(self.pids, 16, 4, np.random.default_rng(seed))) for seed in range(200)]
        sampler = RandomIdentitySampler(source, 16, 4)
        random.seed(0)
        np.random.seed(0)
        reference = [len(list(sampler)) // 16 for _ in range(200)]
        assert abs(np.mean(ours) - np.mean(reference)) < 0.15

    def test_no_image_twice_unless_an_identity_has_too_few(self) -> None:
        drawn = [index for batch in identity_batches(self.pids, 16, 4, np.random.default_rng(1)) for index in batch]
        assert len(drawn) == len(set(drawn))
        few = identity_batches([0, 0, 1, 1, 1, 1], 8, 4, np.random.default_rng(1))
        assert Counter([0, 0, 1, 1, 1, 1][index] for index in few[0]) == {0: 4, 1: 4}

    def test_processes_together_see_what_one_process_sees(self) -> None:
        whole = EpochBatches(self.pids, 16, 4, seed=3)
        shares = [EpochBatches(self.pids, 16, 4, seed=3, process=number, processes=2) for number in range(2)]
        for batches in (whole, *shares):
            batches.set_epoch(5)
        for one, left, right in zip(whole, *shares, strict=True):
            assert one == left + right

    def test_an_epoch_depends_on_seed_and_number_alone(self) -> None:
        first, second = EpochBatches(self.pids, 16, 4, seed=3), EpochBatches(self.pids, 16, 4, seed=3)
        for epoch in range(1, 5):
            first.set_epoch(epoch)
        second.set_epoch(4)
        assert list(first) == list(second)
        second.set_epoch(5)
        assert list(first) != list(second)


class TestLosses:
    @pytest.mark.parametrize("margin", [0.0, 0.3, 5.0])
    def test_triplet_equals_torchreids(self, margin: float) -> None:
        torch.manual_seed(0)
        embeddings = torch.randn(32, 16, requires_grad=True)
        labels = torch.arange(8).repeat_interleave(4)
        ours = batch_hard_triplet(embeddings, labels, margin)
        (gradient,) = torch.autograd.grad(ours, embeddings)
        reference = theirs.TripletLoss(margin)(embeddings, labels)
        (expected,) = torch.autograd.grad(reference, embeddings)
        torch.testing.assert_close(ours, reference)
        torch.testing.assert_close(gradient, expected)

    def test_label_smoothing_equals_torchreids(self) -> None:
        logits, labels = torch.randn(16, 10), torch.randint(0, 10, (16,))
        reference = theirs.CrossEntropyLoss(10, use_gpu=False, label_smooth=True)(logits, labels)
        ours = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
        torch.testing.assert_close(ours, reference)


SCHEDULES: list[tuple[SchedulerConfig, Callable[[torch.optim.Optimizer], Any]]] = [
    (
        SchedulerConfig(name="single_step", step_size=3, gamma=0.1),
        lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.1),
    ),
    (
        SchedulerConfig(name="multi_step", milestones=[2, 5], gamma=0.5),
        lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5], 0.5),
    ),
    (
        SchedulerConfig(name="cosine", final_lr_ratio=0.0),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10),
    ),
    (
        SchedulerConfig(name="cosine_restarts", restart_epochs=4, eta_min=0.01),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4, eta_min=0.01),
    ),
    (
        SchedulerConfig(name="linear", final_lr_ratio=0.01),
        lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 10),
    ),
]


@pytest.mark.parametrize(("schedule", "reference"), SCHEDULES, ids=lambda value: getattr(value, "name", ""))
def test_schedules_equal_torchs(schedule: SchedulerConfig, reference: Callable[[torch.optim.Optimizer], Any]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = reference(optimizer)
    for epoch in range(10):
        ours = 0.1 * learning_rate_factor(schedule, epoch, 10, 0.1)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        scheduler.step()


def test_warm_up_rises_linearly_and_ends_at_the_full_rate() -> None:
    schedule = SchedulerConfig(name="constant", warmup_epochs=2)
    rates = [learning_rate_factor(schedule, epoch, 10, 0.1, share) for epoch in range(3) for share in (0.25, 0.75)]
    assert rates == pytest.approx([0.125, 0.375, 0.625, 0.875, 1.0, 1.0])


@pytest.mark.parametrize(
    ("config", "kind", "settings"),
    [
        (OptimizerConfig(name="sgd", lr=0.1, nesterov=True), torch.optim.SGD, {"nesterov": True, "momentum": 0.9}),
        (OptimizerConfig(name="sgd", lr=0.1, dampening=0.1), torch.optim.SGD, {"dampening": 0.1}),
        (OptimizerConfig(name="adam", lr=0.1, eps=1e-6), torch.optim.Adam, {"eps": 1e-6, "amsgrad": False}),
        (OptimizerConfig(name="amsgrad", lr=0.1), torch.optim.Adam, {"amsgrad": True}),
        (OptimizerConfig(name="adamw", lr=0.1, amsgrad=True, beta2=0.99), torch.optim.AdamW, {"betas": (0.9, 0.99)}),
        (OptimizerConfig(name="rmsprop", lr=0.1, alpha=0.9), torch.optim.RMSprop, {"alpha": 0.9, "momentum": 0.9}),
        (OptimizerConfig(name="radam", lr=0.1), torch.optim.RAdam, {"weight_decay": 5e-4}),
    ],
)
def test_optimizers_get_what_the_config_says(
    config: OptimizerConfig, kind: type[torch.optim.Optimizer], settings: dict[str, Any]
) -> None:
    optimizer = build_optimizer(torch.nn.Linear(2, 2), config)
    assert type(optimizer) is kind
    assert {name: optimizer.param_groups[0][name] for name in settings} == settings


def test_staged_learning_rate_slows_all_but_the_new_layers() -> None:
    model = torch.nn.Sequential()
    model.add_module("body", torch.nn.Linear(2, 2))
    model.add_module("classifier", torch.nn.Linear(2, 2))
    config = OptimizerConfig(name="sgd", lr=0.1)
    optimizer = build_optimizer(model, config, new_layers=["classifier"], base_lr_mult=0.1)
    set_learning_rate(optimizer, 1.0)
    rates = {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}
    assert rates[id(model.get_parameter("body.weight"))] == pytest.approx(0.1)
    assert rates[id(model.get_parameter("classifier.weight"))] == 1.0
    with pytest.raises(ConfigError, match="names no module"):
        build_optimizer(model, config, new_layers=["clasifier"])
