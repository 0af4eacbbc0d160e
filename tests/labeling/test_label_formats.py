"""Labels are exported to Label Studio and CVAT, and imported again."""

import json
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hf_wbc.data.labels_file import Answer
from hf_wbc.labeling.label_formats import export_cells, import_answers


def task(*choices: object, **annotation: object) -> str:
    """Return a Label Studio export of one cell."""
    answer = {"result": [{"value": {"choices": choices}}], **annotation}
    return json.dumps([{"data": {"image": "c.png"}, "annotations": [answer]}])


IDS = ("smear 1/a.png", "smear 1/b.png", "c.png")


@pytest.mark.parametrize("suffix", ["json", "xml"])
def test_labels_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cells.{suffix}"
    export_cells(path, IDS, [Answer(IDS[0], "monocyte"), Answer(IDS[2], "skip")])
    found = {each.image_id: each.label for each in import_answers(path, IDS)}
    assert found == {IDS[0]: "monocyte", IDS[2]: "skip"}


ODD = ("#1/a?b.png", "50%20 [x].png", "a&b+c=d.png", "x::y*.png", "血液/кровь.png", "//[a/b.png")


@pytest.mark.parametrize("suffix", ["json", "xml"])
def test_names_with_signs_of_addresses_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cells.{suffix}"
    export_cells(path, ODD, [Answer(each, "monocyte") for each in ODD])
    assert [each.image_id for each in import_answers(path, ODD)] == list(ODD)
    if suffix == "json":  # as Label Studio returns tasks without our own field
        tasks = json.loads(path.read_text())
        for each in tasks:
            del each["data"]["image_id"]
        path.write_text(json.dumps(tasks))
        assert [each.image_id for each in import_answers(path, ODD)] == list(ODD)


@pytest.mark.parametrize("suffix", ["json", "xml"])
@pytest.mark.parametrize("image_id", ["b/7.png", "7.png", "#1/b/7.png"])
def test_path_in_a_project_is_of_the_cell_that_it_names_most_fully(
    tmp_path: Path, suffix: str, image_id: str
) -> None:
    path = tmp_path / f"cells.{suffix}"
    export_cells(path, [f"project/{image_id}"], [Answer(f"project/{image_id}", "monocyte")])
    if suffix == "json":
        path.write_text(path.read_text().replace("image_id", "id"))
    (found,) = import_answers(path, ["7.png", "b/7.png", "c/7.png", "#1/b/7.png"])
    assert found.image_id == image_id


def test_name_invalid_in_xml_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rename the file"):
        export_cells(tmp_path / "cells.xml", ["a\x1b[1A.png"])
    export_cells(tmp_path / "cells.json", ["a\x1b[1A.png"])


def test_label_studio_import_has_reader_and_time(tmp_path: Path) -> None:
    path = tmp_path / "cells.json"
    export_cells(path, IDS, [Answer(IDS[0], "monocyte")])
    tasks = json.loads(path.read_text())
    tasks[0]["annotations"][0] |= {"completed_by": {"email": "ab@lab"}, "lead_time": 3.5}
    tasks[1] = {"data": {"image": "/data/local-files/?d=root/smear%201/b.png"}, "annotations": [
        {"was_cancelled": True, "result": []}
    ]}  # fmt: skip
    path.write_text(json.dumps(tasks))
    assert import_answers(path, IDS) == [
        Answer(IDS[0], "monocyte", "ab@lab", 3.5),
        Answer(IDS[1], "skip", "", None),
    ]


@pytest.mark.parametrize(("who", "reader"), [(10, "10"), (None, ""), ({"id": 3, "email": ""}, "3")])
def test_label_studio_names_readers_in_several_ways(
    tmp_path: Path, who: object, reader: str
) -> None:
    """And a file that was uploaded to it has a prefix. See labelstud.io/guide/task_format."""
    choice = {"id": "x", "type": "choices", "from_name": "label", "to_name": "image",
              "value": {"choices": ["monocyte"]}}  # fmt: skip
    box = {"type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["cell"]}}
    task = {
        "id": 1, "data": {"image": "/data/upload/83/0a1b2c3d-c.png"}, "predictions": [],
        "annotations": [{"id": 7, "completed_by": who, "was_cancelled": False, "lead_time": 4.288,
                         "result": [box, choice]}],
    }  # fmt: skip
    path = tmp_path / "project.json"
    path.write_text(json.dumps([task]))
    assert import_answers(path, IDS) == [Answer("c.png", "monocyte", reader, 4.288)]


def test_cvat_export_is_read_as_documented(tmp_path: Path) -> None:
    """The layout of docs.cvat.ai/docs/other/xml_format, with a shape beside the tag."""
    path = tmp_path / "annotations.xml"
    path.write_text(
        '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task>'
        "<id>4</id><name>lab</name><size>2</size><mode>annotation</mode></task></meta>"
        '<image id="0" name="smear 1/a.png" width="250" height="250">'
        '<box label="cell" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9" z_order="0"></box>'
        '<tag label="basophil" source="manual"></tag></image>'
        '<image id="1" name="c.png" width="250" height="250"></image></annotations>'
    )
    assert import_answers(path, IDS) == [Answer(IDS[0], "basophil", "", None)]


def test_nested_images_take_no_quadratic_time(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    tag = '<image name="a.png"><tag label="monocyte"/></image>'
    path.write_text("<image>" * 20_000 + tag + "</image>" * 20_000)
    start = time.process_time()
    assert import_answers(path, ["a.png"]) == [Answer("a.png", "monocyte")]
    assert time.process_time() - start < 2, "it took 5 s and more"


def test_cvat_export_states_every_label_as_a_tag(tmp_path: Path) -> None:
    path = tmp_path / "cells.xml"
    export_cells(path, IDS, [Answer(IDS[0], "monocyte")])
    root = ElementTree.parse(path).getroot()
    kinds = {each.findtext("name"): each.findtext("type") for each in root.iter("label")}
    assert set(kinds.values()) == {"tag"} and {"monocyte", "other", "skip"} <= kinds.keys()
    assert [(i.get("id"), i.get("name")) for i in root.iter("image")] == [
        (str(number), name) for number, name in enumerate(IDS)
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_cvat_files_that_define_entities_are_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "cells.xml"
    text = '<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>'
    path.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding))
    with pytest.raises(ValueError, match=r"cells\.xml.*(entities|null|codec)"):
        import_answers(path, IDS)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "{", "Label Studio"),
        ("a.json", '[{"data": 3}]', "Label Studio"),
        ("a.json", "[" * 100_000, "Label Studio"),
        ("a.json", task("monocyte", lead_time="soon"), "soon"),
        ("a.json", task("monocyte", lead_time=10**400), "Label Studio"),
        ("a.json", task({"a": 1}), "c.png"),
        ("a.json", task("monocyte", "basophil"), "2 choices"),
        ("a.xml", "<annotations>", "CVAT"),
        ("a.xml", '<a><image name="c.png"><tag label="x"/><tag label="y"/></image></a>', "2 tags"),
        ("a.xml", '<a><image name="c.png"><tag label="monocite"/></image></a>', "monocyte"),
        ("a.txt", "", ".csv"),
    ],
)
def test_damaged_exports_are_reported(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=r"a\.(json|xml|txt)") as caught:
        import_answers(path, IDS)
    assert words in str(caught.value)


def test_cvat_export_lists_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "cells.xml"
    export_cells(path, IDS)
    names = [each.text for each in ElementTree.parse(path).iterfind("meta/task/labels/label/name")]
    assert "basophil" in names and "other" in names
