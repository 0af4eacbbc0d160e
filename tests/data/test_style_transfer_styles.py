"""A batch is transferred to its targets' style, each sample with its own draw."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hf_wbc.config import Augmentation, TargetStyle, TrainConfig
from hf_wbc.data.augment import NO_CHANGE, apply_augmentation, check_strength, stronger_augmentation
from hf_wbc.data.augment_ops import (
    NUM_DRAWS,
    draw_augmentation_params,
    draw_target,
    draw_target_fraction,
)
from hf_wbc.data.loader import BatchLoader, LoaderConfig
from hf_wbc.data.style_transfer import (
    TargetStyleSampler,
    build_style_sampler,
    color_sample,
    count_levels,
    swap_amplitudes,
    transfer_levels,
)
from hf_wbc.data.table import Table, concatenate

Draw = Callable[..., Table]
STYLES: tuple[TargetStyle, ...] = (
    "reinhard",
    "macenko",
    "vahadane",
    "histogram",
    "fourier",
    "grayscale",
)
PLAIN = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
CPU = torch.device("cpu")


@pytest.fixture
def source(domain: Draw) -> Table:
    return concatenate([domain(0), domain(1, num=30)])


@pytest.fixture
def targets(domain: Draw) -> list[Table]:
    return [domain(2, label=-1), domain(3, num=20, label=-1)]


@pytest.fixture
def changes(source: Table) -> torch.Tensor:
    return draw_augmentation_params(len(source), torch.Generator().manual_seed(0))


def images(table: Table) -> torch.Tensor:
    return table.batch(np.arange(len(table))).permute(0, 3, 1, 2).float()


def moved(
    style: TargetStyleSampler, table: Table, changes: torch.Tensor, strength: float = 1.0
) -> torch.Tensor:
    way = style.draw(changes, torch.from_numpy(table.domains), strength, CPU)
    return way.apply(images(table), slice(0, len(table)))


def stream(
    source: Table, targets: Sequence[Table], name: TargetStyle, **options: Any
) -> BatchLoader:
    strength = replace(NO_CHANGE, target_shift=0.5, target_style=name)
    defaults: dict[str, Any] = {"batch_size": 8, "num_steps": 5, "augmentation": strength}
    config = LoaderConfig(**(defaults | options))
    return BatchLoader(source, concatenate(targets), config, style_targets=targets)


@pytest.mark.parametrize("name", STYLES)
def test_zero_strength_keeps_the_image(
    name: str, source: Table, targets: list[Table], changes: torch.Tensor
) -> None:
    style = build_style_sampler(name, source, targets)
    assert torch.equal(moved(style, source, changes, 0.0), images(source))


@pytest.mark.parametrize("name", STYLES)
def test_style_without_shift_is_refused(
    name: TargetStyle, source: Table, targets: list[Table]
) -> None:
    strength = replace(NO_CHANGE, target_style=name)
    with pytest.raises(
        ValueError, match=f"target_style {name} has no effect at a target_shift of 0"
    ):
        stream(source, targets, name, augmentation=strength)


@pytest.mark.parametrize("name", STYLES[:3])
def test_transfer_to_same_domain_is_identity(name: str, domain: Draw) -> None:
    table, changes = domain(0), torch.full((40, NUM_DRAWS), 0.9)
    style = build_style_sampler(name, table, [table])
    torch.testing.assert_close(moved(style, table, changes), images(table), atol=0.05, rtol=0)


@pytest.mark.parametrize("name", STYLES)
def test_transfer_is_linear_in_its_strength(name: str, source: Table, targets: list[Table]) -> None:
    style = build_style_sampler(name, source, targets)
    ends = torch.full((len(source), NUM_DRAWS), 0.5)
    third, half, whole = (moved(style, source, ends, 2 * part) for part in (0.3, 0.5, 1.0))
    start = images(source)
    torch.testing.assert_close(third, start + 0.3 * (whole - start), atol=1e-3, rtol=0)
    torch.testing.assert_close(half, (start + whole) / 2, atol=1e-3, rtol=0)
    assert (whole - start).abs().mean() > 3


@pytest.mark.parametrize("name", STYLES[:-1])  # gray is the target of no color
def test_full_transfer_approaches_target_mean(
    name: str, domain: Draw, source: Table, targets: list[Table]
) -> None:
    style = build_style_sampler(name, source, targets[1:])
    found = moved(style, source, torch.ones(len(source), NUM_DRAWS) * (1 - 2**-24))
    end = images(targets[1]).mean((0, 2, 3))
    for start in (0, 1):
        rows = torch.from_numpy(source.domains == start)
        far, near = ((x[rows].mean((0, 2, 3)) - end).norm() for x in (images(source), found))
        assert near < 0.5 * far


def test_targets_and_their_images_are_sampled_uniformly() -> None:
    changes = draw_augmentation_params(20_000, torch.Generator().manual_seed(0))
    which, rest = draw_target(changes, 3)
    counts = which.bincount()
    assert len(counts) == 3 and counts.min() > 0.95 * 20_000 / 3
    for target in range(3):
        assert abs(float(rest[which == target].mean()) - 0.5) < 0.02
    assert rest.min() >= 0 and rest.max() < 1
    part = draw_target_fraction(changes, 0.6)
    assert part.min() >= 0 and part.max() < 0.6 and abs(float(part.mean()) - 0.3) < 0.01


def test_every_sample_uses_its_domain_target_and_fraction(
    source: Table, targets: list[Table], changes: torch.Tensor
) -> None:
    found = moved(build_style_sampler("histogram", source, targets), source, changes, 0.8)
    counts = [count_levels(color_sample(source, domain)) for domain in (0, 1)]
    ends = [count_levels(color_sample(target)) for target in targets]
    chosen = set()
    for sample, row in enumerate(changes.double().numpy()):
        domain, target = int(source.domains[sample]), int(2 * row[18])
        table = transfer_levels(counts[domain], ends[target])
        pixels = images(source)[sample].numpy().astype(int)
        there = np.stack([table[channel][pixels[channel]] for channel in range(3)])
        expected = pixels + 0.8 * row[17] * (there - pixels)
        np.testing.assert_allclose(found[sample].numpy(), expected, atol=1e-3)
        chosen.add((domain, target))
    assert len(chosen) == 4


def test_amplitudes_come_from_random_images_of_drawn_target(
    source: Table, targets: list[Table], changes: torch.Tensor
) -> None:
    style = build_style_sampler("fourier", source, targets)
    way = style.draw(changes, torch.from_numpy(source.domains), 1.0, CPU)
    chosen = set()
    for sample, row in enumerate(changes.double().numpy()):
        target, rest = divmod(2 * row[18], 1)
        number = int(rest * len(targets[int(target)]))
        expected = targets[int(target)].chunks[0][number]
        assert np.array_equal(way.values[sample].numpy(), expected)
        chosen.add((target, number))
    assert len(chosen) > 30
    pixels = way.values.permute(0, 3, 1, 2).float()
    ends = swap_amplitudes(images(source), pixels).clamp(0, 255)
    expected = images(source) + way.part * (ends - images(source))
    torch.testing.assert_close(
        way.apply(images(source), slice(0, len(source))), expected, atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("name", STYLES)
def test_labels_do_not_affect_styles(name: str, domain: Draw, source: Table) -> None:
    known, unknown = (
        stream(source, [domain(2, label=label)], name).batch(1).source.inputs for label in (3, -1)
    )
    assert torch.equal(known, unknown)


@pytest.mark.parametrize("name", STYLES)
def test_batch_depends_only_on_its_step_and_ranks_share_draws(
    name: TargetStyle, source: Table, targets: list[Table]
) -> None:
    made, again = (
        stream(source, targets, name, batch_size=16, strong_views=True) for _ in range(2)
    )
    batches = [made.batch(step) for step in range(3)]
    for view in ("inputs", "strong"):
        whole = getattr(again.batch(2).source, view)
        assert torch.equal(whole, getattr(batches[2].source, view))
        ranks = (
            stream(source, targets, name, strong_views=True, rank=r, world_size=2) for r in range(2)
        )
        halves = torch.cat([getattr(rank.batch(2).source, view) for rank in ranks])
        torch.testing.assert_close(halves, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", STYLES)
def test_only_source_images_are_transferred(
    name: TargetStyle, source: Table, targets: list[Table]
) -> None:
    batch = stream(source, targets, name).batch(0)
    still = stream(source, targets, name, augmentation=None).batch(0)
    assert batch.target is not None and still.target is not None
    assert torch.equal(batch.target.inputs, still.target.inputs)
    assert not torch.equal(batch.source.inputs, still.source.inputs)


@pytest.mark.parametrize("name", STYLES)
def test_blank_domains_and_images_stay_finite_and_in_range(name: str, domain: Draw) -> None:
    def blank(level: int) -> Table:
        table = domain(0, num=6)
        return replace(table, chunks=(np.full_like(table.chunks[0], level),))

    tables = [blank(0), blank(255), domain(0, num=6, spread=0.0), domain(1, num=6)]
    changes = draw_augmentation_params(6, torch.Generator().manual_seed(0))
    for start in tables:
        style = build_style_sampler(name, start, tables)
        for shown in tables:  # including images unlike any that was measured
            found = moved(style, shown, changes)
            assert found.isfinite().all() and found.min() >= 0 and found.max() <= 255


@pytest.mark.parametrize("name", STYLES)
def test_style_combines_with_all_other_augmentations(
    name: TargetStyle, source: Table, targets: list[Table], changes: torch.Tensor
) -> None:
    strength = Augmentation(rotation_deg=20.0, stain=0.2, target_shift=1.0, target_style=name)
    pixels = source.batch(np.arange(len(source)))
    way = build_style_sampler(name, source, targets).draw(
        changes, torch.from_numpy(source.domains), 1.0, CPU
    )
    blur_um = torch.full((len(source),), 0.5)
    found = apply_augmentation(
        pixels, changes, strength, *PLAIN, blur_um=blur_um, style_transfer=way
    )
    before = apply_augmentation(pixels, changes, strength, *PLAIN, blur_um=blur_um)
    assert found.isfinite().all() and not torch.equal(found, before)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = apply_augmentation(
            pixels, changes, strength, *PLAIN, blur_um=blur_um, style_transfer=way
        )
    assert torch.equal(again, found)


def test_style_is_applied_before_flips_and_colors(
    source: Table, targets: list[Table], changes: torch.Tensor
) -> None:
    style = build_style_sampler("histogram", source, targets)
    way = style.draw(changes, torch.from_numpy(source.domains), 1.0, CPU)
    strength = replace(NO_CHANGE, flips=True, brightness=0.2, target_shift=1.0)
    found = apply_augmentation(
        source.batch(np.arange(len(source))), changes, strength, *PLAIN, style_transfer=way
    )
    expected = moved(style, source, changes)
    for sample, row in enumerate(changes.double()):
        image = expected[sample]
        image = image.flip(2) if row[0] >= 0.5 else image
        image = image.flip(1) if row[1] >= 0.5 else image
        bright = image * (1 + 0.2 * (2 * float(row[7]) - 1))
        torch.testing.assert_close(found[sample], bright, atol=1e-2, rtol=0)


def test_strong_view_keeps_the_style() -> None:
    strength = replace(NO_CHANGE, target_shift=0.3, target_style="macenko")
    check_strength(strength)
    assert stronger_augmentation(strength) == replace(strength, target_shift=0.6)


def test_invalid_styles_are_refused() -> None:
    def config(**values: Any) -> TrainConfig:
        return TrainConfig(sources=("a",), target=("b",), augmentation=Augmentation(**values))

    with pytest.raises(
        ValueError, match="target_style is 'khan'; choose from colors, colours, rein"
    ):
        config(target_shift=0.5, target_style="khan")
    made = config(target_shift=0.5, target_style="fourier")
    assert TrainConfig.from_dict(made.to_dict()) == made
