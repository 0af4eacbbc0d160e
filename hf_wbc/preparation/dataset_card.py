"""Write the README.md of a prepared dataset: metadata for `datasets`, and text for people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_wbc import __version__
from hf_wbc.data.schema import CONFIGS, CROP_UM, DEFAULT_CONFIG, SPLITS, row_features
from hf_wbc.escape import markdown_name, plain_text
from hf_wbc.preparation.source import UNLABELED_CODE, ArchiveSpec
from hf_wbc.preparation.split import FRACTIONS
from hf_wbc.shipped import shipped
from hf_wbc.taxonomy import NAMES

if TYPE_CHECKING:
    from huggingface_hub import DatasetCardData

TEMPLATE = "model_cards/dataset.md"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a build adds to the facts of its source."""

    subset: bool
    seed: int
    counts: Mapping[str, Mapping[str, int]]
    """Number of rows by class name or `UNLABELED_CODE`, then by split."""
    num_bytes: Mapping[str, Mapping[str, int]]
    """Bytes in memory by config and split."""
    file_bytes: Mapping[str, int]
    """Bytes on disk by config."""
    content: str
    """Hex digest of all rows."""
    has_groups: bool
    num_identical: int
    """Number of images that have the same pixels as another one."""
    num_overlapping: int
    """Number of pairs that show the same scene."""
    outside: Mapping[str, int]
    """Number of images by code outside the eleven classes."""
    other_frames: Mapping[str, int]
    """Number of images left out, by frame size."""
    skipped: Sequence[str]
    """Ids of declared faults that were left out."""
    bad: Mapping[str, str]
    """Why bad images were left out, by id."""

    @property
    def num_rows(self) -> Mapping[str, int]:
        """Number of rows by split."""
        return {split: sum(row[split] for row in self.counts.values()) for split in SPLITS}


def write_card(
    path: Path, source: ArchiveSpec, facts: CardFacts, provenance: Mapping[str, Any]
) -> None:
    """Write the dataset card of a build; `provenance` is the content of provenance.json."""
    from huggingface_hub import DatasetCard

    card = DatasetCard.from_template(
        card_data(source, facts),
        template_path=str(shipped(TEMPLATE)),
        source=source,
        subset=facts.subset,
        num_rows=f"{sum(facts.num_rows.values()):,}",
        scale=_scale(source),
        cropped=_cropped(source),
        splits=SPLITS,
        matrix=_matrix(source, facts),
        has_groups=facts.has_groups,
        split_rules=_split_rules(facts),
        num_bad=len(facts.bad),
        left_out=_left_out(facts),
        notes=[
            *source.notes,
            *source.declared.values(),
            *(f"Declared fault: {fault.note}" for fault in source.faults),
        ],
        provenance=provenance,
        version=__version__,
    )
    path.write_text(f"{card}\n", encoding="utf-8")


def card_data(source: ArchiveSpec, facts: CardFacts) -> "DatasetCardData":
    """Return the card's YAML: configs with their files, features and sizes, license and tags."""
    from datasets.info import DatasetInfo, DatasetInfosDict
    from datasets.splits import SplitDict, SplitInfo
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    total = sum(facts.num_rows.values())
    data = DatasetCardData(
        license=source.license,
        pretty_name=source.title,
        task_categories=["image-classification"],
        tags=["biology", "medical", "microscopy", "blood", "white-blood-cells", "hf_wbc"],
        size_categories=[next((name for limit, name in _SIZES if total < limit), "100K<n<1M")],
    )
    # `datasets` caches a local folder by this front matter only, so new rows need a new version.
    version = f"1.0.{int(facts.content[:7], 16)}"
    there = {split: number for split, number in facts.num_rows.items() if number}
    files = {config: _data_files(config, there, version) for config in CONFIGS}
    MetadataConfigs(files).to_dataset_card_data(data)
    infos = {}
    for config in CONFIGS:
        splits = SplitDict()
        for split, num_rows in there.items():
            splits.add(SplitInfo(split, facts.num_bytes[config][split], num_rows))
        infos[config] = DatasetInfo(
            config_name=config,
            features=row_features(),
            splits=splits,
            download_size=facts.file_bytes[config],
            dataset_size=sum(facts.num_bytes[config].values()),
        )
    DatasetInfosDict(infos).to_dataset_card_data(data)
    return data


def _data_files(config: str, splits: Iterable[str], version: str) -> dict[str, object]:
    entry: dict[str, object] = {
        "data_files": [{"split": split, "path": f"{config}/{split}-*"} for split in splits],
        "version": version,
    }
    return {"default": True, **entry} if config == DEFAULT_CONFIG else entry


def _matrix(source: ArchiveSpec, facts: CardFacts) -> dict[str, list[str]]:
    """Return by class the archive codes, and the count and share in each split and in total."""
    totals = [*facts.num_rows.values(), sum(facts.num_rows.values())]
    table = {}
    for name in (*NAMES, UNLABELED_CODE):
        if name in facts.counts or (name in NAMES and UNLABELED_CODE not in facts.counts):
            row = facts.counts.get(name, dict.fromkeys(SPLITS, 0))
            numbers = [*(row[split] for split in SPLITS), sum(row.values())]
            codes = [markdown_name(code) for code, cell in source.labels.items() if cell == name]
            table[name] = [", ".join(codes), *map(_count, numbers, totals)]
    table["**all**"] = ["", *(_count(total, totals[-1]) for total in totals)]
    return table


def _count(number: int, total: int) -> str:
    """Format `817 (8.2%)`, and 0 without a share."""
    return f"{number:,} ({number / total:.1%})" if number else "0"


def _scale(source: ArchiveSpec) -> str:
    if source.um_per_px is None:
        return "unknown; the cell fills the frame"
    return f"{source.um_per_px:.6g} um per pixel"


def _cropped(source: ArchiveSpec) -> str:
    if source.um_per_px is None:
        return "the whole frame, because the scale is unknown"
    side = round(CROP_UM / source.um_per_px)
    return f"the central {CROP_UM:g} x {CROP_UM:g} um ({side}x{side} px) as PNG"


def _split_rules(facts: CardFacts) -> list[str]:
    """Return the rules of the split, one sentence each."""
    shares = ", ".join(f"{s} {share:.0%}" for s, share in zip(SPLITS, FRACTIONS, strict=True))
    rules = [
        f"{shares}, stratified by class.",
        "Images are assigned in the order of the SHA-256 of the seed "
        f"({facts.seed}) and their id; rows are shuffled.",
        "A class with three or more images is in all three splits, unless images must stay "
        "together.",
    ]
    if facts.has_groups:
        rules.append("Images of one group stay in one split.")
    if facts.num_identical:
        rules.append(
            f"Images with the same pixels stay in one split; {facts.num_identical:,} images share "
            "their pixels with another one."
        )
    if number := facts.num_overlapping:
        pairs = "1 such pair is" if number == 1 else f"{number:,} such pairs are"
        rules.append(
            "Frames that show the same scene, shifted or not, stay in one split; "
            f"{pairs} known. Rotated or mirrored copies are not detected."
        )
    if facts.num_identical or facts.num_overlapping:
        rules.append("`provenance.json` lists the images that stay together.")
    return rules


def _left_out(facts: CardFacts) -> list[str]:
    """List what the archive contains but the dataset does not, and why."""
    lines = [
        f"{_images(number)} with the code {markdown_name(code)}, which is outside the eleven "
        "classes"
        for code, number in facts.outside.items()
    ]
    lines += [
        f"{_images(number)} with a different frame size, {size.replace('x', ' x ')} px"
        for size, number in facts.other_frames.items()
    ]
    lines += [
        f"`{plain_text(image_id.replace('`', ''))}`, a declared fault of the archive"
        for image_id in facts.skipped
    ]
    lines += [
        f"a bad image: {markdown_name(reason.partition('; ')[0])}" for reason in facts.bad.values()
    ]
    return lines


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number:,} images"
