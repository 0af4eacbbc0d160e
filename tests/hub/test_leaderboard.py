"""A leaderboard reads untrusted result files, and leaves out what it cannot use."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_wbc.hub.benchmark import eval_yaml
from hf_wbc.hub.leaderboard import Leaderboard, markdown_table, read_leaderboard
from hf_wbc.hub.result_entries import HOME

NOTES = "macro-F1 over 9 classes, 120 images; 95 % interval 0.400 to 0.600"


def entry(task: str, value: Any = 0.5, notes: str = NOTES, **more: Any) -> dict[str, Any]:
    return {
        "dataset": {"id": f"lab/{task}", "task_id": task}, "value": value, "notes": notes, **more,
    }  # fmt: skip


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Mapping[str, Any]], Leaderboard]:
    """Write result files by name, and read them as a leaderboard."""

    def read(files: Mapping[str, Any]) -> Leaderboard:
        (tmp_path / "eval.yaml").write_bytes(eval_yaml("home", "Home", 120, 9))
        (tmp_path / ".eval_results").mkdir(exist_ok=True)
        for name, entries in files.items():
            text = entries if isinstance(entries, str) else yaml.safe_dump(entries)
            (tmp_path / ".eval_results" / name).write_text(text)
        return read_leaderboard(tmp_path)

    return read


def test_models_are_ranked_by_laboratories_not_trained_on(
    read: Callable[[Mapping[str, Any]], Leaderboard],
) -> None:
    at_home = f"{NOTES}; {HOME}"
    board = read(
        {
            "lab--memorized.yaml": [entry("home", 0.99, at_home), entry("away", 0.2)],
            "lab--robust.yaml": [
                entry("home", 0.8, at_home), entry("away", 0.6, date="2026-11-30"),
                entry("home__corruptions", 0.7, "worst blur"),
            ],
            "lab--half.yaml": [entry("home", 0.9)],
        }
    )  # fmt: skip
    assert [row.model for row in board.rows] == ["lab/robust", "lab/memorized", "lab/half"]
    assert board.laboratories == board.counted[::-1] == ("home", "away")
    means = [row.elsewhere(board.counted) for row in board.rows]
    assert means == [0.6, 0.2, None]
    score = board.rows[0].laboratories["away"]
    assert (score.interval, score.num_classes, score.date) == ((0.4, 0.6), 9, "2026-11-30")
    table = markdown_table(board, {"lab/robust": "robust"})
    lines = table.splitlines()
    assert lines[2].startswith("| robust | .800 [.400, .600] (home) | .600 [.400, .600] | .600 |")
    assert lines[4] == "| lab/half | .900 [.400, .600] | – | – | – |"


def test_extra_laboratory_of_one_model_does_not_unrank_others(
    read: Callable[[Mapping[str, Any]], Leaderboard],
) -> None:
    files: dict[str, Any] = {f"lab--m{i}.yaml": [entry("home"), entry("away")] for i in range(3)}
    board = read({**files, "evil--x.yaml": [entry("home", 1.0), entry("own", 1.0)]})
    assert board.laboratories == ("home", "away")
    assert board.rows[-1].model == "evil/x" and board.rows[0].elsewhere(board.counted) == 0.5


def test_name_of_a_laboratory_cannot_break_the_table(
    read: Callable[[Mapping[str, Any]], Leaderboard],
) -> None:
    odd = entry("away")
    odd["dataset"]["task_id"] = "a|b <img src=x>\n| evil"
    head, *_ = markdown_table(read({"lab--m.yaml": [entry("home"), odd]})).splitlines()
    assert r"a\|b \<img src=x> \| evil" in head and head.endswith("| mean elsewhere |")


@pytest.mark.parametrize(
    ("name", "entries", "said"),
    [
        ("x.yaml", [entry("home")], "ORG--MODEL"),
        ("a--<img src=x onerror=alert(1)>.yaml", [entry("home")], "ORG--MODEL"),
        ("a--b.yaml", [entry("home", version=2)], "version"),
        ("a--b.yaml", [entry("home", 20.9)], "20.9"),
        ("a--b.yaml", [entry("home", -1)], "-1"),
        ("a--b.yaml", [entry("home", "high")], "'high'"),
        ("a--b.yaml", [entry("home"), entry("home")], "home is there twice"),
        ("a--b.yaml", "- [", "damaged"),
        ("a--b.yaml", "!!python/object/apply:os.system ['true']", "damaged"),
        ("a--b.yaml", "[" * 5000, "deep"),
        *(
            ("a--b.yaml", f"- {text}", "a--b.yaml")
            for text in (
                "!!bool x",
                "!!int ''",
                "!!float _",
                "!!timestamp x",
                "1:" * 300 + "1.0",
            )
        ),
        ("a--b.yaml", [entry("home", 10**400)], "not a number"),
        ("a--b.yaml", "- &a [x]\n- [*a, *a]", "aliases"),
        ("a--b.yaml", "# " + "x" * 200_000, "bytes"),
    ],
)
def test_unusable_file_is_left_out_and_named(
    read: Callable[[Mapping[str, Any]], Leaderboard], name: str, entries: Any, said: str
) -> None:
    board = read({"lab--good.yaml": [entry("home")], name: entries})
    assert [row.model for row in board.rows] == ["lab/good"]
    ((file, why),) = board.left_out
    assert file == name and said in why


def test_folder_without_eval_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"eval\.yaml"):
        read_leaderboard(tmp_path)
