"""Boxes drawn by people, and how found cells compare with them."""

import pytest

from hf_wbc.finder.boxes import MAX_BOXES, Box, find_box_files, match_boxes, read_boxes, total

VOC = (
    "<annotation>{}</annotation>",
    "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox></object>",
)


def voc(*boxes):
    return VOC[0].format("".join(VOC[1].format(*box) for box in boxes))


def test_voc_and_yolo_give_the_same_boxes(tmp_path):
    (tmp_path / "a.xml").write_text(voc(("WBC", 10, 20, 50, 60), ("RBC", 0, 0, 9, 9)))
    (tmp_path / "b.txt").write_text("1 0.3 0.4 0.4 0.4\n\n0 .5 .5 .1 .1\n")
    (tmp_path / "classes.txt").write_text("RBC\nWBC\n")
    files = find_box_files(tmp_path)
    assert sorted(files) == ["a", "b"]
    for path in files.values():
        (box,) = read_boxes(path, (100, 100))
        assert box.center == pytest.approx((30, 40))


def test_class_number_is_the_name_without_classes_file(tmp_path):
    (tmp_path / "b.txt").write_text("2 0.5 0.5 0.1 0.1")
    assert read_boxes(tmp_path / "b.txt", (10, 10)) == ()
    assert len(read_boxes(tmp_path / "b.txt", (10, 10), ("2",))) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.xml", "not xml"),
        ("a.xml", voc(("WBC", "x", 1, 2, 3))),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
        ("a.txt", "WBC 0.5 0.5 0.1 0.1"),
        ("a.xml", "\0".join('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')),
        ("a.txt", "-1 0.5 0.5 0.1 0.1"),
        ("a.txt", "0 50 50 10 10"),
        ("a.txt", "0 nan 0.5 0.1 0.1"),
        ("a.txt", "0 0.5 0.5"),
    ],
)
def test_invalid_box_files_are_reported(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        read_boxes(tmp_path / name, (100, 100), ("0", "WBC"))


def test_field_must_have_one_box_file(tmp_path):
    (tmp_path / "x").mkdir()
    for path in (tmp_path / "a.txt", tmp_path / "x/a.xml"):
        path.write_text("")
    with pytest.raises(ValueError, match=r"a\.txt"):
        find_box_files(tmp_path)


def test_more_boxes_than_a_field_can_have_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("0 .5 .5 .1 .1\n" * (MAX_BOXES + 1), encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.txt has 10,001 boxes"):
        read_boxes(tmp_path / "a.txt", (100, 100), ["0"])


def test_each_cell_and_box_match_at_most_once():
    boxes = [Box("WBC", x - 5, 0, x + 5, 10) for x in (20, 60, 200)]
    found = [(24.0, 5.0), (16.0, 5.0), (63.0, 5.0), (120.0, 5.0)]
    match = match_boxes(found, boxes, 1.0)
    assert (match.num_matched, len(match.missed), len(match.extra)) == (2, 1, 2)
    assert match.missed == ((200.0, 5.0),)
    assert match_boxes(found, boxes, 2.0).num_matched == 0  # 3 px are 6 um


def test_total_of_empty_fields_is_perfect():
    match = total([match_boxes([], [], 1.0)])
    assert (match.recall, match.precision) == (1.0, 1.0)


def test_boxes_in_linked_folders_are_found_and_junk_is_not(tmp_path):
    (tmp_path / "real" / "day 1").mkdir(parents=True)
    (tmp_path / "real/day 1/a.xml").write_text(voc(("WBC", 1, 2, 3, 4)), encoding="utf-8")
    (tmp_path / "real/._a.xml").write_bytes(b"\0\5\x16\7")
    (tmp_path / "real/@eaDir").mkdir()
    (tmp_path / "real/@eaDir/a.xml").write_bytes(b"")
    (tmp_path / "real/linked").symlink_to(tmp_path / "real/day 1")
    with pytest.raises(ValueError, match=r"a\.xml"):  # the same field twice
        find_box_files(tmp_path / "real")
    (tmp_path / "real/linked").unlink()
    assert [*find_box_files(tmp_path / "real")] == ["a"]
