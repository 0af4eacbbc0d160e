"""A user's own cells: valid mappings, and errors instead of silently skipped files."""

import json
import pickle
import re
from collections import Counter
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest

import dataset_scripts
from hf_wbc.data.archive import open_archive
from hf_wbc.preparation.source import ArchiveSpec, Entry

MAPPING: dict[str, Any] = {
    "name": "my_lab",
    "um_per_px": 0.1,
    "classes": {"Baso": "basophil", "Mono": "monocyte", "Artefact": None},
}
FILES = ("Baso/img_1.png", "Mono/img_2.BMP", "Artefact/img_3.jpeg")


def configure(folder: Path, **changes: Any) -> ArchiveSpec:
    path = folder / "mapping.json"
    content = {key: value for key, value in {**MAPPING, **changes}.items() if value != "absent"}
    path.write_text(json.dumps(content), encoding="utf-8")
    return dataset_scripts.load("class_folders", mapping=path)


def walk(source: ArchiveSpec, folder: Path, *names: str) -> list[Entry]:
    root = folder / "archive"
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return list(source.walk(open_archive(root, folder / "scratch")))


def test_minimal_mapping_makes_a_source(tmp_path: Path) -> None:
    source = pickle.loads(pickle.dumps(configure(tmp_path)))
    assert (source.name, source.repo, source.um_per_px) == ("my_lab", "wbc-my-lab", 0.1)
    assert not source.redistributable and source.license == "other"
    assert not source.archive_counts and not source.used_counts and source.num_images is None
    entries = walk(source, tmp_path, *FILES)
    assert [(e.image_id, e.source_label, source.labels[e.source_label]) for e in entries] == [
        ("img_1.png", "Baso", "basophil"),
        ("img_2.BMP", "Mono", "monocyte"),
        ("img_3.jpeg", "Artefact", None),
    ]
    assert all(re.fullmatch(source.image_id, entry.image_id) for entry in entries)
    assert {entry.group for entry in entries} == {None}


def test_every_key_reaches_the_source(tmp_path: Path) -> None:
    said = {
        "title": "Zellen",
        "description": "Aus Blut.",
        "homepage": "https://example.org",
        "citation": "@misc{a}",
        "license": "cc-by-4.0",
        "redistributable": True,
    }
    source = configure(
        tmp_path, **said, um_per_px=None, notes=["One."], frame_px=[[360, 363], [400, 400]]
    )
    assert {key: getattr(source, key) for key in said} == said
    assert source.frame_px == {(360, 363), (400, 400)}
    assert source.um_per_px is None and source.notes[0] == "One."
    assert any("fills the frame" in note for note in source.notes)


def test_old_spelling_of_license_is_accepted(tmp_path: Path) -> None:
    assert configure(tmp_path, licence="cc-by-4.0", redistributable=True).license == "cc-by-4.0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"um_per_px": "absent", "classes": "absent"},
            "no um_per_px and no classes; a mapping requires",
        ),
        ({"um_per_pixel": 0.1}, "unknown key 'um_per_pixel'; did you mean 'um_per_px'"),
        ({"classes": {"N": "neutrophil"}}, "classes has 'N': unknown class 'neutrophil'; did you"),
        ({"classes": {"N": "Basophil"}}, "unknown class 'Basophil'; did you mean 'basophil'"),
        ({"classes": {"N": 3}}, "classes has 'N': unknown class '3'"),
        ({"classes": {"N": None}}, "no folder with a class"),
        ({"classes": ["basophil"]}, "classes is "),
        ({"classes": {"a/b": "basophil"}}, "write the folder's name only"),
        ({"classes": {"N": "basophil", "n": None}}, "'N' and 'n', which are the same folder"),
        ({"um_per_px": "0.1"}, "um_per_px is '0.1'; write um per pixel as a number"),
        ({"um_per_px": 0}, "um_per_px is 0;"),
        ({"um_per_px": True}, "um_per_px is True;"),
        ({"um_per_px": float("nan")}, "um_per_px is nan;"),
        ({"um_per_px": 10**400}, "um_per_px is 10"),
        ({"notes": ["a\ud800"]}, "is no character"),
        ({"name": "My Lab"}, "name is 'My Lab'; use lowercase letters"),
        ({"name": "acevedo_20"}, "name is 'acevedo_20', which is another source"),
        ({"title": 3}, "title is 3; write a text in quotes"),
        ({"redistributable": True}, "redistributable is true without a license"),
        ({"redistributable": "yes"}, "redistributable is 'yes'; write true or false"),
        ({"notes": "a"}, "notes is 'a'; write a list"),
        ({"frame_px": [360, 363]}, "frame_px is"),
        ({"frame_px": [["360", 363]]}, r"write \[width, height\] in pixels"),
        ({"name_pattern": "(["}, r"name_pattern is not a valid regular expression: '\(\['"),
        ({"image_id": "hash"}, "image_id is 'hash'; choose from name, path"),
        ({"group": "P[0-9]+"}, r"put one pair of \( \) around the group"),
        ({"group": "(P)", "groups": "a.csv"}, "groups and group exclude each other"),
    ],
)
def test_invalid_mapping_error_names_file_and_key(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"mapping\.json: .*{message}"):
        configure(tmp_path, **changes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not JSON: line 1, column 1"),
        (b'{"name": "a",}', "is not JSON: line 1, column 1"),
        (b"\xff\xfe{\x00}\x00", "is not UTF-8 text; save it"),
        (b'["name"]', "it is not a JSON object"),
        (b"[" * 10**5, "nested too deeply"),
        (b'{"classes": {"a": "basophil", "a": "monocyte"}}', "the key 'a' occurs twice"),
    ],
)
def test_invalid_mapping_file_is_an_error(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "mapping.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        dataset_scripts.load("class_folders", mapping=path)


@pytest.mark.parametrize("groups", ["/dev/zero", "nowhere.csv", "."])
def test_groups_that_are_no_file_are_an_error(tmp_path: Path, groups: str) -> None:
    with pytest.raises(ValueError, match="is not a file"):
        configure(tmp_path, groups=groups)


def test_mapping_is_required() -> None:
    with pytest.raises(ValueError, match="class_folders is described by a file; give --mapping"):
        dataset_scripts.load("class_folders")
    with pytest.raises(ValueError, match=r"has no option --labels \(a\.csv\); it takes --mapping"):
        dataset_scripts.load("class_folders", labels=Path("a.csv"))
    with pytest.raises(
        ValueError, match=r"acevedo_20 has no option --mapping \(a\.json\); omit it"
    ):
        dataset_scripts.load("acevedo_20", mapping=Path("a.json"))


@pytest.mark.parametrize("root", ["", "images/", "a b/ä/"])
def test_folders_are_found_at_any_depth_and_in_any_case(tmp_path: Path, root: str) -> None:
    names = (f"{root}BASO/img_1.png", f"{root}mono/slide_3/img_2.png", f"{root}Artefact/img_3.png")
    entries = walk(configure(tmp_path), tmp_path, *names, f"{root}readme.md", f"{root}Mono/a.txt")
    assert [(e.member, e.source_label) for e in entries] == list(
        zip(names, ("Baso", "Mono", "Artefact"), strict=True)
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Blasts/img_9.png", "Blasts/img_8.png"), r"not list: Blasts \(2 images\); add each"),
        (("img_9.png",), r"does not list: the top \(1 images\)"),
        (("copy/Baso/img_9.png",), "occur here more than once: copy, the top; give one"),
        (("Baso/slide.svs",), r"files in a class folder that are not images: Baso/slide\.svs"),
        (("Mono/img_1.png",), r'are both img_1\.png; write "image_id": "path" into the mapping'),
        (("baso/img_1.png",), r"are both Baso/img_1\.png; keep one"),
        (("Baso/Doe, Jane.png",), r"such as Doe, Jane\.png, do not match.*write a wider pattern"),
        (("Baso/Doe_19700101.png",), "may be names of people; rename the files"),
    ],
)
def test_folders_missing_from_the_mapping_are_an_error(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    source = configure(tmp_path)
    with pytest.raises(ValueError, match=message):
        walk(source, tmp_path, *FILES, *names)


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has the folders Mono, which are empty"):
        walk(configure(tmp_path), tmp_path, "Baso/img_1.png", "Artefact/img_2.png")


def test_another_archive_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not my_lab: its mapping has the folders Baso, Mono, Ar"):
        walk(configure(tmp_path), tmp_path, "PBC/basophil/BA_1.jpg")


def test_paths_serve_as_ids_for_repeated_file_names(tmp_path: Path) -> None:
    source = configure(tmp_path, image_id="path")
    entries = walk(source, tmp_path, "Baso/1.png", "Mono/P_3/1.png", "artefact/1.png")
    ids = [entry.image_id for entry in entries]
    assert ids == ["Artefact/1.png", "Baso/1.png", "Mono/P_3/1.png"]
    assert all(re.fullmatch(source.image_id, image_id) for image_id in ids)
    with pytest.raises(ValueError, match=r"such as Mono/Jane Doe/1\.png"):
        walk(source, tmp_path, "Mono/Jane Doe/1.png")


def test_names_in_any_script_pass_if_the_pattern_allows(tmp_path: Path) -> None:
    """Composed and decomposed Unicode (as on macOS) are equivalent."""
    source = configure(
        tmp_path,
        classes={"Базофил": "basophil", normalize("NFC", "Überrest"): None, "单核细胞": "monocyte"},
        name_pattern=r"(细胞|قلم|Zelle ä)_[0-9]+",
    )
    entries = walk(
        source,
        tmp_path,
        "базофил/细胞_1.png",
        normalize("NFD", "Überrest/Zelle ä_2.png"),
        "单核细胞/قلم_3.png",
    )
    assert {entry.image_id: source.labels[entry.source_label] for entry in entries} == {
        "细胞_1.png": "basophil",
        normalize("NFC", "Zelle ä_2.png"): None,
        "قلم_3.png": "monocyte",
    }
    assert all(re.fullmatch(source.image_id, entry.image_id) for entry in entries)
    with pytest.raises(ValueError, match=r"such as 细胞_١\.png"):
        walk(source, tmp_path, "Базофил/细胞_١.png")


GROUPED = ("Baso/img_1.png", "Mono/img_2.png", "Artefact/img_3.png")


@pytest.mark.parametrize(
    "text",
    [
        "path,group\nimages/Baso/img_1.png,P1\nimages/mono/img_2.png,P1\nArtefact/img_3.png,\n",
        "group,image_id\nP1,img_1.png\nP1,img_2.png\n,img_3.png\n",
        "path,group\r\na\\Baso\\img_1.png,P1\r\na\\Mono\\img_2.png,P1\r\nimg_3.png,\r\n",
    ],
)
def test_groups_come_from_a_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "groups.csv").write_bytes(text.encode())
    entries = walk(configure(tmp_path, groups="groups.csv"), tmp_path, *GROUPED)
    assert [entry.group for entry in entries] == ["P1", "P1", None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,patient\nBaso/img_1.png,P1\n", r"no column group; its columns are path, patient"),
        ("path,group\nBaso/img_1.png,P1\nMono/img_2.png,P1\n", r"lacks Artefact/img_3\.pn"),
        ("path,group\nx/img_1.png,P1\n", r"lists missing images: x/img_1\.png"),
        ("path,group\nBaso/img_1.png,1\nBaso/img_1.png,2\n", r"line 3: Baso/img_1\.png occurs twi"),
        ("path,group\nBaso/img_1.png,1\na/Baso/img_1.png,2\n", r"a/Baso/img_1\.png occurs twice"),
        (
            "path,group\nimg_1.png,Jane Doe\nimg_2.png,\nimg_3.png,\n",
            "groups such as Jane Doe do not match .* number the groups",
        ),
    ],
)
def test_invalid_group_table_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        walk(configure(tmp_path, groups="groups.csv"), tmp_path, *GROUPED)


def test_groups_come_from_a_pattern_in_the_path(tmp_path: Path) -> None:
    source = configure(tmp_path, group="/(P[0-9]+)/")
    entries = walk(source, tmp_path, "Baso/P1/1.png", "Mono/P1/2.png", "Artefact/P22/3.png")
    assert [entry.group for entry in entries] == ["P1", "P1", "P22"]
    with pytest.raises(ValueError, match=r"does not match Baso/4\.png; fix the pattern"):
        walk(source, tmp_path, "Baso/4.png")


@pytest.mark.parametrize(
    ("name", "num"), [("tecom_jiangxi", (300, 296)), ("bccd_crops", (351, 335))]
)
def test_real_folders_are_read_with_their_groups(
    shared: Path, tmp_path: Path, name: str, num: tuple[int, int]
) -> None:
    folder = shared / "data" / name
    kinds = {"neutrophil": "neutrophil_segmented", "lymphocyte": "lymphocyte_typical"}
    source = configure(
        tmp_path,
        um_per_px=None,
        groups=str(folder / "manifest.csv"),
        classes={
            path.name: kinds.get(path.name.lower(), path.name.lower())
            for path in (folder / "images").iterdir()
        },
    )
    entries = list(source.walk(open_archive(folder / "images", tmp_path)))
    assert (len(entries), len({entry.group for entry in entries})) == num
    counts = Counter(source.labels[entry.source_label] for entry in entries)
    assert counts.most_common(1)[0][0] == "neutrophil_segmented"


LAYOUT = ["{patient}/Signed slides/{class}", "{patient}/Unsigned slides"]
TREE = (
    "Patient_00/Signed slides/Baso/1.png",
    "Patient_00/Signed slides/mono/1.png",
    "Patient_01/signed slides/Mono/1.png",
    "Patient_01/Unsigned slides/1.png",
    "Patient_01/Signed slides/Artefact/2.png",
)


def test_layout_gives_patients_classes_and_unlabeled_images(tmp_path: Path) -> None:
    source = configure(tmp_path, layout=LAYOUT, image_id="path")
    entries = walk(source, tmp_path, *(f"export/{name}" for name in TREE))
    assert [(e.image_id, source.labels[e.source_label], e.group) for e in entries] == [
        ("Artefact/Patient_01/2.png", None, "Patient_01"),
        ("Baso/Patient_00/1.png", "basophil", "Patient_00"),
        ("Mono/Patient_00/1.png", "monocyte", "Patient_00"),
        ("Mono/Patient_01/1.png", "monocyte", "Patient_01"),
        ("unlabelled/Patient_01/1.png", "unlabelled", "Patient_01"),
    ]
    assert all(re.fullmatch(source.image_id, entry.image_id) for entry in entries)
    assert not any("same person" in note for note in source.notes)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("Patient_00/Signed slides/Eos/1.png", "Eos"),
        ("Patient_00/elsewhere/1.png", "elsewhere"),
        ("export/Patient_00/Signed slides/Baso/1.png", "both"),  # the same patient twice
    ],
)
def test_paths_outside_the_layouts_are_an_error(tmp_path: Path, extra: str, said: str) -> None:
    source = configure(tmp_path, layout=LAYOUT, image_id="path")
    with pytest.raises(ValueError, match=said):
        walk(source, tmp_path, *TREE, extra)


def test_patient_names_are_refused_as_groups(tmp_path: Path) -> None:
    tree = [name.replace("Patient_01", "Erika Mustermann") for name in TREE]
    with pytest.raises(ValueError, match="names of people"):
        walk(configure(tmp_path, layout=LAYOUT, image_id="path"), tmp_path, *tree)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layout": "{person}/{class}"}, "person"),
        ({"layout": 5}, "layout is 5"),
        ({"layout": ["{patient}"]}, "class"),
        ({"layout": "{patient}/{class}", "group": "(.)"}, "leave out groups and group"),
    ],
)
def test_invalid_layout_error_names_the_file(tmp_path: Path, changes: Any, said: str) -> None:
    with pytest.raises(ValueError, match=rf"mapping\.json.*{said}"):
        configure(tmp_path, **changes)
