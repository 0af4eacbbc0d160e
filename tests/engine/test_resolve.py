"""A run's name depends on what determines its result, and survives renamed fields."""

from dataclasses import replace
from pathlib import Path

import pytest

from hf_wbc.config import AUGMENTATIONS, TrainConfig
from hf_wbc.engine.resolve import check_config, resolve, stable_values
from hf_wbc.engine.run import run
from hf_wbc.records import digest


def test_renamed_fields_keep_names_of_finished_runs() -> None:
    """Check digests computed before the fields were grouped and renamed."""
    plain = TrainConfig(sources=("a",), augmentation="light")
    changed = TrainConfig(
        sources=("a",),
        target=("b",),
        learning_rate=3e-4,
        gradient_accumulation_steps=2,
        max_grad_norm=0.5,
        warmup_ratio=0.2,
        mixed_precision="bf16",
        eval_steps=5,
        from_scratch=True,
        adapt_learning_rate=0.1,
        normalize_by="domain",
        augmentation=replace(AUGMENTATIONS["light"], hue=0.1),
    )
    assert [digest(stable_values(each)) for each in (plain, changed)] == [
        "1a7260bfa4d2",
        "17f240a5f4da",
    ]


def test_run_writes_to_folder_named_by_resolve(config: TrainConfig, tmp_path: Path) -> None:
    resolved = resolve(config)
    assert run(config, tmp_path / "runs", tmp_path / "cache").path.name == resolved.name
    assert resolve(config, num_processes=2).name != resolved.name
    assert resolve(resolved.config).name == resolved.name


@pytest.mark.parametrize("option", ["logit_adjustment", "effective_numbers"])
def test_class_proportions_are_corrected_once(option: str) -> None:
    config = TrainConfig(sources=("a",), **{option: 0.9})
    with pytest.raises(ValueError, match=f"{option} 0.9.*--balance none"):
        check_config(config)
    check_config(config.replace(balance="none"))
