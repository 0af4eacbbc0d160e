"""An archive's listing matches its source, or every difference is named."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hf_wbc.data.archive import open_archive
from hf_wbc.preparation.listing import EntryList, count_differences, list_entries
from hf_wbc.preparation.source import ArchiveSpec, Entry, KnownFault

Lab = Callable[..., ArchiveSpec]
Write = Callable[..., Path]


def listed(source: ArchiveSpec, folder: Path, *, subset: bool = False) -> EntryList:
    return list_entries(source, open_archive(folder, folder.parent), subset=subset)


def test_complete_archive_is_listed_by_image_id(
    lab: Lab, write: Write, files: Mapping[str, bytes]
) -> None:
    entries = listed(lab(), write(files))
    ids = [entry.image_id for entry in entries.used]
    assert ids == sorted(name.rpartition("/")[2] for name in files if "PLT" not in name)
    assert entries.outside == {"PLT": 2}
    assert entries.skipped == ()


def test_every_count_difference_is_reported(
    lab: Lab, write: Write, files: Mapping[str, bytes]
) -> None:
    some = {name: data for name, data in files.items() if name[:5] not in ("EO/EO", "MY/MY")}
    archive = write({**some, "BA/BA_99.png": b"", "EO/EO_1.png": b""})
    expected = "BA 11 instead of 10; EO 1 instead of 12; MY 0 instead of 3"
    with pytest.raises(ValueError, match=f"{archive}.*lab_a: {expected}.*--subset"):
        listed(lab(), archive)
    assert len(listed(lab(), archive, subset=True).used) == 12


def test_total_is_checked_when_codes_are_not_counted(
    lab: Lab, write: Write, files: Mapping[str, bytes]
) -> None:
    with pytest.raises(ValueError, match="27 images instead of 1,591"):
        listed(lab(archive_counts={}, num_images=1591), write(files))


@pytest.mark.parametrize("subset", [False, True])
def test_unknown_codes_are_reported_with_their_files(
    lab: Lab, write: Write, files: Mapping[str, bytes], subset: bool
) -> None:
    archive = write({**files, "QX/QX_1.png": b"", "QX/QX_2.png": b"", "MY/my_1.png": b""})
    words = r"QX \(2 files, such as QX/QX_1\.png\), my \(1 files, such as MY/my_1\.png\)"
    with pytest.raises(ValueError, match=f"{words}.*known are BA, EO, MY, PLT"):
        listed(lab(), archive, subset=subset)


def test_unpublished_file_names_are_refused(
    lab: Lab, write: Write, files: Mapping[str, bytes]
) -> None:
    archive = write({**files, "BA/BA_Jane Doe.png": b""})
    with pytest.raises(ValueError, match=r"BA/BA_Jane Doe\.png; restore their published names"):
        listed(lab(), archive)


def test_duplicate_image_ids_are_refused(
    lab: Lab, write: Write, files: Mapping[str, bytes]
) -> None:
    with pytest.raises(ValueError, match=r"1 image ids belong to more than one file: BA_00\.png"):
        listed(lab(), write({**files, "again/BA_00.png": b""}))


def test_archive_without_used_classes_is_refused(lab: Lab, write: Write) -> None:
    with pytest.raises(ValueError, match="no image of a class that lab_a uses"):
        listed(lab(), write({"PLT/PLT_1.png": b""}), subset=True)


def test_declared_fault_is_skipped_and_not_counted(
    lab: Lab, write: Write, files: Mapping[str, bytes]
) -> None:
    fault = KnownFault(("BA_77.png",), "not_an_image", "skip", "A note.")
    entries = listed(lab(faults=(fault,)), write({**files, "BA/BA_77.png": b"text"}))
    assert entries.skipped == ("BA_77.png",)
    assert len(entries.used) == 25


def test_digest_depends_on_every_field_of_an_entry(
    lab: Lab, write: Write, files: Mapping[str, bytes]
) -> None:
    archive = write(files)
    plain = listed(lab(), archive).digest
    assert listed(lab(), archive).digest == plain
    walk = lab().walk
    for change in (
        {"group": "p1"},
        {"source_label": "EO"},
        {"image_id": "BA_500.png"},
        {"member": "elsewhere/BA_00.png"},
    ):

        def changed(archive, change=change):
            for entry in walk(archive):
                is_first = entry.image_id == "BA_00.png"
                yield Entry(**{**vars(entry), **change}) if is_first else entry

        source = lab(walk=changed, archive_counts={})
        assert listed(source, archive).digest != plain, change


def test_count_differences_cover_only_stated_counts() -> None:
    assert count_differences({"a": 1, "b": 2000}, {"a": 1, "b": 1999}) == "b 1,999 instead of 2,000"
    assert count_differences({"a": 1}, {"a": 1, "c": 9}) == ""
    assert re.fullmatch("", count_differences({}, {"a": 1}))
