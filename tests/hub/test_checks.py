"""Files that must not be published are named before any upload, whatever their file names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.hub_publications import MODEL, small
from support.hub_server import LoopbackHub

from hf_wbc.hub.checks import check_publication
from hf_wbc.hub.publication import Manifest, Publication
from hf_wbc.hub.publish import publish
from hf_wbc.taxonomy import NAMES


def config(labels: tuple[str, ...] = NAMES) -> bytes:
    return json.dumps({"id2label": dict(enumerate(labels))}).encode()


def weights() -> bytes:
    from safetensors.numpy import save

    return save({"weight": np.zeros(4, np.float32)})


def test_pickled_weights_are_refused_under_any_name() -> None:
    import io
    import pickle
    import zipfile

    import torch

    checkpoint = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, checkpoint)
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("hf_wbc/__init__.py", "")
    model = {"config_json": config(), "model_safetensors": weights()}
    check_publication(small("model", **model, other_whl=wheel.getvalue()))
    for name, content in (
        ("pytorch_model_bin", b"1"),
        ("innocent_txt", pickle.dumps({"a": 1})),
        ("archive_dat", checkpoint.getvalue()),
    ):
        with pytest.raises(ValueError, match=f"1 pickles.*{name.replace('_m', '.m')[:5]}.*safeten"):
            check_publication(small("model", **model, **{name: content}))


def test_model_with_other_labels_is_refused(hub: LoopbackHub) -> None:
    swapped = (NAMES[1], NAMES[0], *NAMES[2:])
    for labels, words in (
        (("cat", "dog"), "lacks basophil.*other labels: cat, dog"),
        (swapped, "in another order"),
        (NAMES[:-1], "lacks lymphocyte_typical"),
    ):
        with pytest.raises(ValueError, match=words):
            publish(small("model", config_json=config(labels)), MODEL)
    assert not (hub.store.root / "models").exists()


def test_truncated_weights_are_refused() -> None:
    model = {"config_json": config(), "model_safetensors": weights()[:-3]}
    with pytest.raises(ValueError, match=r"1 damaged weights: model\.safetensors"):
        check_publication(small("model", **model))


@pytest.mark.parametrize("text", [b"", b"[]", b"5", b'{"id2label": {"x": "y"}}', b"[" * 10**5])
def test_damaged_config_and_headers_are_named(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        check_publication(small("model", config_json=text, model_safetensors=weights()))
    header = len(text).to_bytes(8, "little") + text
    with pytest.raises(ValueError, match=r"1 damaged weights: model\.safetensors"):
        check_publication(small("model", config_json=config(), model_safetensors=header))
    with pytest.raises(ValueError, match=r"is damaged"):
        Manifest.from_bytes(text, "org/name")


def test_images_with_metadata_are_refused(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4))
    exif = Image.Exif()
    exif[0x013B] = "Dr. K."
    for name, options in (
        ("a.jpg", {"exif": exif}),
        ("b.png", {"exif": exif}),
        ("c.jpg", {"comment": b"Mrs. M., born 1950"}),
    ):
        image.save(tmp_path / name, **options)
        with pytest.raises(ValueError, match=f"1 images with metadata: {name} \\("):
            check_publication(small(**{name.replace(".", "_"): tmp_path / name}))
    image.save(tmp_path / "d.png")
    check_publication(small(d_png=tmp_path / "d.png"))


def test_token_in_file_and_missing_card_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 files that contain a token of the Hub: app\.py"):
        check_publication(small("space", app_py=b"login('hf_" + b"A" * 34 + b"')"))
    with pytest.raises(ValueError, match=r"a space needs a README\.md that describes it"):
        check_publication(Publication("space", {"app.py": b""}, True, "Publish"))


def _rewrite(path: Path, **columns: Any) -> None:
    """Replace column values in a shard."""
    from datasets import Dataset

    rows = Dataset.from_parquet(str(path), cache_dir=str(path.parent.parent / ".cache")).to_list()
    features = Dataset.from_parquet(
        str(path), cache_dir=str(path.parent.parent / ".cache")
    ).features
    for name, value in columns.items():
        rows[0][name] = value
    Dataset.from_list(rows, features=features).to_parquet(str(path))


def test_image_ids_outside_pattern_are_refused_and_listed(
    published: Any, open_lab: Any, hub: LoopbackHub
) -> None:
    import shutil

    _rewrite(open_lab.folder / "cropped/train-00000-of-00001.parquet", image_id="Mueller_Anna.png")
    shutil.rmtree(open_lab.folder / ".cache")
    status, words = published(*open_lab.words, "--to", "lab/cells")
    assert status == 1
    assert "1 image ids of open_lab do not match its pattern" in words
    assert "may be names of people: Mueller_Anna.png; rename" in words
    assert not (hub.store.root / "datasets").exists()


def test_dataset_images_with_exif_are_refused_and_listed(published: Any, open_lab: Any) -> None:
    import io
    import shutil

    exif = Image.Exif()
    exif[0x013B] = "Dr. K."
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "JPEG", exif=exif)
    shard = open_lab.folder / "cropped/test-00000-of-00001.parquet"
    image = {"bytes": buffer.getvalue(), "path": None}
    _rewrite(shard, image=image, image_id="baso_0003.png")
    shutil.rmtree(open_lab.folder / ".cache")
    status, words = published(*open_lab.words, "--to", "lab/cells")
    assert status == 1
    assert "1 images of open_lab contain EXIF, comments or other metadata: baso_0003.png" in words


def test_unexpected_file_in_prepared_folder_is_refused(published: Any, open_lab: Any) -> None:
    (open_lab.folder / "patients.xlsx").write_bytes(b"")
    status, words = published(*open_lab.words, "--to", "lab/cells")
    assert status == 1 and "contains patients.xlsx, which `hf-wbc prepare` did not write" in words


def test_missing_shard_and_foreign_folder_are_refused(
    published: Any, open_lab: Any, tmp_path: Path
) -> None:
    shard = open_lab.folder / "cropped/train-00000-of-00001.parquet"
    shard.rename(shard.with_name("train-00001-of-00002.parquet"))
    status, words = published(*open_lab.words, "--to", "lab/cells")
    assert status == 1 and "should contain train-00000-of-0000N.parquet" in words
    status, words = published("dataset", str(tmp_path), "--to", "lab/cells")
    assert (
        status == 1 and "provenance.json is missing; give a folder that `hf-wbc prepare`" in words
    )
    status, words = published("dataset", str(open_lab.folder), "--to", "lab/cells")
    assert status == 1 and "contains open_lab, your own source; give its --mapping FILE" in words
