"""`hf-wbc audit` detects planted problems in a folder and reports none for a clean one."""

import base64
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hf_wbc.cli.main import main
from hf_wbc.data.image_io import decode_rgb, encode_png, pixel_sha256
from hf_wbc.taxonomy import NAMES

pytestmark = pytest.mark.usefixtures("flat_maps")
Row = dict[str, Any]


def _edit(folder: Path, split: str, change: Callable[[list[Row]], list[Row]]) -> None:
    """Rewrite one split of a prepared folder."""
    (path,) = (folder / "cropped").glob(f"{split}-*.parquet")
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path)


@pytest.fixture
def make_clean(make_domain: Callable[..., Path]) -> Callable[..., Path]:
    """Prepare a tiny folder of distinct cells: discs of one class look repeated."""

    def make(path: Path, name: str = "toy_a", seed: int = 0, **options: Any) -> Path:
        folder = make_domain(path, name, seed=seed, **options)
        rng = np.random.default_rng(seed)
        for split in ("train", "validation", "test"):
            _edit(folder, split, lambda rows: [_repainted(row, _mottled(rng)) for row in rows])
        return folder

    return make


def _repainted(row: Row, paint: Callable[[np.ndarray], np.ndarray]) -> Row:
    """Return a row with changed pixels."""
    pixels = paint(decode_rgb(row["image"]["bytes"], row["image_id"]))
    image = {**row["image"], "bytes": encode_png(pixels)}
    return {**row, "image": image, "pixel_sha256": pixel_sha256(pixels)}


def _mottled(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Paint random dark spots inside an image's border."""

    def paint(pixels: np.ndarray) -> np.ndarray:
        spots = Image.fromarray(rng.integers(0, 2, (6, 6)).astype(np.uint8) * 160)
        shade = np.asarray(spots.resize((28, 28), Image.Resampling.NEAREST))
        painted = pixels.copy()
        painted[4:-4, 4:-4] -= np.minimum(painted[4:-4, 4:-4], shade[..., None])
        return painted

    return paint


def _tinted(pixels: np.ndarray) -> np.ndarray:
    """Return pixels with another background, as from another session."""
    ring = np.ones(pixels.shape[:2], bool)
    ring[4:-4, 4:-4] = False
    tinted = pixels.copy()
    tinted[ring, 1] -= 60
    return tinted


def _tint(rows: list[Row], label: str) -> list[Row]:
    """Give one class another background."""
    return [_repainted(row, _tinted) if NAMES[row["label"]] == label else row for row in rows]


def _record(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "audit.json").read_text())
    return record


def _kinds(out: Path, status: str = "undeclared") -> set[str]:
    return {f["kind"] for f in _record(out)["findings"] if f["status"] == status}


def test_clean_folder_passes_with_complete_page(make_clean, tmp_path):
    one = make_clean(tmp_path / "one", "toy_a")
    other = make_clean(tmp_path / "other", "toy_b", seed=1, background=(190, 200, 240))
    out = tmp_path / "deep" / "report"
    assert main(["audit", str(one), str(other), "--out", str(out), "--num-proc", "1"]) == 0
    record = _record(out)
    assert record["undeclared"] == 0
    assert _kinds(out, "expected") == {"background_domain", "class_shares"}
    assert record["classes"]["toy_a"] == dict.fromkeys(NAMES, 8)
    assert record["background"]["domain"]["balanced_accuracy"] == 1
    assert set(record["neighbors"]) == {"pixels"}
    share = record["representation"]["pixels"]
    assert share["index"]["value"] < 0.5, "the backgrounds differ more than the classes"
    assert share["laboratory_accuracy"] > 0.95 and share["laboratory_chance"] == 0.5
    maps = pq.read_table(out / "maps.parquet")
    assert maps.num_rows == 176 and {"pixels_x", "pixels_y"} <= set(maps.column_names)
    page = (out / "index.html").read_text(encoding="utf-8")
    _check_page(page, num_pictures=5)
    assert "There are no undeclared findings" in page and "robustness<br>index" in page
    assert {path.stem for path in (out / "pictures").iterdir()} >= {"classes", "map_0_class"}
    assert sorted(path.name for path in out.parent.iterdir()) == ["report"]


def _check_page(page: str, num_pictures: int) -> None:
    """Check that the page embeds every image, closes every tag, and loads nothing external."""
    sources = re.findall(r'<img src="([^"]+)"', page)
    assert len(sources) >= num_pictures
    for source in sources:
        head, data = source.split(",", 1)
        assert re.fullmatch(r"data:image/(png|jpeg);base64", head)
        Image.open(io.BytesIO(base64.b64decode(data))).load()
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import|<script", page)
    assert "viewport" in page and "@media print" in page

    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open_tags: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "img", "br"):
                self.open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open_tags.pop() == tag

    tags = Tags()
    tags.feed(page)
    assert not tags.open_tags


@pytest.mark.slow
@pytest.mark.ci
def test_planted_problems_are_found(make_clean, tmp_path, capsys):
    folder = make_clean(tmp_path / "toy", num_per_class={"train": 10, "validation": 4, "test": 4})
    (train,) = (folder / "cropped").glob("train-*.parquet")
    first, second, *_ = pq.read_table(train).to_pylist()
    for split in ("train", "validation", "test"):
        _edit(folder, split, lambda rows: _tint(rows, "erythroblast"))
    _edit(folder, "test", lambda rows: [*rows, {**first, "image_id": "copy.png"}])
    _edit(folder, "train", lambda rows: [*rows, {**second, "image_id": "other.png", "label": 9}])
    out = tmp_path / "report"
    assert main(["audit", str(folder), "--out", str(out), "--num-proc", "1"]) == 3
    assert _kinds(out) == {
        "identical_across_splits",
        "two_labels",
        "identical",
        "background_class",
    }
    found = {f["kind"]: f for f in _record(out)["findings"]}
    ids = [row["image_id"] for row in found["identical_across_splits"]["rows"][0]]
    assert sorted(ids) == sorted([first["image_id"], "copy.png"])
    labels = {row["label"] for row in found["two_labels"]["rows"][0]}
    assert labels == {"basophil", "monocyte"}
    assert "erythroblast (100%)" in found["background_class"]["meaning"]
    page = (out / "index.html").read_text(encoding="utf-8")
    _check_page(page, num_pictures=7)
    assert "<b>4 findings are not declared by their source.</b>" in page
    assert "4 undeclared findings" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.ci
def test_declared_problem_passes(make_clean, tmp_path):
    folder = make_clean(tmp_path / "toy", num_per_class={"train": 10, "validation": 4, "test": 4})
    for split in ("train", "validation", "test"):
        _edit(folder, split, lambda rows: _tint(rows, "erythroblast"))
    declared = {"background_class": "Erythroblasts were taken on another day."}
    (folder / "provenance.json").write_text(json.dumps({"declared": declared}))
    out = tmp_path / "report"
    assert main(["audit", str(folder), "--out", str(out), "--num-proc", "1"]) == 0
    assert _kinds(out, "declared") == {"background_class"}
    assert "Erythroblasts were taken on another day." in (out / "index.html").read_text()


@pytest.mark.slow  # audits three folders
@pytest.mark.ci
def test_unlabeled_folder_is_audited_and_compared_with_labeled(make_clean, tmp_path):
    labeled = make_clean(tmp_path / "mll", "mll_23")
    target = make_clean(tmp_path / "wbc", "wbc_1", seed=1, labeled=False)
    (train,) = (labeled / "cropped").glob("train-*.parquet")
    copy = {**pq.read_table(train).to_pylist()[0], "domain": "wbc_1", "label": -1}
    _edit(target, "test", lambda rows: [*rows, copy])
    out = tmp_path / "report"
    assert main(["audit", str(labeled), str(target), "--out", str(out), "--num-proc", "1"]) == 3
    assert _kinds(out) == {"shared_between_datasets"}
    assert _record(out)["shared"] == [
        {"domains": ["mll_23", "wbc_1"], "identical": 1, "overlapping": 0}
    ]
    assert "They do, see above" in (out / "index.html").read_text()
    assert main(["audit", str(target), "--out", str(out), "--num-proc", "1"]) == 0
    record = _record(out)
    assert record["classes"] == {} and record["background"] == {}
    assert _kinds(out, "expected") == {"unlabeled"}


def test_invalid_folders_are_reported(make_domain, tmp_path, capsys):
    folder = make_domain(tmp_path / "toy")
    (tmp_path / "empty").mkdir()
    out = str(tmp_path / "report")
    for arguments, message in (
        ([], "0 folders to audit"),
        (["nowhere/at_all"], "nowhere/at_all: no such folder"),
        ([str(tmp_path / "empty")], "empty"),
        ([str(folder), f"{folder}/../toy"], "are both 'toy_a'"),
        ([str(folder), "--num-proc", "0"], "num_proc is 0"),
        ([str(folder), "--model", "nowhere/at_all", "--out", "/proc/report"], "/proc/report"),
        ([str(folder), "--out", str(folder)], "was not created by `hf-wbc audit`"),
    ):
        assert main(["audit", *arguments, *([] if "--out" in arguments else ["--out", out])]) == 1
        assert message in capsys.readouterr().err
        assert not Path(out).exists()
    assert (folder / "cropped").is_dir()


def test_image_not_matching_its_checksum_is_reported(make_domain, tmp_path, capsys):
    folder = make_domain(tmp_path / "toy", num_per_class=1)
    _edit(folder, "test", lambda rows: [{**row, "pixel_sha256": "0" * 64} for row in rows])
    report = tmp_path / "report"
    assert main(["audit", str(folder), "--out", str(report), "--num-proc", "1"]) == 1
    assert "toy_a_test_basophil_0.png does not have the pixels that" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy"]


def test_concurrent_audit_into_same_folder_is_refused(make_domain, tmp_path, capsys):
    from hf_wbc.file_lock import lock_output

    folder, out = make_domain(tmp_path / "toy", num_per_class=1), tmp_path / "report"
    with lock_output(out):
        assert main(["audit", str(folder), "--out", str(out)]) == 1
    assert f"another command is writing {out}" in capsys.readouterr().err
