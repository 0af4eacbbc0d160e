"""Every upload becomes images or error messages, and leaves nothing behind."""

import io
import os
import signal
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from support import app_files as files

from hf_wbc.app.limits import LIMITS
from hf_wbc.app.upload_reader import MEASURED_PIXELS, UploadedImage, read_part
from hf_wbc.app.uploads import NUM_WORKERS, read_uploads, remove_all, shown_name
from hf_wbc.data.decode_worker import DecodeWorkers, LimitExceeded
from hf_wbc.data.nucleus import find_nucleus
from hf_wbc.data.red_cells import red_cell_diameters

BAD = {
    "empty.png": (b"", "the file is empty"),
    "notes.txt": (b"cells, seen on Monday", "not an image"),
    "cut.jpg": (files.encoded("JPEG")[:-300], "damaged or incomplete"),
    "cut.png": (files.encoded()[:-300], "damaged or incomplete"),
    "half.tif": (files.encoded("TIFF")[:2000], "damaged or incomplete"),
    "grey16.png": (files.gray_16(), "16 bits per channel"),
    "colour16.png": (files.png_header(40, 40, 16), "16 bits per channel"),
    "print.jpg": (files.encoded("JPEG", "CMYK"), "CMYK"),
    "palette.png": (files.encoded("PNG", "P"), "palette"),
    "grey.png": (files.encoded("PNG", "L"), "grey"),
    "moving.gif": (files.animation("GIF"), "an animation"),
    "moving.webp": (files.animation("WEBP"), "an animation"),
    "bomb.png": (files.png_header(60_000, 60_000), "100 megapixels"),
    "large.png": (files.png_header(11_000, 10_000), "100 megapixels"),
    "drawing.svg": (b"<?xml version='1.0'?><svg><script>alert(1)</script></svg>", "SVG drawing"),
    "report.pdf": (b"%PDF-1.7 ...", "PDF document"),
    "film.mp4": (b"\0\0\0\x20ftypisom" + bytes(50), "a video"),
    "film.avi": (b"RIFF\0\0\0\0AVI LIST" + bytes(50), "a video"),
    "film.mkv": (b"\x1aE\xdf\xa3" + bytes(50), "a video"),
    "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(50), "HEIC"),
    "scan.dcm": (bytes(128) + b"DICM" + bytes(50), "DICOM"),
    "page.html": (b"<!DOCTYPE html><p>cells", "a web page"),
    "archive.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "7z archive"),
    "letter.docx": (files.zipped({"[Content_Types].xml": b"<x/>"}), "office document"),
    "broken.zip": (files.zipped({"a.png": files.encoded()})[:-40], "damaged zip"),
    "secret.zip": (files.encrypted(files.zipped({"a.png": files.encoded()})), "encrypted"),
    "slip.zip": (files.zipped({"../../etc/passwd.png": files.encoded()}), "points outside"),
    "drive.zip": (files.zipped({"C:\\cells\\a.png": files.encoded()}), "points outside"),
    "many.zip": (lambda: files.zipped({f"{i}.png": b"" for i in range(20_000)}), "20,000 files"),
    "bomb.zip": (lambda: files.bomb(5, 80), "unpacks to 400 MB"),
    "fat.zip": (lambda: files.bomb(1, 321), "larger than 320 MB"),
}


@pytest.mark.parametrize("name", BAD)
def test_non_image_file_is_refused_with_reason(name: str, tmp_path: Path) -> None:
    data, words = BAD[name]
    data = data() if callable(data) else data
    found = read_uploads(files.give(tmp_path, {name: data}))
    assert not found.pictures
    (refused,) = found.refused
    assert refused.name == name
    assert words in refused.why
    assert str(tmp_path) not in refused.why
    assert "--" not in refused.why and "archive again" not in refused.why


def test_good_files_are_read_and_bad_ones_named(tmp_path: Path) -> None:
    given = {"b.png": files.encoded(), "a.txt": b"words", "c.jpg": files.encoded("JPEG")}
    found = read_uploads(files.give(tmp_path, given))
    assert [picture.name for picture in found.pictures] == ["b.png", "c.jpg"]
    assert [refused.name for refused in found.refused] == ["a.txt"]


FOREIGN = {
    "DDS": b"DDS " + struct.pack("<I", 124) + bytes(68) + struct.pack("<I", 32) + bytes(50),
    "FTEX": b"FTEX" + struct.pack("<IIIII", 1, 8, 8, 1, 1) + bytes(58),
    "IM": b"Image type: L" + bytes(499),
    "PCX": b"\x0a\x05\x01\x08" + bytes(124),
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_unsupported_format_does_not_affect_other_files(kind: str, tmp_path: Path) -> None:
    given = {"a.png": files.encoded(), "b.png": FOREIGN[kind], "c.png": files.encoded(seed=1)}
    found = read_uploads(files.give(tmp_path, given))
    assert [picture.name for picture in found.pictures] == ["a.png", "c.png"]
    assert [(one.name, "not an image" in one.why) for one in found.refused] == [("b.png", True)]


@pytest.mark.parametrize(
    "error",
    [MemoryError, RecursionError, NotImplementedError, KeyError, struct.error, Warning],
    ids=lambda error: error.__name__,
)
def test_decoder_exception_does_not_affect_other_files(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = PngImagePlugin.PngImageFile.load

    def failing(image: Image.Image) -> object:
        if image.size == (7, 7):
            raise error("in the decoder")
        return load(image)

    bad = files.encoded(side=7)
    data = {"a.png": files.encoded(), "b.png": bad, "c.zip": files.zipped({"1.png": bad})}
    given = files.give(tmp_path, {**data, "d.png": files.encoded(seed=1)})
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", failing)
    found = read_uploads(given, run=lambda function, *args: function(*args))
    assert [picture.name for picture in found.pictures] == ["a.png", "d.png"]
    assert [one.name for one in found.refused] == ["b.png", "c.zip: 1.png"]


def test_uploads_are_read_one_after_another(tmp_path: Path) -> None:
    """With turns of one file, all uploads would be read late and then wait for the model."""
    uploads = [f"upload{number}" for number in range(2 * NUM_WORKERS)]
    files_read: list[str] = []
    barrier = Barrier(len(uploads))

    def run(function: Any, path: Path, name: str, *args: Any) -> Any:
        files_read.append(name.partition("-")[0])
        time.sleep(0.005)
        return function(path, name, *args)

    def read(upload: str) -> int:
        data = {f"{upload}-{i}.png": files.encoded() for i in range(8)}
        given = files.give(tmp_path / upload, data)
        barrier.wait(timeout=60)
        return len(read_uploads(given, run=run).pictures)

    with ThreadPoolExecutor(len(uploads)) as pool:
        assert [*pool.map(read, uploads)] == [8] * len(uploads)
    begun = [set(files_read[: i + 1]) for i in range(len(files_read))]
    unfinished = [set(files_read[i:]) for i in range(len(files_read))]
    at_once = [len(a & b) for a, b in zip(begun, unfinished, strict=True)]
    assert max(at_once) == NUM_WORKERS


def end_the_process(path: Path, *_: object) -> object:
    """Crash as a decoder does on a file whose name says so; else read the file."""
    if b"crash" in path.read_bytes():
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"endless" in path.read_bytes():
        while True:
            pass
    if b"memory" in path.read_bytes():
        return bytes(2**31)
    return [UploadedImage("good", files.cell())]


@pytest.mark.parametrize("measures", [True, False])
def test_workers_measure_the_scale_where_they_read(tmp_path: Path, measures: bool) -> None:
    given = {"a.png": files.encoded(), "b.zip": files.zipped({"c.png": files.encoded()})}
    for one in read_uploads(files.give(tmp_path, given), measures=measures).pictures:
        assert (vars(one).keys() >= {"nucleus", "red_cells"}) == measures
        assert one.nucleus == find_nucleus(one.pixels) is not None
        assert one.red_cells == red_cell_diameters(one.pixels)


def test_field_scale_is_not_bound_by_the_limit_of_one_file() -> None:
    side = int(MEASURED_PIXELS**0.5) + 1
    field = UploadedImage("field.png", np.zeros((side, side, 3), np.uint8))
    assert "red_cells" not in vars(field.measured())


@pytest.mark.slow
@pytest.mark.ci
def test_crashing_or_stalling_file_does_not_affect_others(tmp_path: Path) -> None:
    workers = DecodeWorkers(1, cpu_seconds=1, memory_bytes=2**28)
    kinds = (b"crash", b"good", b"endless", b"good", b"memory", b"good")
    given = files.give(tmp_path, {f"{n}.png": kind for n, kind in enumerate(kinds)})

    def run(function: Any, *args: Any) -> Any:
        return workers.run(end_the_process if function is read_part else function, *args)

    found = read_uploads(given, run=run)
    workers.close()
    assert len(found.pictures) == 3
    assert [one.name for one in found.refused] == ["0.png", "2.png", "4.png"]


def test_real_damaged_files_do_not_affect_others(shared: Path, tmp_path: Path) -> None:
    cases = shared / "cases"
    if not cases.is_dir():
        pytest.skip("no ../shared/cases beside the checkout")
    bad = {path.name: path.read_bytes() for path in sorted(cases.glob("[ai]*/*"))}
    good = {f"{number}.png": files.encoded(seed=number) for number in range(5)}
    found = read_uploads(files.give(tmp_path, {**bad, **good}))
    assert set(good) <= {picture.name for picture in found.pictures}
    assert not any("/" in one.why or "0x" in one.why for one in found.refused)


def test_decoded_pixels_match_file(tmp_path: Path) -> None:
    given = {
        "a.png": files.encoded(),
        "b.tif": files.encoded("TIFF"),
        "c.bmp": files.encoded("BMP"),
        "d.webp": files.encoded("WEBP", lossless=True),
        "e.png": files.encoded("PNG", "RGBA"),
    }
    for picture in read_uploads(files.give(tmp_path, given)).pictures:
        np.testing.assert_array_equal(picture.pixels, files.cell())


def test_zip_with_unicode_names_yields_its_images(tmp_path: Path) -> None:
    names = ["血液/细胞.png", "دم/خلية.png", "кровь/клетка.png", "🩸.png", "a b.png"]
    junk = {"__MACOSX/._a.png": b"x", ".DS_Store": b"x", ".hidden/a.png": b"x"}
    data = files.zipped({**{name: files.encoded() for name in names}, **junk})
    found = read_uploads(files.give(tmp_path, {"slide.zip": data}))
    assert not found.refused  # junk files are skipped, not refused
    assert {p.name for p in found.pictures} == {n.rpartition("/")[2] for n in names}
    assert list(tmp_path.rglob("*.png")) == []


def test_bad_zip_members_are_named_with_their_archive(tmp_path: Path) -> None:
    data = files.zipped(
        {"a.png": files.encoded(), "b.png": b"", "in.zip": files.zipped({"c": b""})}
    )
    found = read_uploads(files.give(tmp_path, {"slide.zip": data}))
    assert [picture.name for picture in found.pictures] == ["a.png"]
    assert [refused.name for refused in found.refused] == ["slide.zip: b.png", "slide.zip: in.zip"]


def test_tiff_pages_become_cells(tmp_path: Path) -> None:
    data = files.pages("RGB", "RGB", "I;16", "RGB", reduced=1)
    found = read_uploads(files.give(tmp_path, {"stack.tif": data}))
    assert [picture.name for picture in found.pictures] == [
        "stack.tif, page 1",
        "stack.tif, page 4",
    ]
    np.testing.assert_array_equal(found.pictures[1].pixels, files.cell(3))
    assert [refused.name for refused in found.refused] == ["stack.tif, page 3"]


def test_inputs_over_limits_are_refused_before_reading(tmp_path: Path) -> None:
    few = replace(LIMITS, num_cells=3)
    given = files.give(tmp_path, {f"{i}.png": files.encoded() for i in range(4)})
    found = read_uploads(given, few)
    assert not found.pictures and "more than this page accepts" in found.refused[0].why
    small = replace(LIMITS, total_bytes=2 * files.cell().nbytes)
    found = read_uploads(given, small)
    assert len(found.pictures) == 2
    assert found.refused[-1].name == "2.png"
    tiny = replace(LIMITS, file_bytes=1 << 10)
    assert "larger than" in read_uploads(given, tiny).refused[0].why


def test_large_images_lie_in_files_without_names(tmp_path: Path) -> None:
    small = replace(LIMITS, stored_pixels=99)
    data = {"a.png": files.encoded(), "b.tif": files.pages("RGB", "RGB")}
    given = files.give(tmp_path, {**data, "c.zip": files.zipped({"d.png": files.encoded(seed=1)})})
    found = read_uploads(given, small)
    assert [one.name for one in found.pictures] == [
        "a.png",
        "b.tif, page 1",
        "b.tif, page 2",
        "d.png",
    ]
    expected = read_uploads(given)
    for one, other in zip(found.pictures, expected.pictures, strict=True):
        assert isinstance(one.pixels, np.memmap) and not isinstance(other.pixels, np.memmap)
        assert np.array_equal(one.pixels, other.pixels) and one.digest == other.digest
    assert sorted(tmp_path.rglob("pixels-*")) == []


def test_unfinished_pixels_are_deleted(tmp_path: Path) -> None:
    def exceed(function: Any, path: Path, *args: Any) -> Any:
        if function is read_part:
            (path.parent / "pixels-a").write_bytes(bytes(9))
            raise LimitExceeded
        return function(path, *args)

    found = read_uploads(files.give(tmp_path, {"a.png": files.encoded()}), run=exceed)
    assert len(found.refused) == 1 and sorted(tmp_path.rglob("pixels-*")) == []


def test_metadata_is_stripped(tmp_path: Path) -> None:
    from hf_wbc.app import html_fragments

    exif = Image.Exif()
    exif[0x010E] = "PATIENT DOE"
    exif[0x9003] = "2026:01:01"
    data = files.encoded("JPEG", exif=exif, comment=b"PATIENT DOE")
    assert b"PATIENT DOE" in data
    (picture,) = read_uploads(files.give(tmp_path, {"a.jpg": data})).pictures
    assert type(picture.pixels) is np.ndarray
    import base64

    shown = base64.b64decode(html_fragments.full_image(picture.pixels).partition(",")[2])
    assert b"DOE" not in shown and not Image.open(io.BytesIO(shown)).getexif()


def test_files_are_deleted_with_their_folders(tmp_path: Path) -> None:
    given = files.give(tmp_path, {"a.png": files.encoded(), "b.png": b""})
    remove_all(given)
    remove_all(given)
    assert not (tmp_path / "uploads").exists()


def test_missing_upload_is_refused_with_reason(tmp_path: Path) -> None:
    given = files.give(tmp_path, {"a.png": files.encoded()})
    remove_all(given)
    assert "upload it again" in read_uploads(given).refused[0].why


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\slides\\a.png", "a.png"),
        ("a\x00\x1b[31m.png", "a\ufffd\ufffd[31m.png"),
        ("gnp.\u202eexe", "gnp.\ufffdexe"),
        ("/", "unnamed"),
        ("<img src=x>.png", "<img src=x>.png"),
    ],
)
def test_shown_name_drops_folders_and_control_characters(name: str, shown: str) -> None:
    assert shown_name(name) == shown


def test_long_name_keeps_its_end() -> None:
    assert len(shown_name("x" * 5000 + ".png")) <= 120
    assert shown_name("x" * 5000 + ".png").endswith(".png")
