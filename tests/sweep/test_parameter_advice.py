"""What a sweep's page says about each parameter."""

import random

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from watchme.sweep.parameter_advice import Advice, advise
from watchme.sweep.trial_states import setting

SPACE = {"optimizer.lr": FloatDistribution(1e-4, 1.0, log=True), "train.batch_size": CategoricalDistribution([16, 32])}


def trial(number: int, value: float | None, lr: float, batch: int, state: TrialState) -> FrozenTrial:
    made: FrozenTrial = create_trial(
        state=state,
        value=value,
        params={"optimizer.lr": lr, "train.batch_size": batch},
        distributions=SPACE,
        intermediate_values={} if value is None else {1: value},
    )
    made.number = number
    return made


@pytest.fixture(scope="module")
def trials() -> list[FrozenTrial]:
    """Sixteen trials that only the learning rate decides, a fifth of them pruned, and one that failed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = []
    for number in range(16):
        lr = 10 ** (-4 + number / 4)
        state = TrialState.PRUNED if number % 5 == 4 else TrialState.COMPLETE
        found.append(trial(number, 1 - abs(number - 8) / 10, lr, (16, 32)[number % 2], state))
    return [*found, trial(16, None, 1.0, 32, TrialState.FAIL)]


def test_best_trial_best_quarter_and_what_mattered(trials: list[FrozenTrial]) -> None:
    lr, batch = advise(trials, ["maximize"])
    assert (lr.name, batch.name) == ("optimizer.lr", "train.batch_size"), "the most important first"
    assert lr.best == "0.01"
    # Trials 8, 7, 9 and 6: a quarter of the sixteen that have a value.
    assert lr.good == "0.003162 to 0.01778"
    assert batch.good == "16 (2 of 4), 32 (2 of 4)"
    assert lr.reading == "mattered"
    assert lr.share is not None
    assert lr.low <= lr.share <= lr.high
    assert batch.reading == "may be chance"


def test_a_trial_that_failed_after_good_epochs_is_no_good_trial(trials: list[FrozenTrial]) -> None:
    burst = trial(17, 5.0, 0.5, 32, TrialState.PRUNED)
    burst.state = TrialState.FAIL
    assert advise([*trials, burst], ["maximize"])[0].good == advise(trials, ["maximize"])[0].good


# Learning rate, batch size, augmentation and val/map of eleven short trainings on the demo world.
MEASURED = (
    *((0.02016, 64, "basic", 0.0525), (0.0008083, 64, "none", 0.1229), (0.0009015, 32, "basic", 0.1251)),
    *((0.001712, 32, "none", 0.1135), (0.004461, 16, "none", 0.1224), (0.004247, 32, "none", 0.1108)),
    *((0.002993, 32, "basic", 0.1580), (0.002789, 32, "none", 0.1286), (0.01237, 64, "none", 0.0832)),
    *((0.001271, 16, "basic", 0.1659), (0.002823, 32, "basic", 0.1237)),
)


def test_an_importance_lies_within_its_range() -> None:
    choices = {"train.batch_size": [16, 32, 64], "augmentation": ["basic", "none"]}
    space = {name: CategoricalDistribution(values) for name, values in choices.items()}
    space["optimizer.lr"] = FloatDistribution(0.0003, 0.05, log=True)
    made: list[FrozenTrial] = []
    for lr, batch, augmentation, value in MEASURED:
        params = {"optimizer.lr": lr, "train.batch_size": batch, "augmentation": augmentation}
        made.append(create_trial(value=value, params=params, distributions=space))
        made[-1].number = len(made)
    rows = advise(made, ["maximize"])
    assert rows[0].name == "optimizer.lr", "rates above 0.01 are the worst"
    for row in rows:
        assert row.share is not None
        assert row.low <= row.share <= row.high, row


def test_minimised_objectives_prefer_the_other_end(trials: list[FrozenTrial]) -> None:
    (lr, *_) = [row for row in advise(trials, ["minimize"]) if row.name == "optimizer.lr"]
    assert lr.best == "0.0001"


def test_too_few_trials_say_so(trials: list[FrozenTrial]) -> None:
    rows = advise(trials[:2], ["maximize"])
    assert [row.reading for row in rows] == ["too few trials to say"] * 2
    assert advise([trials[-1]], ["maximize"]) == [], "no trial is complete"


@pytest.mark.parametrize(
    ("low", "high", "chance", "words"),
    [
        (0.2, 0.9, 0.25, "mattered"),
        (0.2, 0.9, 0.35, "may be chance"),
        (0.0, 0.6, 0.1, "may be chance"),
        (0.0, 0.05, 0.3, "hardly mattered"),
    ],
)
def test_an_importance_in_words(low: float, high: float, chance: float, words: str) -> None:
    assert Advice("x", "1", "1", 0.3, low, high, chance).reading == words


def test_values_without_a_cause_are_called_chance() -> None:
    called = 0
    for seed in range(8):
        draw = random.Random(seed)
        made = [
            trial(number, draw.random(), 10 ** draw.uniform(-4, 0), draw.choice([16, 32]), TrialState.COMPLETE)
            for number in range(10)
        ]
        called += sum(row.reading == "mattered" for row in advise(made, ["maximize"]))
    assert called <= 3, "of sixteen parameters that decide nothing"


def test_an_importance_that_shuffles_come_to_may_be_chance() -> None:
    assert Advice("a", "1", "1", 0.6704, 0.12, 0.87, 0.6699).reading == "may be chance"
    assert Advice("a", "1", "1", 0.72, 0.12, 0.87, 0.67).reading == "mattered"


def test_values_stand_as_they_are_typed() -> None:
    assert [setting(value) for value in (None, True, 0.00123456, 16, "sgd")] == [
        "null",
        "true",
        "0.001235",
        "16",
        "sgd",
    ]
