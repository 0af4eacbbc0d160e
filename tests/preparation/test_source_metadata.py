"""Every source's metadata is consistent with itself and with the taxonomy."""

import re

import pytest

import dataset_scripts
from hf_wbc.preparation.source import UNLABELED_CODE
from hf_wbc.taxonomy import NAMES

STATED = [name for name in dataset_scripts.names() if name != "class_folders"]
UNSEEN = ("raabin_22", "wbcbench_26", "wbcbench_26_test")
"""Sources that were written from the published layout alone, whose counts are not known."""
PEOPLE = (
    "Doe, Jane.jpg",
    "BA_Jane_Doe.jpg",
    "MYO_doe.tiff",
    "BA_19700101 Doe.jpg",
    "12345_doe.tif",
)


@pytest.mark.parametrize("name", STATED)
def test_source_metadata_is_consistent(name: str) -> None:
    source = dataset_scripts.load(name)
    assert source.repo == f"wbc-{name.removeprefix('wbc_').replace('_', '-')}"
    if name in UNSEEN:
        assert not source.archive_counts and not source.used_counts
        assert any("not yet been seen on a real copy" in note for note in source.notes)
    else:
        assert set(source.archive_counts) == set(source.labels)
        assert set(filter(None, source.labels.values())) == set(source.used_counts)
    assert set(source.used_counts) <= set(NAMES) or set(source.used_counts) == {UNLABELED_CODE}
    for cell, number in source.used_counts.items():
        codes = [code for code, label in source.labels.items() if label == cell]
        assert 0 < number <= sum(source.archive_counts[code] for code in codes)
    for text in (source.title, source.homepage, source.license, source.description):
        assert text == " ".join(text.split())
    assert source.citation.startswith("@") and source.citation.count("{") == source.citation.count(
        "}"
    )
    assert re.fullmatch(r"cc-by(-sa)?-[34]\.0", source.license) or not source.redistributable


@pytest.mark.parametrize("name", STATED)
@pytest.mark.parametrize("person", PEOPLE)
def test_image_id_cannot_be_a_persons_name(name: str, person: str) -> None:
    assert not re.fullmatch(dataset_scripts.load(name).image_id, person)


def test_unknown_source_suggests_nearest() -> None:
    with pytest.raises(ValueError, match="unknown source 'Acevedo-20'; did you mean 'acevedo_20'"):
        dataset_scripts.load("Acevedo-20")
    with pytest.raises(ValueError, match="choose from acevedo_20, class_folders, matek_19, mll_23"):
        dataset_scripts.load("zzz")
