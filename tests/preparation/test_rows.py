"""From scanned images to rows: bad images are reported, and none is dropped silently."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_wbc.data.archive import open_archive
from hf_wbc.preparation.listing import EntryList, list_entries
from hf_wbc.preparation.rows import image_ids_sha256, select
from hf_wbc.preparation.scan import Scan
from hf_wbc.preparation.source import ArchiveSpec, KnownFault

Lab = Callable[..., ArchiveSpec]


@pytest.fixture
def entries(lab: Lab, write: Callable[..., Path], files: Mapping[str, bytes]) -> EntryList:
    archive = write(files)
    return list_entries(lab(), open_archive(archive, archive.parent))


def scanned(num: int, size: tuple[int, int] = (40, 32), **changes: dict[int, Any]) -> Scan:
    """Scan `num` valid images; `changes` overrides values by column and index."""
    columns = {
        "sizes": [size] * num,
        "num_bytes": [100] * num,
        "digests": [f"{place:064x}" for place in range(num)],
        "faults": [""] * num,
    }
    for name, values in changes.items():
        for place, value in values.items():
            columns[name][place] = value
    thumbnails = np.zeros((num, 48, 48), np.uint8)
    return Scan(**{n: np.array(v) for n, v in columns.items()}, thumbnails=thumbnails)


def place_of(entries: EntryList, image_id: str) -> int:
    return [entry.image_id for entry in entries.used].index(image_id)


def test_good_images_become_rows(lab: Lab, entries: EntryList) -> None:
    chosen = select(lab(), entries, scanned(25))
    assert [row.entry for row in chosen.rows] == list(entries.used)
    assert chosen.index == tuple(range(25))
    assert {(row.entry.source_label, row.label) for row in chosen.rows} == {
        ("BA", 0),
        ("EO", 1),
        ("MY", 5),
    }


def test_all_bad_images_are_reported_at_once(lab: Lab, entries: EntryList) -> None:
    scan = scanned(25, faults={3: "a.png: zero bytes", 24: "b.png: CMYK"}, sizes={7: (23, 90)})
    with pytest.raises(ValueError) as error:
        select(lab(), entries, scan)
    lines = str(error.value).splitlines()
    assert lines[0] == "3 of 25 images are bad:"
    assert [line.strip().partition(";")[0] for line in lines[1:]] == [
        "a.png: zero bytes",
        "BA/BA_07.png: 23x90 px is less than 25.0 um",
        "b.png: CMYK",
    ]


def test_skip_bad_continues_and_keeps_reasons(lab: Lab, entries: EntryList) -> None:
    chosen = select(lab(), entries, scanned(25, faults={3: "a.png: zero bytes"}), skip_bad=True)
    assert len(chosen.rows) == 24 and 3 not in chosen.index
    assert chosen.bad == {"BA_03.png": "a.png: zero bytes"}


def test_skip_bad_does_not_hide_other_missing_images(lab: Lab, entries: EntryList) -> None:
    scan = scanned(25, faults={3: "a.png: zero bytes"}, sizes={4: (41, 32)})
    source = lab(frame_px=frozenset({(40, 32)}))
    with pytest.raises(ValueError, match="basophil 8 instead of 9"):
        select(source, entries, scan, skip_bad=True)


def test_frames_of_other_sizes_are_counted_and_missing_ones_reported(
    lab: Lab, entries: EntryList
) -> None:
    scan = scanned(25, sizes={0: (41, 32), 1: (41, 32), 2: (50, 50)})
    source = lab(frame_px=frozenset({(40, 32)}))
    with pytest.raises(ValueError, match="basophil 7 instead of 10"):
        select(source, entries, scan)
    chosen = select(source, entries, scan, subset=True)
    assert chosen.other_frames == {"41x32": 2, "50x50": 1}
    whole = lab(frame_px=frozenset({(40, 32)}), used_counts={"basophil": 7}, names_sha256="x" * 64)
    with pytest.raises(ValueError, match=r"the file names do not: SHA-256 [0-9a-f]{64} instead"):
        select(whole, entries, scan)
    named = lab(
        frame_px=frozenset({(40, 32)}),
        used_counts={"basophil": 7},
        names_sha256=image_ids_sha256(chosen.rows),
    )
    assert select(named, entries, scan).rows == chosen.rows


def test_no_remaining_images_is_an_error(lab: Lab, entries: EntryList) -> None:
    source = lab(frame_px=frozenset({(99, 99)}))
    with pytest.raises(ValueError, match=r"no images remain; frames are 40x32 px \(25\)"):
        select(source, entries, scanned(25), subset=True)
    faults = {place: "bad" for place in range(25)}
    with pytest.raises(ValueError, match="no images remain; frames are all bad"):
        select(lab(), entries, scanned(25, faults=faults), subset=True, skip_bad=True)


def test_image_with_two_labels_is_bad_unless_declared(
    lab: Lab, entries: EntryList, two_labels: Callable[..., KnownFault]
) -> None:
    pair = ("BA_02.png", "EO_05.png")
    places = [place_of(entries, image_id) for image_id in pair]
    scan = scanned(25, digests=dict.fromkeys(places, "f" * 64))
    with pytest.raises(ValueError) as error:
        select(lab(), entries, scan)
    for path, other in (
        ("BA/BA_02.png: labeled BA", pair[1]),
        ("EO/EO_05.png: labeled EO", pair[0]),
    ):
        assert f"{path}, but has the same pixels as {other} with another label;" in str(error.value)
    skipped = select(lab(), entries, scan, skip_bad=True)
    assert set(skipped.bad) == set(pair) and len(skipped.rows) == 23
    declared = select(lab(faults=(two_labels(*pair),)), entries, scan)
    assert {row.entry.image_id for row in declared.rows if row.train_only} == set(pair)
    assert len(declared.rows) == 25 and not declared.bad


def test_declared_pair_does_not_excuse_a_third_image(
    lab: Lab, entries: EntryList, two_labels: Callable[..., KnownFault]
) -> None:
    ids = ("BA_02.png", "EO_05.png", "MY_01.png")
    scan = scanned(25, digests={place_of(entries, image_id): "f" * 64 for image_id in ids})
    with pytest.raises(ValueError, match="3 of 25 images are bad"):
        select(lab(faults=(two_labels(*ids[:2]),)), entries, scan)


def test_equal_pixels_with_same_label_are_two_rows(lab: Lab, entries: EntryList) -> None:
    assert len(select(lab(), entries, scanned(25, digests={1: "f" * 64, 2: "f" * 64})).rows) == 25


def test_source_without_scale_accepts_any_frame_size(lab: Lab, entries: EntryList) -> None:
    chosen = select(lab(um_per_px=None), entries, scanned(25, size=(3, 2)))
    assert len(chosen.rows) == 25


def test_scan_round_trips_through_file(tmp_path: Path) -> None:
    scan = scanned(3, faults={1: "ü.png: bad"})
    scan.save(tmp_path / "scan.npz")
    again = Scan.load(tmp_path / "scan.npz")
    for name, values in vars(scan).items():
        assert (getattr(again, name) == values).all() and getattr(again, name).dtype == values.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["scan.npz"]
