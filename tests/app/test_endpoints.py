"""The app's API for programs; it stores and leaks nothing."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import app_files as files

from hf_wbc.shipped import shipped

README = shipped("spaces/wbc/README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SECRET = "Jane_Doe_1970"


@pytest.fixture(scope="module")
def client(served: Any) -> Any:
    from gradio_client import Client

    return Client(served.url, verbose=False)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Any]:
    """Write a file and wrap it as a client does."""
    from gradio_client import handle_file

    def written(name: str, data: bytes) -> Any:
        (tmp_path / name).write_bytes(data)
        return handle_file(str(tmp_path / name))

    return written


def test_classify_matches_predictor(client: Any, write: Any) -> None:
    from hf_wbc.inference.predictor import Predictor
    from hf_wbc.taxonomy import NAMES

    prediction = client.predict(write("cell.png", files.encoded()), "0.42", api_name="/classify")
    toy = Predictor.load(str(shipped("spaces/wbc/toy_model")), runtime="torch")
    (truth,) = toy.predict([Image.fromarray(files.cell())], 0.42)
    assert list(prediction["probabilities"]) == list(NAMES)
    np.testing.assert_allclose(
        list(prediction["probabilities"].values()), truth.probabilities, atol=1e-3
    )
    assert prediction["class"] == NAMES[truth.label]
    assert prediction["conformal_set"] == [NAMES[label] for label in truth.conformal_set]
    assert prediction["box"] == list(truth.box)
    assert prediction["um_per_px"] == 0.42 and prediction["scale_guessed"] is False
    assert prediction["model"] == toy.pretrained.revision


def test_classify_accepts_named_or_guessed_scale(client: Any, write: Any) -> None:
    cell = write("cell.png", files.encoded(side=400))
    assert client.predict(cell, "acevedo_20", api_name="/classify")["um_per_px"] == 0.1
    assert client.predict(cell, "", api_name="/classify")["scale_guessed"] is True


def test_count_returns_cells_refusals_and_shares(client: Any, write: Any) -> None:
    slide = [
        write(
            "cells.zip", files.zipped({"1.png": files.encoded(), "2.png": files.encoded(seed=1)})
        ),
        write("bad.png", b"%PDF"),
    ]
    prediction = client.predict(slide, "0.42", api_name="/count")
    assert [cell["image"] for cell in prediction["cells"]] == ["1.png", "2.png"]
    assert prediction["refused"] == [{"image": "bad.png", "why": prediction["refused"][0]["why"]}]
    counted = prediction["differential"]
    shares, nrbc = counted["classes"], counted["nrbc_per_100_wbc"]
    assert "erythroblast" not in shares and len(shares) == 10
    assert sum(share["counted"] for share in shares.values()) + nrbc["counted"] == 2
    assert sum(share["fraction"] for share in shares.values()) == pytest.approx(1)
    assert all(share["estimate"] is None for share in shares.values())  # only 2 cells


def test_about_names_model_and_limits(client: Any) -> None:
    about = client.predict(api_name="/about")
    assert about["is_toy"] is True and len(about["classes"]) == 11
    assert about["scales_um_per_px"]["acevedo_20"] == 0.1
    assert about["limits"]["num_cells"] == 1000


def test_only_three_endpoints_are_exposed(client: Any) -> None:
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {
        "/classify",
        "/count",
        "/about",
    }


@pytest.mark.parametrize(
    ("name", "data", "scale", "words"),
    [
        ("a.png", b"", "0.1", "the file is empty"),
        ("a.png", files.encoded(), "wide", "is not a number"),
        ("a.png", files.encoded(), "10", "impossible"),
        ("a.zip", files.zipped({"1.png": files.encoded(), "2.png": files.encoded()}), "", "/count"),
        ("a.tif", files.encoded("TIFF")[:3000], "", "damaged or incomplete"),
    ],
)
def test_invalid_input_returns_clear_error(
    client: Any, write: Any, name: str, data: bytes, scale: str, words: str
) -> None:
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match=words):
        client.predict(write(name, data), scale, api_name="/classify")


def test_url_in_place_of_file_is_not_fetched(client: Any, served: Any) -> None:
    from gradio_client.exceptions import AppError

    given = {"path": "http://example.com/a.png", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError, match="not its address"):
        client.predict(given, "", api_name="/classify")
    given["path"] = "/etc/passwd"
    with pytest.raises(AppError):
        client.predict(given, "", api_name="/classify")
    for path in ("file=http://example.com/a.png", "file=/etc/passwd", "proxy=http://example.com"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{served.url}/gradio_api/{path}")
        assert refused.value.code == 403
    assert not served.reached.exists()


def test_nothing_is_stored_and_no_name_is_logged(client: Any, served: Any, write: Any) -> None:
    before = len(served.log.read_text())
    exif = Image.Exif()
    exif[0x010E] = SECRET
    cell = write(f"{SECRET}.jpg", files.encoded("JPEG", exif=exif))
    client.predict(cell, "0.42", api_name="/classify")
    client.predict([cell, write(f"{SECRET}.pdf", b"%PDF")], "0.42", api_name="/count")
    for data in (b"", b"%PDF"):
        with pytest.raises(Exception, match=SECRET):  # users may see their own file names
            client.predict(write(f"{SECRET}.png", data), "0.42", api_name="/classify")
    assert SECRET not in served.log.read_text()
    assert "Traceback" not in served.log.read_text()[before:]
    assert served.left_behind() == []
    assert not served.reached.exists()


def test_same_image_can_be_submitted_concurrently(client: Any, write: Any) -> None:
    cell = write("cell.png", files.encoded(seed=5))
    jobs = [client.submit(cell, "0.42", api_name="/classify") for _ in range(12)]
    predictions = [job.result(timeout=120)["probabilities"] for job in jobs]
    assert predictions == [predictions[0]] * 12


def test_queue_survives_disconnecting_clients(client: Any, served: Any, write: Any) -> None:
    from gradio_client import Client

    slide = write("s.zip", files.zipped({f"{i}.png": files.encoded(seed=i) for i in range(60)}))
    dying = Client(served.url, verbose=False)
    jobs = [dying.submit(slide, "0.42", api_name="/count") for _ in range(4)]
    for job in jobs:
        job.cancel()
    dying.close()
    prediction = client.predict(write("a.png", files.encoded()), "0.42", api_name="/classify")
    assert prediction["class"]


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_readme_snippets_run(
    number: int, served: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    (tmp_path / "cell.png").write_bytes(files.encoded(side=400))
    monkeypatch.chdir(tmp_path)
    exec(SNIPPETS[number].replace("http://127.0.0.1:7860", served.url), {})
    assert capsys.readouterr().out


def test_readme_documents_every_field(client: Any, write: Any) -> None:
    cell = write("cell.png", files.encoded())
    prediction = client.predict(cell, "0.42", api_name="/classify")
    slide = client.predict([cell], "0.42", api_name="/count")
    fields = {*prediction, *slide, *slide["differential"]} | {
        "counted", "named", "fraction", "estimate", "low", "high", "per_100"
    }  # fmt: skip
    missing = {field for field in fields if f"`{field}`" not in README}
    assert missing == set()
    assert json.loads(json.dumps(slide)) == slide
