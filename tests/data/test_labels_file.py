"""The labels file: every answer is written at once, and every kind of bad input is reported."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hf_wbc.data.labels_file import (
    COLUMNS,
    SKIP,
    Answer,
    LabelsFile,
    match_names,
    note_strategy,
    parse_class,
    read_answers,
    read_strategy,
)
from hf_wbc.data.reader_agreement import agreed_labels, cohen_kappa, suspicious_readers

HEADER = ",".join(COLUMNS) + "\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_answer_is_written_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a" / "my.labels.csv"
    file = LabelsFile(path)
    for number, label in enumerate(("monocyte", SKIP, "other"), start=1):
        file.append(Answer(f"{number}.png", label, "AB", 1.25))
        assert [each.label for each in read_answers(path)][-1] == label
    assert path.read_text().splitlines()[:2] == [",".join(COLUMNS), "1.png,monocyte,AB,1.2"]
    assert [each.image_id for each in LabelsFile(path).answers] == ["1.png", "2.png", "3.png"]


def test_undo_removes_only_last_answer_of_this_session(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", HEADER + "a.png,monocyte,AB,1\n")
    file = LabelsFile(path)
    assert file.undo() is None
    file.append(Answer("b.png", "basophil", "AB", 1.0))
    assert file.undo() == Answer("b.png", "basophil", "AB", 1.0)
    assert [each.image_id for each in read_answers(path)] == ["a.png"]


def test_answers_survive_external_overwrite(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", HEADER)
    file = LabelsFile(path)
    file.append(Answer("a.png", "monocyte", "AB", 1.0))
    written(path, HEADER + "z.png,basophil,CD,1")  # saved over it, without a last line break
    file.append(Answer("b.png", "basophil", "AB", 1.0))
    assert {each.image_id for each in read_answers(path)} == {"a.png", "b.png", "z.png"}


@pytest.mark.parametrize("lock", [".~lock.l.csv#", "~$l.csv"])
def test_file_locked_by_spreadsheet_is_refused(tmp_path: Path, lock: str) -> None:
    path = written(tmp_path / "l.csv", HEADER)
    (tmp_path / lock).touch()
    with pytest.raises(ValueError, match=re.escape(lock)):
        LabelsFile(path)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("a.png,monocyte,AB,1\na.png,basophil,AB,1\n", ("a.png", "line 2", "line 3")),
        ("a.png,monocite,AB,1\n", ("line 2", "monocyte")),
        ("a.png,,AB,1\n", ("line 2", "empty")),
        (",monocyte,AB,1\n", ("line 2", "image_id")),
        ("a.png,monocyte,AB,soon\n", ("line 2", "soon")),
        ("a.png,monocyte\n", ("line 2", "2 cells")),
    ],
)
def test_bad_lines_are_reported(tmp_path: Path, rows: str, words: tuple[str, ...]) -> None:
    path = written(tmp_path / "l.csv", HEADER + rows)
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        read_answers(path)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffimage_id,label,reader,seconds\r\na.png,monocyte,AB,1.5\r\n",
        "image_id;label;reader;seconds\na.png;monocyte;AB;1,5\n",
        "image_id\tlabel\treader\tseconds\na.png\tmonocyte\tAB\t1.5\n",
        '"image_id","label","reader","seconds"\n"a.png","monocyte","AB","1.5"\n',
        "label,image_id,seconds,reader\nmonocyte,a.png,1.5,AB\n",
        "image_id,label,reader,seconds\na.png,Monocyte,AB,1.5",
    ],
    ids=["BOM", "semicolons", "tabs", "quotes", "other order", "no last line break"],
)
def test_file_saved_by_a_spreadsheet_is_read_and_extended(tmp_path: Path, text: str) -> None:
    path = written(tmp_path / "l.csv", text)
    assert read_answers(path) == [Answer("a.png", "monocyte", "AB", 1.5)]
    LabelsFile(path).append(Answer("b.png", "basophil", "AB", 2.0))
    assert path.read_text().splitlines() == [
        ",".join(COLUMNS), "a.png,monocyte,AB,1.5", "b.png,basophil,AB,2.0",
    ]  # fmt: skip


def test_file_in_another_encoding_has_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_bytes((HEADER + "a.png,monocyte,AB,1\n").encode("utf-16"))
    with pytest.raises(ValueError, match="save it as CSV in UTF-8"):
        LabelsFile(path)


def test_strategy_is_stored_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my.labels.csv"
    assert read_strategy(path) == "unknown"
    for name in ("margin", "random", "margin"):
        note_strategy(path, name)
    assert read_strategy(path) == "margin+random"
    for damaged in ("[]", "[" * 100_000):
        (tmp_path / "my.labels.chosen.json").write_text(damaged)
        with pytest.raises(ValueError, match="delete it"):
            read_strategy(path)


def test_strategies_noted_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path, names = tmp_path / "new" / "l.csv", [f"s{number}" for number in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(partial(note_strategy, path), names))
    assert sorted(read_strategy(path).split("+")) == names


def test_page_and_folder_read_each_others_labels() -> None:
    known = ("a/1.png", "b/1.png", "b/2.png", "3.png")
    given = ("2.png", "lab/b/1.png", "1.png", "x/3.png", "4.png", "a/1.png")
    found = match_names([Answer(name, "monocyte") for name in given], known)
    assert [each.image_id for each in found] == [
        "b/2.png", "b/1.png", "1.png", "3.png", "4.png", "a/1.png",  # two cells are called 1.png
    ]  # fmt: skip
    assert match_names([Answer("2.png", "other")], known, {"2.png"})[0].image_id == "2.png"


@pytest.mark.parametrize("names", [("b/2.png", "2.png"), ("2.png", "b/2.png"), ("3.png", "3.png")])
def test_cell_with_two_classes_under_two_names_is_refused(names: tuple[str, str]) -> None:
    known = ("a/1.png", "b/2.png", "3.png")
    one, other = (
        Answer(name, label, "AB")
        for name, label in zip(names, ("monocyte", "basophil"), strict=True)
    )
    with pytest.raises(ValueError, match=r"labeled twice by AB: monocyte .* basophil"):
        match_names([one, other], known)
    same = replace(other, label="monocyte")
    assert len(match_names([one, same], known)) == 1
    assert len(match_names([one, replace(other, reader="CD")], known)) == 2
    (later,) = match_names([replace(one, label="skip"), other], known)
    assert later.label == "basophil"


def test_answer_on_the_page_replaces_that_of_a_folder(tmp_path: Path) -> None:
    lines = "a/1.png,monocyte,AB,1\na/1.png,monocyte,CD,1\n21.png,monocyte,AB,1\n"
    path = written(tmp_path / "l.csv", HEADER + lines)
    file = LabelsFile(path)
    file.put("1.png", "AB", Answer("1.png", "basophil", "AB"))
    assert [(each.image_id, each.label, each.reader) for each in read_answers(path)] == [
        ("a/1.png", "monocyte", "CD"), ("21.png", "monocyte", "AB"), ("1.png", "basophil", "AB"),
    ]  # fmt: skip
    file.put("1.png", "CD", None)
    assert len(read_answers(path)) == 2


def test_labels_of_two_folders_never_become_those_of_one_cell(tmp_path: Path) -> None:
    text = HEADER + "a/1.png,monocyte,AB,1\nb/1.png,monocyte,AB,1\n"
    path = written(tmp_path / "l.csv", text)
    with pytest.raises(ValueError, match=r"/1\.png and ./1\.png are two cells"):
        match_names(read_answers(path), ["1.png"])
    file = LabelsFile(path)
    for answer in (Answer("1.png", "basophil", "AB"), None):
        with pytest.raises(ValueError, match=r"/1\.png and ./1\.png are two cells"):
            file.put("1.png", "AB", answer)
    assert path.read_text() == text


def test_answer_can_be_replaced_and_undone(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", HEADER + "a.png,monocyte,AB,1\na.png,basophil,CD,1\n")
    file = LabelsFile(path)
    file.put("a.png", "AB", Answer("a.png", "eosinophil", "AB", 1.0))
    assert {a.reader: a.label for a in read_answers(path)} == {"AB": "eosinophil", "CD": "basophil"}
    file.put("a.png", "AB", None)
    assert [a.reader for a in read_answers(path)] == ["CD"] == [a.reader for a in file.answers]


def test_other_columns_are_refused_before_a_label_is_lost(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", "image_id,label,note\na.png,monocyte,x\n")
    assert read_answers(path)[0].label == "monocyte"
    with pytest.raises(ValueError, match=r"note.*--add"):
        LabelsFile(path)


def test_skipped_cell_can_be_labeled_later(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", HEADER + "a.png,skip,AB,1\na.png,monocyte,AB,1\n")
    assert [each.label for each in read_answers(path)] == ["monocyte"]


def test_names_resembling_formulas_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    LabelsFile(path).append(Answer("=1+1.png", "monocyte"))
    assert read_answers(path)[0].image_id == "=1+1.png"


def test_parse_class_accepts_clinical_names() -> None:
    assert parse_class("Blast (myeloblast)") == "myeloblast"
    assert parse_class("segmented_neutrophil") == "neutrophil_segmented"


def test_kappa_is_computed_and_disagreements_left_out() -> None:
    said = {
        "a": ("monocyte", "monocyte"),
        "b": ("basophil", "basophil"),
        "c": ("basophil", "monocyte"),
        "d": ("monocyte", "monocyte"),
        "e": (SKIP, "monocyte"),
    }
    answers = [
        Answer(image_id, label, reader)
        for image_id, labels in said.items()
        for reader, label in zip("XY", labels, strict=True)
    ]
    kappa, num = cohen_kappa(answers)["X", "Y"]
    assert (round(kappa, 3), num) == (0.5, 4)  # agreement .75, chance .5
    agreed, apart = agreed_labels(answers)
    assert set(agreed) == {"a", "b", "d", "e"} and apart == ["c"]


def test_reader_who_always_gives_one_answer_is_reported() -> None:
    answers = [Answer(f"{number}.png", "monocyte", "AB") for number in range(20)]
    assert suspicious_readers(answers[:19]) == []
    assert "AB" in suspicious_readers(answers)[0]
    assert suspicious_readers([*answers, Answer("x.png", "basophil", "AB")]) == []


@pytest.mark.parametrize("name", ["a\x1b[1A.png", " a.png", "\t=1.png", "'a'.png", "b\u202e.png"])
def test_names_that_a_table_cannot_hold_are_found_again(tmp_path: Path, name: str) -> None:
    path, ids = tmp_path / "l.csv", [name, "other.png"]
    file = LabelsFile(path)
    for each in (name, name, "other.png"):
        file.append(Answer(each, "monocyte", "=AB ", 1.0))
    read = match_names(read_answers(path), ids)
    assert [each.image_id for each in read] == ids and read[0].reader == "=AB"
    with pytest.raises(ValueError, match="take that back first"):
        file.append(Answer(name, "basophil", "=AB ", 1.0))
    assert file.undo() == Answer("other.png", "monocyte", "=AB ", 1.0)
    assert [each.image_id for each in match_names(read_answers(path), ids)] == [name]
    file.put(name, "=AB ", None)
    assert read_answers(path) == []


def test_names_that_look_the_same_are_not_guessed() -> None:
    (found,) = match_names([Answer("a\ufffd", "skip")], ["a\x1b", "a\x07"])
    assert found.image_id == "a\ufffd"
