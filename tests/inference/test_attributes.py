"""Attributes are read, joined by file name, trained, and compared with annotators."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_wbc.cli.main import main
from hf_wbc.inference import attributes as module
from hf_wbc.inference.attributes import class_consistency, read_attributes, train_attributes
from hf_wbc.models.attribute_head import AttributeHead
from hf_wbc.models.stage_features import num_stage_features
from hf_wbc.shipped import shipped
from hf_wbc.taxonomy import NAMES

TOY = str(shipped("spaces/wbc/toy_model"))
HEADER = "img_name,label,granularity,cell_size\n"


@pytest.fixture
def lab(make_domain: Callable[..., Any], tmp_path: Path) -> str:
    return str(make_domain(tmp_path / "lab", name="lab", num_per_class=3, seed=4))


def write_table(path: Path, lab: str) -> Path:
    """Write attributes that follow from the class of each cell."""
    from hf_wbc.data.dataset import load_split

    lines = []
    for split in ("train", "test"):
        for name, label in zip(
            (domain := load_split(lab, split)).image_ids, domain.labels, strict=True
        ):
            size = "big" if label < 5 else "small"
            lines.append(f"folder/{name},x,{'yes' if label % 2 else 'no'},{size}\n")
    path.write_text(HEADER + "".join(lines))
    return path


def test_head_is_trained_scored_and_saved_with_model(
    lab: str,
    make_domain: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "FEWEST_CELLS", 3)
    monkeypatch.setattr(module, "FEWEST_OF_CLASS", 3)
    other = str(make_domain(tmp_path / "other", name="other", num_per_class=3, seed=5))
    table = write_table(tmp_path / "attributes.csv", lab)
    out = tmp_path / "model"
    out.mkdir()
    words = ["attributes", TOY, lab, "--table", str(table), "--second", str(table)]
    assert main([*words, "--out", str(out), "--elsewhere", other]) == 0
    said = capsys.readouterr().out
    assert "other" in said and "nearly all of their class" in said
    assert "granularity" in said and "mean F1" in said
    classifier = module.load_trained(TOY).classifier
    width = num_stage_features(classifier, 32)
    head = AttributeHead.load(out, classifier.num_features, lambda: width)
    assert (
        head is not None
        and head.has_stages
        and head.facts["num_train"] == head.facts["num_test"] == 33
    )
    assert head.facts["agreement"] == {"granularity": 1.0, "cell_size": 1.0}
    assert 0 < head.facts["f1"]["cell_size"] <= 1
    consistency = head.facts["consistency"]
    assert list(consistency) == ["lab", "other"]
    assert all(0 < share <= 1 for share in consistency["lab"].values())
    assert list(consistency["other"]) == ["granularity", "cell_size"]
    for name in head.values:
        assert (name in head.reliable) == (head.facts["f1"][name] >= 0.95)


def test_consistency_is_share_of_cells_with_value_of_their_class() -> None:
    values = {"granules": ("no", "yes"), "size": ("big", "small")}
    head = AttributeHead(
        values, torch.tensor([[0.0], [1.0], [0.0], [1.0]]), torch.zeros(4), {}
    )  # positive features: granules and small
    features = np.array([[1.0]] * 15 + [[-1.0]] * 5 + [[1.0]] * 12 + [[-1.0]] * 9, np.float32)
    labels = np.array([0] * 20 + [1] * 12 + [2] * 9)
    typical = {
        NAMES[0]: {"granules": {"no": 0.02, "yes": 0.98}, "size": {"big": 0.5, "small": 0.5}},
        NAMES[1]: {"granules": {"no": 0.95, "yes": 0.05}, "size": {"big": 0.1, "small": 0.9}},
        NAMES[2]: {"granules": {"no": 0.0, "yes": 1.0}, "size": {"big": 0.0, "small": 1.0}},
    }
    found = class_consistency(head, typical, features, labels)
    assert found == {"granules": (15 / 20 + 0) / 2, "size": 1.0}  # nine cells are too few


@pytest.mark.parametrize("lacks", ["column", "values"])
def test_attribute_without_agreement_is_never_reliable(
    lab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    monkeypatch.setattr(module, "FEWEST_CELLS", 10)
    table = read_attributes([write_table(tmp_path / "attributes.csv", lab)])
    kept = {"granularity": "yes"} if lacks == "column" else {"granularity": "yes", "cell_size": ""}
    again = {name: {**kept} for name in table}
    with pytest.raises(ValueError, match="second table has no known values of cell_size"):
        train_attributes(TOY, lab, table, again)


def test_unmatched_cells_are_reported(lab: str, tmp_path: Path) -> None:
    path = tmp_path / "attributes.csv"
    path.write_text(HEADER + "XX_1.jpg,x,yes,big\n")
    with pytest.raises(ValueError, match=r"only 0 train cells .* the table's like XX_1.jpg"):
        train_attributes(TOY, lab, read_attributes([path]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,size\na,b\n", "has no column img_name"),
        (HEADER, "no attributes of any cell"),
        (HEADER + "a,x,yes,big\nd/a,x,no,big\n", "a has two rows that differ"),
        (HEADER + "a,x,yes,big\n\nb\n", "line 4: 1 cells in a table of 4 columns"),
        (HEADER + 'a,x,yes,"big\n', "line 2"),
    ],
)
def test_damaged_table_is_reported(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "attributes.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_attributes([path])
    with pytest.raises(OSError, match=r"none\.csv"):
        read_attributes([tmp_path / "none.csv"])


def test_public_table_has_eleven_attributes(shared: Path) -> None:
    folder = shared / "data/wbcatt"
    if not folder.is_dir():
        pytest.skip("no ../shared/data/wbcatt")
    paths = [folder / f"pbc_attr_v1_{split}.csv" for split in ("train", "val", "test")]
    found = read_attributes(paths)
    assert len(found) == 10_298
    again = read_attributes([folder / "pbc_attr_reannotations.csv"])
    values = module._values(list(found.values()))
    agreement = module._agreement(found, again, values)
    assert len(agreement) == 11
    assert agreement["granularity"] > 0.99 > agreement["nucleus_shape"] > 0.8
