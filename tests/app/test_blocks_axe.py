"""axe-core finds no violation on any tab, in light and dark, wide and narrow.

It is not part of this repository: npm install --no-save axe-core@4.14.1
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.ci]
AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
VIOLATIONS = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations
  .map(({ id, nodes }) => [
    id, nodes.length, nodes[0].html.slice(0, 160), nodes[0].failureSummary])
"""
TABS = ("One cell", "Many cells", "Label", "Does it fit my laboratory?", "About")


@pytest.mark.parametrize(
    ("width", "mode"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]
)
def test_axe_finds_no_violation(
    width: int, mode: str, open_window: Callable[..., Any], served: Any
) -> None:
    if not AXE.is_file():
        pytest.skip("no axe-core: npm install --no-save axe-core@4.14.1")
    context = open_window(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(f"{served.url}/?__theme={mode}")
    page.get_by_role("button", name="myeloblast").click()
    page.wait_for_selector("article.one")
    page.get_by_role("tab", name="Many cells").click()
    page.locator("#many-toy").click()
    page.wait_for_selector(".review .card")
    page.locator(".review .card").first.click()
    page.keyboard.press("Enter")
    page.keyboard.press("x")
    page.get_by_role("tab", name="Does it fit my laboratory?").click()
    page.locator("#domains-go").click()
    page.wait_for_selector("#domains-result img")
    page.evaluate(AXE.read_text())
    found = {}
    for name in TABS:
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(200)
        found[name] = page.evaluate(VIOLATIONS)
    page.get_by_role("tab", name="Many cells").click()
    page.locator(".review .card").first.click()
    page.keyboard.press(" ")
    page.locator("dialog .field img").wait_for()
    found["zoom"] = page.evaluate(VIOLATIONS)
    context.close()
    assert not any(found.values()), found
