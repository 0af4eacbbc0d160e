"""The report is complete, self-contained, and identical for identical runs."""

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from hf_wbc.audit.representation import robustness_index
from hf_wbc.comparison.collect import collect
from hf_wbc.comparison.compare import compare
from hf_wbc.comparison.further_scores import further_scores
from hf_wbc.comparison.laboratory_share import laboratory_shares, read_run_features
from hf_wbc.comparison.report import figures, page, render
from hf_wbc.comparison.report.figures import ReportImages, make_report_images, report_sections

MakeRun = Callable[..., Path]
VOID = {"meta", "img", "br", "line", "rect", "circle"}


class Reader(HTMLParser):
    """Collects tags with their attributes, and tracks open tags."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another element"


@pytest.fixture(scope="module")
def runs(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two methods with two seeds, an oracle row, and a damaged folder."""
    root = tmp_path_factory.mktemp("runs")
    for method, skill in (("source_only", 0.3), ("dann", 0.6)):
        for seed in (0, 1):
            make_run(root, method, seed, skill=skill, exposed_to=["away"])
    make_run(root, "dann", 0, rule="oracle", skill=0.9, exposed_to=["away"])
    (root / "broken").mkdir()
    (root / "broken" / "record.json").write_text("{")
    return root


@pytest.fixture
def without_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the maps, which take seconds."""
    monkeypatch.setattr(figures, "MAX_MAPPED", 0)


@pytest.fixture(scope="module")
def text(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("out") / "report.html"
    with pytest.MonkeyPatch.context() as patch:  # compiling UMAP is slow
        patch.setattr("hf_wbc.audit.embedding._umap", lambda points, *_: points[:, :2])
        assert render(collect([runs]), out) == out
    return out.read_text(encoding="utf-8")


def test_page_is_well_formed_and_self_contained(text: str) -> None:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    for tag, attributes in reader.tags:
        assert tag not in ("link", "iframe", "object")
        for name in ("src", "href", "srcset"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:image/", "#")), value
    assert not re.search(r"https?://|@import|url\(", text)
    assert len(text.encode()) < page.LIMIT_BYTES


def test_every_image_has_alt_text_and_headings_are_nested(text: str) -> None:
    reader = Reader()
    reader.feed(text)
    images = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert len(images) > 8
    assert all(len(image["alt"] or "") > 20 for image in images)
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_internal_link_has_a_target(text: str) -> None:
    places = set(re.findall(r'id="([^"]+)"', text))
    assert {"scores", "rules", "limits", "problems"} <= places
    assert set(re.findall(r'href="#([^"]+)"', text)) <= places


def test_every_table_row_is_on_the_page(text: str, runs: Path) -> None:
    for row in compare(collect([runs])).rows:
        assert f"{row.macro_f1:.3f}" in text and row.name in text


def test_problems_exposure_oracle_and_transductive_rows_are_marked(text: str) -> None:
    assert "<code>broken</code>" in text
    assert "1 folder is excluded from the comparison" in text
    assert "Networks marked † were pre-trained on images of a domain of the direction" in text
    assert '<tr class="oracle"><th scope="row">dann' in text
    assert "Rows marked T are transductive" in text
    assert "1 rows marked O" not in text and "1 row marked O" in text


def test_features_are_mapped_before_and_after_adaptation(text: str) -> None:
    assert re.search("Before: source_only, seed 0</h4>.*Map of 120 test images", text, re.S)
    assert re.search("After: dann @ source_val, seed 0</h4>", text)


def test_robustness_index_of_the_mapped_features_stands_beside_each_map(
    text: str, runs: Path
) -> None:
    shown = re.findall(r"Robustness index ([.\d]+) \(", text)
    (row,) = [
        row
        for row in compare(collect([runs])).rows
        if row.method == "source_only" and row.setting.is_headline
    ]
    cells = read_run_features(row.runs[0])
    index = robustness_index(cells.features, cells.labels, cells.domains, cells.groups)
    assert len(shown) == text.count("colored by laboratory") == 2
    assert shown[0] == f"{index.value:.3f}"
    assert text.count("the laboratory is predicted with a balanced accuracy") == 2


@pytest.mark.parametrize("most", [0, 4])
def test_omitted_maps_are_given_a_reason(
    most: int, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MAX_MAPPED", most)
    monkeypatch.setattr(figures, "feature_map", lambda *_: None)  # too few images
    monkeypatch.setattr(figures, "_makers", lambda _: {figures.MAPS: figures._maps})
    make_run(tmp_path)
    (section,) = report_sections(compare(collect([tmp_path])))
    (made,) = make_report_images([section], 5_000_000)
    reason = made.left_out[figures.MAPS] if most == 0 else made.of[figures.MAPS]
    assert ("only the first 0" if most == 0 else "at least 5 test images") in reason


@pytest.mark.slow
@pytest.mark.ci
def test_requested_tables_are_on_the_page(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "make_report_images", lambda found, _: [ReportImages()] * len(found))
    make_run(tmp_path / "runs")
    collection = collect([tmp_path / "runs"])
    found = compare(collection)
    shares, _ = laboratory_shares(found.rows)
    further, _ = further_scores(found.rows)
    more = replace(found, laboratory_shares=shares, further_scores=further)
    text = render(collection, tmp_path / "report.html", more).read_text(encoding="utf-8")
    assert shares and f"{shares[0].robustness_index:.3f}" in text
    for title in ("Laboratory and class in the features", "Further scores"):
        assert text.count(title) >= 2, "a heading and a link to it"


def test_unavailable_images_are_reported_as_missing(text: str) -> None:
    assert "data/away is not available here, so its images cannot be shown" in text
    assert "predicted as <b>" in text


@pytest.mark.usefixtures("without_maps")
@pytest.mark.slow
@pytest.mark.ci
def test_order_of_runs_does_not_change_the_page(make_run: MakeRun, tmp_path: Path) -> None:
    made = [make_run(tmp_path / "runs", method) for method in ("source_only", "dann")]
    pages = []
    for number, names in enumerate((("a", "b"), ("b", "a"))):
        parts = [tmp_path / str(number) / name for name in names]
        for part in parts:
            part.mkdir(parents=True)
        for place, folder in enumerate(made):
            (parts[place % 2] / folder.name).symlink_to(folder)
        pages.append(render(collect(parts), tmp_path / f"{number}.html").read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.usefixtures("without_maps")
@pytest.mark.slow
@pytest.mark.ci
def test_oversized_page_lists_what_it_omits(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "LIMIT_BYTES", 190_000)
    found = render(collect([runs]), tmp_path / "small.html").read_text(encoding="utf-8")
    assert len(found.encode()) < 190_000
    assert "Heat map of F1" in found
    assert "Omitted to keep this page small" in found


@pytest.mark.usefixtures("without_maps")
@pytest.mark.slow
@pytest.mark.ci
def test_run_without_predictions_is_named_in_place_of_its_figure(
    tmp_path: Path, make_run: MakeRun
) -> None:
    for seed in (0, 1):
        (make_run(tmp_path / "runs", seed=seed) / "predictions.parquet").unlink()
    out = render(collect([tmp_path / "runs"]), tmp_path / "report.html")
    text = out.read_text(encoding="utf-8")
    assert "Not drawn: " in text and "predictions.parquet" in text
    assert "Confusion matrix of source_only" in text


@pytest.mark.usefixtures("without_maps")
@pytest.mark.slow
@pytest.mark.ci
def test_runs_without_target_have_a_page(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "runs", target=None)
    text = render(collect([tmp_path / "runs"]), tmp_path / "report.html").read_text()
    assert "there is no target" in text
    assert "oracle</th>" not in text


def test_failed_rendering_keeps_previous_page(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.html"
    out.write_text("before")
    monkeypatch.setattr(page, "make_report_images", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        render(collect([runs]), out)
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
