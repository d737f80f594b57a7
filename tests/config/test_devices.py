"""train.device in both engines: its spellings, and launchers that start several processes by themselves."""

from collections.abc import Callable

import pytest

from watchme.config.schema import RunConfig
from watchme.core.errors import ConfigError

Typed = Callable[..., RunConfig]
ENGINES = pytest.mark.parametrize("model", ["yolo11n", "osnet_ibn"])


@ENGINES
@pytest.mark.parametrize(
    ("spelt", "understood"),
    [
        ('"0,1"', [0, 1]),
        ('"0, 1"', [0, 1]),
        ('"cuda:0,1"', [0, 1]),
        ('"cuda:0,cuda:2"', [0, 2]),
        ("[1]", [1]),
        ("2", 2),
    ],
)
def test_gpu_numbers_are_understood(model: str, spelt: str, understood: object, typed_config: Typed) -> None:
    assert typed_config(f"model={model}", f"train.device={spelt}").train.device == understood


@ENGINES
@pytest.mark.parametrize(
    ("spelt", "expected"),
    [
        ("[0,0]", "names GPU 0 more than once"),
        ("[0,1,1]", "names GPU 1 more than once"),
        ('"0,x"', "such as"),
        ("[]", "is empty"),
        ("[0,-1]", "such as"),
    ],
)
def test_what_makes_no_sense_is_refused(model: str, spelt: str, expected: str, typed_config: Typed) -> None:
    with pytest.raises(ConfigError, match=rf"(?s)train\.device.*{expected}"):
        typed_config(f"model={model}", f"train.device={spelt}")


@ENGINES
@pytest.mark.parametrize(
    "variables",
    [
        {"WORLD_SIZE": "2", "LOCAL_RANK": "0"},
        {"LOCAL_RANK": "0"},
        {"WORLD_SIZE": "4"},
        {"PMI_SIZE": "2"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
    ],
)
def test_started_by_torchrun_is_refused_with_the_command(
    model: str, variables: dict[str, str], typed_config: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert typed_config(f"model={model}").train.device == "auto"
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"(?s)in the environment.*started by torchrun.*train\.device=\[0,1\]"):
        typed_config(f"model={model}")


@ENGINES
@pytest.mark.parametrize(("name", "value"), [("MIXED_PRECISION", "fp16"), ("GRADIENT_ACCUMULATION_STEPS", "4")])
def test_what_accelerate_launch_sets_for_one_process_is_refused(
    model: str, name: str, value: str, typed_config: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accelerate divided the loss by 4 then, whatever train.accumulate said."""
    monkeypatch.setenv("ACCELERATE_LOG_LEVEL", "info")
    assert typed_config(f"model={model}").train.device == "auto"
    monkeypatch.setenv(f"ACCELERATE_{name}", value)
    with pytest.raises(ConfigError, match=rf"train\.device.*\n.*ACCELERATE_{name}={value} in the environment"):
        typed_config(f"model={model}")
