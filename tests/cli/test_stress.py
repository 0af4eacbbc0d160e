"""`hf-wbc stress` on a tiny model: the record, the page, resuming, and bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_wbc.cli.main import main
from hf_wbc.data.corruptions import CORRUPTIONS
from hf_wbc.inference import stress as stress_module
from hf_wbc.inference.stress import StressTest
from hf_wbc.records import RunFolder
from hf_wbc.shipped import shipped

TOY = str(shipped("spaces/wbc/toy_model"))
FAST = ("--runtime", "torch", "--corruptions", "noise", "overlap", "jpeg")


def run(data: str, out: Path, *more: str) -> RunFolder:
    before = set(out.iterdir()) if out.exists() else set()
    assert main(["stress", TOY, data, "--out", str(out), *more]) == 0
    (path,) = set(out.iterdir()) - before
    return RunFolder(path)


@pytest.fixture(scope="module")
def tested(laboratories: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(laboratories[0], tmp_path_factory.mktemp("stress"), "--runtime", "torch")


@pytest.mark.slow
@pytest.mark.ci
def test_every_corruption_is_scored_at_four_severities(tested: RunFolder) -> None:
    record = tested.read_record()
    assert list(record["curves"]) == [each.name for each in CORRUPTIONS]
    for curve in record["curves"].values():
        assert [each["num_images"] for each in curve] == [22] * 4
        assert all(0 <= each["ece"] <= 1 for each in curve)
    assert record["clean"]["num_classes"] == 11
    assert record["corruptions"]["blur"]["unit"].endswith("um")
    assert not (tested.path / "blocks").exists()


@pytest.mark.slow
@pytest.mark.ci
def test_page_shows_five_cells_per_corruption(tested: RunFolder) -> None:
    page = (tested.path / "index.html").read_text()
    assert page.count("<figcaption>") == 5 * len(CORRUPTIONS)
    assert all(each.unit.replace(" um", " µm") in page for each in CORRUPTIONS)
    assert "http" not in page.replace("http-equiv", ""), "the page loads something"
    assert (tested.path / "curves.png").stat().st_size > 5000


@pytest.mark.slow
@pytest.mark.ci
def test_interrupted_stress_test_resumes_to_same_scores(
    laboratories: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stress_module, "BLOCK", 8)
    whole = run(laboratories[0], tmp_path / "whole", *FAST).read_record()
    calls, logits = [], StressTest.logits

    def interrupted(self: StressTest, pixels: Any) -> Any:
        calls.append(len(pixels))
        if len(calls) == 20:
            raise KeyboardInterrupt
        return logits(self, pixels)

    words = ["stress", TOY, laboratories[0], "--out", str(tmp_path / "part"), *FAST]
    monkeypatch.setattr(StressTest, "logits", interrupted)
    assert main(words) == 130
    assert main(words) == 0
    (folder,) = (tmp_path / "part").iterdir()
    again = RunFolder(folder).read_record()
    blocks, page = 13 * 2, 1 + 3  # of three blocks, the finished one is not repeated
    assert len(calls) == 20 + blocks + page
    assert {k: again[k] for k in ("clean", "curves", "summary")} == {
        k: whole[k] for k in ("clean", "curves", "summary")
    }


@pytest.mark.slow
@pytest.mark.ci
def test_baseline_gives_mean_corruption_error(
    laboratories: tuple[str, str], tmp_path: Path
) -> None:
    first = run(laboratories[0], tmp_path, *FAST)
    second = run(laboratories[0], tmp_path, *FAST, "--baseline", str(first.path))
    assert second.read_record()["baseline"]["mce"] == pytest.approx(1)
    assert "mean corruption error" in (second.path / "index.html").read_text()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--corruptions", "nois"), "unknown corruption 'nois'"),
        (("--limit", "0"), "limit is 0"),
        (("--merge", "basophil"), "is not FROM=INTO"),
        (("--baseline", "nowhere"), "nowhere/record.json is missing"),
    ],
)
def test_bad_options_are_reported_and_nothing_written(
    laboratories: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    said: str,
) -> None:
    out = tmp_path / "out"
    words = ["stress", TOY, laboratories[0], "--runtime", "torch", "--out", str(out)]
    assert main([*words, *more]) == 1
    assert said in capsys.readouterr().err and not out.exists()


@pytest.mark.slow
@pytest.mark.ci
def test_damaged_record_of_a_finished_test_is_reported(
    laboratories: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(laboratories[0], tmp_path, *FAST)
    record = json.loads(folder.record.read_text())
    for damaged in (
        {**record, "curves": {**record["curves"], "noise": True}},
        {**record, "summary": {**record["summary"], "worst_class": 0.5}},
        {**record, "clean": {"macro_f1": "x"}},
    ):
        folder.record.write_text(json.dumps(damaged))
        assert main(["stress", TOY, laboratories[0], "--out", str(tmp_path), *FAST]) == 1
        assert f"{folder.record} is damaged" in capsys.readouterr().err


def test_baseline_of_other_cells_is_refused(
    tested: RunFolder,
    laboratories: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["stress", TOY, laboratories[1], "--runtime", "torch", "--out", str(tmp_path / "o")]
    assert main([*words, "--baseline", str(tested.path)]) == 1
    assert "has data" in capsys.readouterr().err
    record = json.loads(tested.record.read_text())
    (tmp_path / "record.json").write_text(json.dumps({**record, "kind": "evaluation"}))
    assert main([*words, "--baseline", str(tmp_path)]) == 1
    assert "is not a stress test" in capsys.readouterr().err


def test_cells_are_spread_over_classes() -> None:
    labels = np.repeat([3, -1, 0], [60, 10, 40])
    rows = stress_module._choose_cells(labels, 20)
    assert np.bincount(labels[rows]).tolist() == [8, 0, 0, 12]


@pytest.mark.parametrize("kept", [0, 20, 200])
def test_damaged_blocks_are_computed_again(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "0000000.npy"
    assert not stress_module._is_whole(path)
    np.save(path, np.zeros((3, 8, 11), np.float32))
    assert stress_module._is_whole(path)
    path.write_bytes(path.read_bytes()[:kept])
    assert not stress_module._is_whole(path)
