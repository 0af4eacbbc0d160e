"""Anyone's model joins the leaderboard by one pull request; the Space is one static page."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.chromium import chromium
from support.hub_server import LoopbackHub

from hf_wbc.hub.benchmark import EVAL_FILE, eval_yaml
from hf_wbc.hub.checks import check_publication
from hf_wbc.hub.leaderboard import read_leaderboard
from hf_wbc.hub.publication import parse_destination
from hf_wbc.hub.publish_leaderboard import leaderboard_page, leaderboard_publication

HOSTILE = '</td><script>alert(1)</script>{{7*7}}" onmouseover="alert(2)'


def write_benchmark(folder: Path, *, notes: str = "95 % interval 0.400 to 0.600") -> Path:
    (folder / ".eval_results").mkdir(parents=True)
    (folder / EVAL_FILE).write_bytes(eval_yaml("home", "Home", 120, 9))
    for name, value in (("lab--robust", 0.6), ("lab--plain", 0.4)):
        entries = [
            {"dataset": {"id": "lab/home", "task_id": "home"}, "value": value, "notes": notes},
            {"dataset": {"id": "lab/x", "task_id": HOSTILE}, "value": 0.5, "notes": HOSTILE},
        ]
        (folder / ".eval_results" / f"{name}.yaml").write_text(yaml.safe_dump(entries))
    return folder


def test_untrusted_text_is_never_rendered_as_markup(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path)
    (folder / ".eval_results" / "a--<img src=x>.yaml").write_text("[]")
    page = leaderboard_page(read_leaderboard(folder))
    assert page.count("<script>") == 1 and "<img" not in page
    assert 'onmouseover="' not in page and HOSTILE not in page
    assert "http" not in page.replace('href="results.json"', "")


def test_space_is_a_static_page_with_data_and_card(tmp_path: Path) -> None:
    said: list[str] = []
    folder = write_benchmark(tmp_path)
    (folder / ".eval_results" / "a--b.yaml").write_text("[]")
    found = leaderboard_publication(str(folder), said.append)
    check_publication(found)
    assert set(found.files) == {"README.md", "index.html", "results.json"} and found.public
    card, data = found.files["README.md"], found.files["results.json"]
    assert isinstance(card, bytes) and isinstance(data, bytes)
    facts = yaml.safe_load(card.decode().split("---\n")[1])
    assert (facts["sdk"], facts["app_file"]) == ("static", "index.html")
    assert [each["model"] for each in json.loads(data)["models"]] == ["lab/robust", "lab/plain"]
    assert len(said) == 1 and "a--b.yaml" in said[0]
    assert parse_destination("lab/board", "leaderboard").repo_type == "space"  # type: ignore[union-attr]


def test_benchmark_without_results_has_no_leaderboard(tmp_path: Path) -> None:
    (tmp_path / EVAL_FILE).write_bytes(eval_yaml("home", "Home", 120, 9))
    with pytest.raises(ValueError, match="hf-wbc submit"):
        leaderboard_publication(str(tmp_path), print)


def test_missing_model_is_left_out(
    hub: LoopbackHub, tmp_path: Path, published: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # tested separately
    folder, api = write_benchmark(tmp_path / "home"), HfApi()
    api.create_repo("lab/home", repo_type="dataset")
    api.upload_folder(repo_id="lab/home", repo_type="dataset", folder_path=folder)
    api.create_repo("lab/plain")
    status, said = published("leaderboard", "lab/home", "--to", "lab/board")
    assert status == 0, said
    assert "left out lab--robust.yaml" in said
    space = hub.repo("space", "lab/board")
    page = space.content("main", "index.html").decode()
    assert f'href="{hub.url}/lab/plain"' in page and f'href="{hub.url}/lab/robust"' not in page
    assert space.facts["sdk"] == "static" and not space.facts["private"]


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("width", [390, 1440])
def test_page_fits_the_window_and_sorts(tmp_path: Path, width: int) -> None:
    folder = write_benchmark(tmp_path)
    page = tmp_path / "index.html"
    page.write_text(leaderboard_page(read_leaderboard(folder)), encoding="utf-8")
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": width, "height": 800})
        said: list[str] = []
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: said.append(dialog.message))
        tab.goto(page.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        names = [row.inner_text() for row in tab.query_selector_all("tbody th")]
        assert [name.split()[0] for name in names] == ["lab/robust", "lab/plain"]
        if width == 1440:
            for _ in range(2):  # descending, then ascending
                tab.click("thead th:nth-child(2) button")
            names = [row.inner_text() for row in tab.query_selector_all("tbody th")]
            assert [name.split()[0] for name in names] == ["lab/plain", "lab/robust"]
        else:
            tab.select_option("#order", "1")
        assert said == []
