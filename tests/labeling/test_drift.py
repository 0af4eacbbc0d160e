"""Drift: few false alarms on the same laboratory, an alarm on another one, errors for misuse."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hf_wbc.cli.main import main
from hf_wbc.evaluation.selective import rejection
from hf_wbc.labeling.drift import STATISTICS, Baseline, build_baseline, drift
from hf_wbc.shipped import shipped
from tests.support.shifted_laboratory import LYMPHOCYTE, SEGMENTED, laboratory

HOME = laboratory(400, name="home")
REJECTION = rejection(HOME.logits)


def baseline(num: int = 200) -> Baseline:
    return build_baseline(HOME.take(np.arange(num)), REJECTION, "model")


@pytest.mark.slow
@pytest.mark.ci
def test_false_alarm_rate_is_at_most_one_in_twenty() -> None:
    alarms = 0
    for seed in range(60):
        rows = np.random.default_rng(seed).permutation(400)
        before = build_baseline(HOME.take(rows[:100]), REJECTION, "model")
        alarms += drift(before, HOME.take(rows[100:150]), REJECTION, "model", seed=seed).alarm
    assert alarms <= 7  # 3 are expected; more than 7 have a chance of 1 %


@pytest.mark.parametrize("num", [20, 50])
def test_another_laboratory_raises_alarm_within_fifty_cells(num: int) -> None:
    found = drift(baseline(), laboratory(num, shift=0.3, name="away"), REJECTION, "model")
    assert found.alarm and found.p_values["embedding"] <= 0.05
    assert any("embedding" in each for each in found.sentences)


def test_each_statistic_detects_its_own_change() -> None:
    other = HOME.take(np.arange(200, 260))
    stained = type(other)(**{**vars(other), "appearance": other.appearance + 1})
    found = drift(baseline(), stained, None, "model").p_values
    assert found["appearance"] <= 0.01 < found["embedding"]
    shares = {SEGMENTED: 0.1, LYMPHOCYTE: 0.9}
    found = drift(baseline(), laboratory(60, shares=shares), None, "model").p_values
    assert found["class shares"] <= 0.01
    rejecting = type(REJECTION)(REJECTION.rate, -np.inf)
    assert drift(baseline(), other, rejecting, "model").p_values["rejection rate"] <= 0.01
    assert set(found) == set(STATISTICS)


def test_baseline_round_trips_through_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "baseline.npz"
    baseline().save(path)
    other = HOME.take(np.arange(300, 340))
    assert drift(Baseline.load(path), other, REJECTION, "model") == drift(
        baseline(), other, REJECTION, "model"
    )


def test_misuse_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another model"):
        drift(baseline(), HOME, REJECTION, "other")
    with pytest.raises(ValueError, match="9 cells"):
        drift(baseline(), HOME.take(np.arange(9)), REJECTION, "model")
    (tmp_path / "b.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"b\.npz"):
        Baseline.load(tmp_path / "b.npz")


@pytest.mark.parametrize(("flags", "said"), [([], "another model"), (["--level", "2"], "level")])
def test_wrong_arguments_are_refused_before_cells_are_embedded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    said: str,
) -> None:
    def embed(*args: object, **options: object) -> None:
        raise AssertionError("the cells were embedded")

    monkeypatch.setattr("hf_wbc.labeling.pool.open_pool", embed)
    baseline().save(tmp_path / "b.npz")
    model = str(shipped("spaces/wbc/toy_model"))
    command = ["drift", model, str(tmp_path), "--baseline", str(tmp_path / "b.npz"), *flags]
    assert main(command) == 1
    assert said in capsys.readouterr().err


def damaged(path: Path, **changes: object) -> Path:
    values = {key: value for key, value in vars(baseline()).items() if key not in FACTS}
    facts = {"version": 1, "name": "home", "revision": "model"}
    arrays = {"facts": np.array(json.dumps(facts)), **values, **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


FACTS = ("name", "revision")


class Planted:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code of a stranger ran')",)


@pytest.mark.parametrize(
    "changes",
    [
        {"features": np.zeros((5, 24), np.float32)},
        {"features": np.full((200, 24), np.nan, np.float32)},
        {"features": np.zeros((200, 24), np.complex64)},
        {"features": np.float32(1)},
        {"features": None},
        {"appearance": np.zeros((200, 6))},
        {"predicted": np.full(200, 11)},
        {"predicted": np.full(200, -1)},
        {"predicted": np.int64(0)},
        {"rejected": np.zeros(200)},
        {"more": np.zeros(1)},
        {"facts": np.array("[" * 100_000)},
        {"facts": np.array('{"version": 1}')},
        {"facts": np.array([Planted()], object)},
        {"predicted": np.array([Planted()] * 200, object)},
    ],
)
def test_damaged_baseline_is_reported(tmp_path: Path, changes: dict[str, object]) -> None:
    path = damaged(tmp_path / "b.npz", **changes)
    with pytest.raises(ValueError, match=r"b\.npz is not a drift baseline"):
        Baseline.load(path)


def test_file_of_another_kind_is_reported(tmp_path: Path) -> None:
    path, content = tmp_path / "b.npz", damaged(tmp_path / "a.npz").read_bytes()
    header = b"\x93NUMPY\x01\x00v\x00" + (
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 9), }".ljust(117) + b"\n"
    )
    empty = header.replace(b"(99999999999, 9)", b"(9" + b"9" * 30 + b", 0)")
    odd = [header[:10] + text.ljust(117) + b"\n" for text in (b"{'shape': (3,", b"  x\n y")]
    for name, each in zip(
        ("c.npz", "e.npz", "f.npz", "g.npz"), (header, empty[:128], *odd), strict=True
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("facts.npy", each)
    np.save(tmp_path / "d.npy", np.array([Planted()], object))
    others = [
        (tmp_path / name).read_bytes() for name in ("c.npz", "d.npy", "e.npz", "f.npz", "g.npz")
    ]
    for data in (b"", b"PK\x03\x04", content[: len(content) // 2], content[:-1], *others):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"b\.npz is not a drift baseline"):
            Baseline.load(path)


@pytest.mark.parametrize("level", [0.0, 1.0, float("nan"), -1.0, 5.0])
def test_invalid_alarm_rate_is_rejected(level: float) -> None:
    with pytest.raises(ValueError, match="level is"):
        drift(baseline(), HOME, REJECTION, "model", level=level)


def test_unmeasured_sharpness_is_not_drift() -> None:
    looks = HOME.appearance.copy()
    looks[:, 6] = np.nan
    unmeasured = type(HOME)(**{**vars(HOME), "appearance": looks})
    before = build_baseline(unmeasured.take(np.arange(100)), REJECTION, "model")
    found = drift(before, unmeasured.take(np.arange(100, 150)), REJECTION, "model")
    assert found.p_values["appearance"] > 0.001
