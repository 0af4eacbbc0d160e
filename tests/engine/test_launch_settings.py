"""A result depends only on hf_wbc's own options or on settings that are part of the run's name."""

import os
import warnings
from pathlib import Path

import pytest

from hf_wbc.arithmetic import VARIABLES, arithmetic_settings, with_arithmetic
from hf_wbc.config import TrainConfig
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.engine.launch_settings import only_own_settings
from hf_wbc.engine.resolve import resolve
from hf_wbc.engine.run import run

IGNORED = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("4", "use --gradient-accumulation-steps"),
    "ACCELERATE_MIXED_PRECISION": ("bf16", "use --mixed-precision"),
    "ACCELERATE_TORCH_DEVICE": ("meta", "use CUDA_VISIBLE_DEVICES"),
    "ACCELERATE_DYNAMO_BACKEND": ("inductor", "is ignored"),
}


@pytest.mark.slow
@pytest.mark.ci
def test_accelerate_variables_do_not_change_weights(
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = run(config, tmp_path / "bare", tmp_path / "cache")
    for name, (value, _) in IGNORED.items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        other = run(config, tmp_path / "other", tmp_path / "cache")
    assert bare.path.name == other.path.name
    weights = [folder.model / "model.safetensors" for folder in (bare, other)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert bare.predictions.read_bytes() == other.predictions.read_bytes()
    said = "\n".join(str(each.message) for each in caught)
    for name, (value, remedy) in IGNORED.items():
        assert f"{name}={value} is ignored" in said and remedy in said
        assert os.environ[name] == value


def test_defaults_set_by_accelerate_launch_cause_no_warning() -> None:
    environ = {
        "ACCELERATE_USE_CPU": "True",
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "ACCELERATE_DYNAMO_MODE": "default",
        "ACCELERATE_DYNAMO_USE_FULLGRAPH": "False",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
        "ACCELERATE_USE_DEEPSPEED": "false",
    }
    before = dict(environ)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with only_own_settings("no", environ):
            assert environ == {"ACCELERATE_USE_CPU": "True"}
    assert environ == before
    with (
        warnings.catch_warnings(),
        only_own_settings("bf16", {"ACCELERATE_MIXED_PRECISION": "bf16"}),
    ):
        warnings.simplefilter("error")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "true", "requests DeepSpeed, which hf_wbc does not support"),
        ("ACCELERATE_USE_FSDP", "TRUE", "requests FSDP"),
        ("ACCELERATE_USE_MEGATRON_LM", "1", "requests Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", "requests a parallelism configuration"),
        ("ACCELERATE_USE_SAGEMAKER", "true", "requests SageMaker"),
        ("LOCAL_RANK", "first", "LOCAL_RANK is 'first', which is no number"),
        ("WORLD_SIZE", "", "WORLD_SIZE is '', which is no number"),
    ],
)
def test_unsupported_training_modes_are_refused(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        make_accelerator()


@pytest.mark.parametrize("name", VARIABLES)
def test_arithmetic_setting_is_part_of_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in VARIABLES:
        monkeypatch.delenv(other, raising=False)
    assert with_arithmetic({"a": 1}) == {"a": 1}
    monkeypatch.setenv(name, "2")
    assert with_arithmetic({"a": 1}) == {"a": 1, "arithmetic": {name: "2"}}


def test_settings_of_compilers_and_runtimes_are_known() -> None:
    """Each of these changed the numbers of a small network, or replaces timm's layers."""
    assert {
        "TORCHINDUCTOR_CPP_ENABLE_UNSAFE_MATH_OPT_FLAG", "TORCHINDUCTOR_EMULATE_PRECISION_CASTS",
        "TORCHINDUCTOR_CPP_USE_DECOMPOSE_TANH", "TORCH_COMPILE_DISABLE", "ONEDNN_MAX_CPU_ISA",
        "TIMM_USE_NAFLEXVIT", "TIMM_USE_SCIPY_INTERP",
    } <= set(VARIABLES)  # fmt: skip


def test_runs_with_other_arithmetic_have_other_names(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    assert "arithmetic" not in resolve(config).identity
    names = {resolve(config).name}
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    names.add(resolve(config).name)
    torch.set_float32_matmul_precision("high")
    try:
        assert arithmetic_settings()["torch.float32_matmul_precision"] == "high"
        names.add(resolve(config).name)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert len(names) == 3
