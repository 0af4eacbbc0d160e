"""A domain is defined by its Parquet files; errors name everything that is inconsistent."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_wbc.data.dataset import load_split
from hf_wbc.data.schema import row_features
from hf_wbc.taxonomy import NAMES

MakeDomain = Callable[..., Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path, make_domain: MakeDomain) -> Path:
    return make_domain(tmp_path / "toy", num_per_class=1)


def rewrite(folder: Path, change: Callable[[pa.Table], pa.Table], split: str = "train") -> None:
    """Change the rows of a split under an unchanged README."""
    path = folder / "cropped" / f"{split}-00000-of-00001.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def replaced(name: str, values: Callable[[list[object]], list[object]]) -> object:
    """Return a change of one column that keeps its type and the schema's metadata."""

    def change(table: pa.Table) -> pa.Table:
        number, kind = table.schema.get_field_index(name), table.schema.field(name)
        return table.set_column(number, kind, pa.array(values(table[name].to_pylist()), kind.type))

    return change


def test_domain_has_name_labels_and_scale(folder: Path) -> None:
    domain = load_split(str(folder), "train")
    assert domain.name == "toy_a"
    assert domain.labels.tolist() == list(range(len(NAMES)))
    assert domain.um_per_px == pytest.approx(25 / 36)
    assert domain.revision is None
    assert domain.image_ids[0] == "toy_a_train_basophil_0.png"
    assert domain.dataset[0]["image"].size == (36, 36)
    assert domain.dataset.features == row_features()


def test_domain_without_scale_or_labels_loads(tmp_path: Path, make_domain: MakeDomain) -> None:
    folder = make_domain(tmp_path / "toy", num_per_class=1, um_per_px=None, labeled=False)
    domain = load_split(str(folder), "test")
    assert domain.um_per_px is None
    assert set(domain.labels.tolist()) == {-1}


def test_changed_rows_under_unchanged_readme_are_detected(folder: Path) -> None:
    before = load_split(str(folder), "train")
    rewrite(folder, replaced("label", lambda labels: labels[::-1]))
    after = load_split(str(folder), "train")
    assert after.labels.tolist() == after.dataset["label"][:] == before.labels.tolist()[::-1]
    assert after.fingerprint != before.fingerprint


def test_fingerprint_depends_on_content_and_not_location(folder: Path) -> None:
    copy = folder.with_name("elsewhere")
    shutil.copytree(folder, copy)
    first, second = (load_split(str(path), "train").fingerprint for path in (folder, copy))
    assert first == second
    assert first != load_split(str(folder), "test").fingerprint


@pytest.mark.parametrize("column", ["image_id", "group", "pixel_sha256"])
def test_fingerprint_depends_on_every_column(folder: Path, column: str) -> None:
    before = load_split(str(folder), "train").fingerprint
    rewrite(folder, replaced(column, lambda values: ["other", *values[1:]]))
    assert load_split(str(folder), "train").fingerprint != before


def test_shards_are_read_in_order(folder: Path) -> None:
    whole = load_split(str(folder), "train")
    path = folder / "cropped" / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    path.unlink()
    for number, part in enumerate((table[:4], table[4:])):
        pq.write_table(part, path.with_name(f"train-0000{number}-of-00002.parquet"))
    sharded = load_split(str(folder), "train")
    assert sharded.fingerprint == whole.fingerprint
    assert sharded.dataset["image_id"][:] == whole.image_ids
    path.with_name("train-00001-of-00002.parquet").unlink()
    with pytest.raises(ValueError, match=r"train-00000-of-00002.parquet; build it again"):
        load_split(str(folder), "train")


@pytest.fixture
def hub_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cache the dataset `lab/wbc-toy` as huggingface_hub does, without network access."""
    cache = folder.parent / "hub"
    repo = cache / "datasets--lab--wbc-toy"
    shutil.copytree(folder, repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


@pytest.mark.parametrize("ref", ["lab/wbc-toy", "lab/wbc-toy@main", f"lab/wbc-toy@{COMMIT}"])
def test_hub_dataset_is_pinned_to_its_commit(hub_cache: Path, folder: Path, ref: str) -> None:
    domain = load_split(ref, "train")
    assert domain.revision == COMMIT
    assert domain.fingerprint == load_split(str(folder), "train").fingerprint


def test_missing_hub_dataset_is_reported(hub_cache: Path) -> None:
    with pytest.raises(ValueError, match="lab/nothing: no such folder, and the Hub"):
        load_split("lab/nothing", "train")


def test_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder; give a folder that `hf-wbc prepare`"):
        load_split(str(tmp_path / "nothing"), "train")


def test_unknown_split_is_reported(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown split 'valid'; did you mean 'validation'\?"):
        load_split(str(folder), "valid")


def test_missing_config_is_reported(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"original/ should contain train-00000-of-0000N.parquet"):
        load_split(str(folder), "train", "original")


def test_damaged_file_is_reported(folder: Path) -> None:
    path = folder / "cropped" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"train-00000-of-00001.parquet cannot be read"):
        load_split(str(folder), "train")


@pytest.mark.parametrize("place", ["its first page", "its footer"])
def test_internally_damaged_file_is_reported(folder: Path, place: str) -> None:
    path = folder / "cropped" / "train-00000-of-00001.parquet"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[-8:-4], "little")
    start = 4 if place == "its first page" else len(data) - 8 - length
    data[start : start + 60] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"train-00000-of-00001.parquet.* build it again"):
        load_split(str(folder), "train")


def test_different_class_order_is_refused(folder: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        metadata = {
            key: value.replace(b'"basophil", "eosinophil"', b'"eosinophil", "basophil"')
            for key, value in table.schema.metadata.items()
        }
        assert metadata != table.schema.metadata
        return table.replace_schema_metadata(metadata)

    rewrite(folder, change)
    with pytest.raises(ValueError, match=r"its classes are eosinophil, basophil, .* instead of"):
        load_split(str(folder), "train")


def test_missing_column_is_reported(folder: Path) -> None:
    rewrite(folder, lambda table: table.drop_columns(["um_per_px"]))
    with pytest.raises(ValueError, match="has no column 'um_per_px', so it is not a dataset of"):
        load_split(str(folder), "train")


def test_rows_without_schema_types_are_refused(folder: Path) -> None:
    rewrite(folder, lambda table: table.replace_schema_metadata(None))
    with pytest.raises(ValueError, match=r"column 'image' is .*, not Image"):
        load_split(str(folder), "train")


BAD_VALUES = {
    "domain": (lambda values: ["other", *values[1:]], "domain is other, toy_a within one dataset"),
    "um_per_px": (lambda values: [0.1, *values[1:]], "um_per_px is 0.1, 0.69"),
    "label": (lambda values: [11, *values[1:]], "labels 11 are outside -1..10"),
}


@pytest.mark.parametrize("column", BAD_VALUES)
def test_contradictory_rows_are_refused(folder: Path, column: str) -> None:
    values, message = BAD_VALUES[column]
    rewrite(folder, replaced(column, values))
    with pytest.raises(ValueError, match=message):
        load_split(str(folder), "train")


@pytest.mark.parametrize(
    "name", ["../../elsewhere", "/tmp/x", "a\\b", "..", "a\x1b[2J", "x" * 300, "a\nb"]
)
def test_domain_name_outside_the_cache_is_rejected(folder: Path, name: str) -> None:
    """Caches and tables are named after it."""
    rewrite(folder, replaced("domain", lambda values: [name] * len(values)))
    with pytest.raises(ValueError, match="the domain is"):
        load_split(str(folder), "train")


def test_scale_missing_from_some_rows_is_refused(folder: Path) -> None:
    rewrite(folder, replaced("um_per_px", lambda values: [None, *values[1:]]))
    with pytest.raises(ValueError, match=r"um_per_px is 0.69.*, None within one dataset"):
        load_split(str(folder), "train")


def test_scale_of_zero_is_refused(folder: Path) -> None:
    rewrite(folder, replaced("um_per_px", lambda values: [0.0] * len(values)))
    with pytest.raises(ValueError, match="must be a positive number"):
        load_split(str(folder), "train")


def test_crops_not_matching_stated_scale_are_refused(folder: Path) -> None:
    rewrite(folder, replaced("um_per_px", lambda values: [0.1] * len(values)))
    with pytest.raises(ValueError, match=r"crops are 36x36 px, and 25 um are 250 px at .* 0\.1 "):
        load_split(str(folder), "train")


def test_empty_split_is_refused(folder: Path) -> None:
    rewrite(folder, lambda table: table[:0])
    with pytest.raises(ValueError, match=r"no rows in train-00000-of-00001.parquet"):
        load_split(str(folder), "train")
