"""Accessibility: keyboard, screen reader, phone, and dark mode."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.ci]
SIZES = [
    pytest.param((width, scheme), id=f"{width}-{scheme}")
    for width in (1440, 390)
    for scheme in ("light", "dark")
]
TABS = ("One cell", "Many cells", "Label", "Does it fit my laboratory?", "About")
UNNAMED = """() => [...document.querySelectorAll('input, select, button, img')].filter(e => {
  if (e.closest('[aria-hidden=true]') || !e.getClientRects().length) return false;
  if (e.tagName === 'IMG') return !e.hasAttribute('alt');
  return e.type !== 'file' && !(e.innerText?.trim() || e.getAttribute('aria-label') || e.title
    || e.labels?.length || e.getAttribute('aria-labeledby'));
}).map(e => e.outerHTML.slice(0, 160))"""
# The lowest contrast (WCAG 2) of the app's own text, with the affected words.
CONTRAST = """() => {
  const parse = c => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const linear = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => .2126 * linear(c[0]) + .7152 * linear(c[1]) + .0722 * linear(c[2]);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > .99) return c;
    }
    return [255, 255, 255];
  };
  let worst = [99, ''];
  const texts = 'p, td, th, li, figcaption, h1, h2, h3, dd, dt, label, caption, summary, code';
  for (const e of document.querySelectorAll(`.wbc :is(${texts})`)) {
    if (!e.getClientRects().length || e.closest('.sr') || !e.innerText.trim()) continue;
    const both = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(...both) + .05) / (Math.min(...both) + .05);
    if (ratio < worst[0]) worst = [ratio, e.innerText.slice(0, 80)];
  }
  return worst;
}"""


@pytest.fixture(params=SIZES)
def sized(request: Any, open_window: Callable[..., Any], served: Any) -> Iterator[Any]:
    """Open the app at a given width, light or dark, with a cell and a slide on it."""
    width, scheme = request.param
    context = open_window(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab = context.new_page()
    tab.goto(served.url)
    tab.get_by_role("button", name="myeloblast").click()
    tab.wait_for_selector("article.one")
    tab.get_by_role("tab", name="Many cells").click()
    tab.locator("#many-toy").click()
    tab.wait_for_selector(".review .card")
    tab.get_by_role("tab", name="Does it fit my laboratory?").click()
    tab.locator("#domains-go").click()
    tab.wait_for_selector("#domains-result img")
    yield tab
    context.close()


def test_every_tab_fits_and_is_labeled_and_readable(sized: Any) -> None:
    for name in TABS:
        sized.get_by_role("tab", name=name).click()
        sized.wait_for_function(
            "name => [...document.querySelectorAll('[role=tab]')].some("
            "t => t.innerText.trim() === name && t.ariaSelected === 'true')",
            arg=name,
        )
        width = sized.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], name
        assert sized.evaluate(UNNAMED) == [], name
        ratio, words = sized.evaluate(CONTRAST)
        assert ratio >= 4.5, (name, ratio, words)
    assert sized.locator("html").get_attribute("lang") == "en"


def press_tab_until(page: Any, words: str) -> None:
    """Move the keyboard focus to the element with this label."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText").strip() == words:
            return
    raise AssertionError(f"{words} cannot be reached by keyboard")


def test_keyboard_reaches_everything_and_results_are_announced(page: Any) -> None:
    press_tab_until(page, "monocyte")
    page.keyboard.press("Enter")
    page.wait_for_selector("article.one")
    page.wait_for_selector("[role=status][aria-live=polite] >> text=monocyte", state="attached")
    page.reload()
    page.wait_for_selector("#one-drop")
    press_tab_until(page, "Many cells")
    page.keyboard.press("Enter")
    page.wait_for_selector("#many-drop", state="visible")
    press_tab_until(page, "Try a drawn slide")
    page.keyboard.press("Enter")
    page.wait_for_selector(".review .card")
