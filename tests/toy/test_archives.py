"""The real sources' scripts read the toy archives, whose bytes depend only on the seed."""

import hashlib
import importlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_wbc.cli.toy import toy
from hf_wbc.data.archive import open_archive
from hf_wbc.data.image_io import decode_rgb
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.toy import archives
from hf_wbc.toy.archives import (
    LABORATORIES,
    RECIPE_VERSION,
    SIZES,
    draw_archives,
    draw_image,
    num_images,
)

SOURCES = tuple(laboratory.source for laboratory in LABORATORIES)


def source_of(name: str) -> ArchiveSpec:
    found = importlib.import_module(f"dataset_scripts.{name}").SOURCE
    assert isinstance(found, ArchiveSpec)
    return found


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", SOURCES)
def test_dataset_script_finds_every_cell_under_its_class(
    toy_archives: dict[str, Path], tmp_path: Path, name: str
) -> None:
    source = source_of(name)
    archive = open_archive(toy_archives[name], tmp_path)
    entries = list(source.walk(archive))
    counts = Counter(source.labels[entry.source_label] for entry in entries)
    assert set(counts) == set(source.used_counts) and set(counts.values()) == {6}
    assert all(re.fullmatch(source.image_id, entry.image_id) for entry in entries)


@pytest.mark.parametrize("name", SOURCES)
def test_every_image_has_the_declared_frame_size(
    toy_archives: dict[str, Path], tmp_path: Path, name: str
) -> None:
    source = source_of(name)
    assert source.um_per_px is not None
    (frame,) = source.frame_px or {(288, 288)}
    archive = open_archive(toy_archives[name], tmp_path)
    for entry in source.walk(archive):
        pixels = decode_rgb(archive.read(entry.member), entry.member)
        assert pixels.shape == (*frame[::-1], 3)
    laboratory = next(lab for lab in LABORATORIES if lab.source == name)
    assert laboratory.scanner.um_per_px == pytest.approx(source.um_per_px)
    assert laboratory.num_real == {key: num for key, num in source.used_counts.items() if num}


@pytest.mark.parametrize(
    ("name", "suffix", "kind", "mode"),
    [
        ("acevedo_20", ".jpg", "JPEG", "RGB"),
        ("matek_19", ".tiff", "TIFF", "RGBA"),
        ("mll_23", ".TIF", "TIFF", "RGB"),
    ],
)
def test_every_image_has_archive_format_and_toy_comment(
    toy_archives: dict[str, Path], name: str, suffix: str, kind: str, mode: str
) -> None:
    paths = [path for path in toy_archives[name].rglob("*") if path.suffix == suffix]
    assert len(paths) in (60, 66)
    for path in paths[::9]:
        with Image.open(path) as image:
            assert (image.format, image.mode) == (kind, mode)
            if isinstance(image, Image.Image) and kind == "TIFF":
                said = image.tag_v2[270]  # type: ignore[attr-defined]
            else:
                said = image.info["comment"].decode()
        assert said == archives.COMMENT


def test_toy_txt_is_next_to_and_inside_the_archives(toy_archives: dict[str, Path]) -> None:
    beside = next(iter(toy_archives.values())).parent / "TOY.txt"
    for path in (beside, *(folder / "TOY.txt" for folder in toy_archives.values())):
        assert path.read_text().startswith("TOY DATA")


def test_annotations_list_every_matek_image(toy_archives: dict[str, Path]) -> None:
    folder = toy_archives["matek_19"]
    rows = [line.split() for line in (folder / "annotations.dat").read_text().splitlines()]
    assert len(rows) == 66
    for path, code, *again in rows:
        assert (folder / "AML-Cytomorphology" / path).is_file()
        assert path.startswith(f"{code}/{code}_") and again == ["nan", "nan"]


@pytest.mark.slow
@pytest.mark.ci
def test_bytes_are_independent_of_number_of_processes(
    toy_archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = archives._jobs
    monkeypatch.setattr(archives, "_jobs", lambda size: [*jobs(size)][::8])
    several = draw_archives(tmp_path, seed=0, size="tiny", num_proc=2)
    for name, folder in toy_archives.items():
        tables = (".txt", ".dat")
        found = {k: v for k, v in digests(several[name]).items() if not k.endswith(tables)}
        assert len(found) == 8 and found.items() <= digests(folder).items()


def test_cells_depend_on_seed() -> None:
    laboratory = LABORATORIES[2]
    first, again, other = (draw_image(laboratory, "monocyte", 0, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("laboratory", LABORATORIES, ids=SOURCES)
def test_every_class_has_at_least_six_images(laboratory: archives.Laboratory, size: str) -> None:
    numbers = num_images(laboratory, size)
    assert min(numbers.values()) >= 6
    paths = {laboratory.path(name, i) for name, num in numbers.items() for i in range(num)}
    assert len(paths) == sum(numbers.values())
    if laboratory.source == "acevedo_20":
        assert "myeloblast" not in numbers
    if laboratory.source == "matek_19":
        assert numbers["metamyelocyte"] == 6


def test_priors_differ_between_laboratories_realistically() -> None:
    names = [name for name in LABORATORIES[1].codes]
    priors = []
    for laboratory in LABORATORIES:
        numbers = num_images(laboratory, "small")
        priors.append(np.array([numbers.get(name, 0) for name in names]) / sum(numbers.values()))
    a, b, c = priors
    variations = [abs(p - q).sum() / 2 for p, q in ((a, b), (a, c), (b, c))]
    # The real datasets have 0.66, 0.48, and 0.30.
    assert variations == pytest.approx([0.6, 0.44, 0.24], abs=0.06)


def test_archives_of_same_recipe_are_kept(
    toy_archives: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_draw_all", lambda *_: pytest.fail("drawn again"))
    out = toy_archives["mll_23"].parent
    assert draw_archives(out, seed=0, size="tiny") == toy_archives


def test_archives_of_another_recipe_are_refused(toy_archives: dict[str, Path]) -> None:
    out = toy_archives["mll_23"].parent
    with pytest.raises(ValueError, match=r"another recipe \(seed 0, size tiny.*--out"):
        draw_archives(out, seed=1, size="tiny")


def test_real_archive_is_never_mixed_with_a_toy(tmp_path: Path) -> None:
    real = tmp_path / "PBC_dataset_normal_DIB" / "basophil" / "BA_100102.jpg"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"cell")
    with pytest.raises(ValueError, match=r"PBC_dataset_normal_DIB already exists.*--out"):
        draw_archives(tmp_path, size="tiny")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [real]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_drawing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(archives, "_annotate", fail)
    monkeypatch.setattr(archives, "_write", lambda *_: None)
    with pytest.raises(type(error)):
        draw_archives(tmp_path, size="tiny", num_proc=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"size": "huge"}, "unknown size 'huge'; choose from tiny, small, full"),
        ({"num_proc": 0}, "num_proc is 0"),
    ],
)
def test_bad_input_is_reported(tmp_path: Path, change: dict[str, int | str], message: str) -> None:
    draw: Callable[..., object] = draw_archives
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "out", **change)
    assert not list(tmp_path.iterdir())


def test_progress_reaches_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_write", lambda *_: None)
    seen: list[tuple[int, int]] = []
    draw_archives(
        tmp_path,
        size="tiny",
        num_proc=1,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i + 1, 192) for i in range(192)]


def test_command_prints_location_of_each_archive(
    toy_archives: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    toy(toy_archives["mll_23"].parent, size="tiny")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{name}: {folder}" for name, folder in toy_archives.items()]


def test_command_module_imports_nothing_heavy() -> None:
    code = "import sys, hf_wbc.cli.toy; print([m for m in ('numpy', 'scipy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_pixels_change_only_with_recipe_version() -> None:
    """Means of the quarters of one image per laboratory; raise RECIPE_VERSION to change them."""
    known = {
        "acevedo_20": [(209.55, 176.33, 182.63), (217.15, 185.18, 183.87)],
        "matek_19": [(186.28, 157.39, 208.18), (196.24, 175.0, 213.1)],
        "mll_23": [(194.15, 166.62, 188.26), (197.14, 170.28, 192.15)],
    }
    assert RECIPE_VERSION == 1
    for laboratory in LABORATORIES:
        pixels = draw_image(laboratory, "monocyte", 0).astype(float)
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        quarters = pixels[:height, :width], pixels[height : 2 * height, width : 2 * width]
        means = [quarter.mean((0, 1)) for quarter in quarters]
        assert np.abs(means - np.array(known[laboratory.source])).max() < 0.05


def test_wording_of_notice_is_not_part_of_the_recipe(
    toy_archives: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "toy"
    for folder in toy_archives.values():
        (out / folder.name).mkdir(parents=True)
    notice = (next(iter(toy_archives.values())).parent / "TOY.txt").read_text()
    (out / "TOY.txt").write_text("Other words.\n" + notice.splitlines()[-1] + "\n")
    kept = draw_archives(out, seed=0, size="tiny")
    assert {path.name for path in kept.values()} == {
        path.name for path in out.iterdir() if path.is_dir()
    }
    assert (out / "TOY.txt").read_text().startswith("Other words.")
