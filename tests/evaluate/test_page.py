"""The page of a foreign table in a real browser: it fits the screen, and its plots can be read."""

from pathlib import Path

import pytest
from score_tables import foreign, saved

from darkhaloscope.evaluate.entry import run

pytestmark = pytest.mark.browser
LETTERS = """
[...document.querySelectorAll('figure.plot svg')]
  .filter(svg => svg.getBoundingClientRect().width > 0)
  .flatMap(svg => [...svg.querySelectorAll('text')].map(text =>
    parseFloat(getComputedStyle(text).fontSize)
      * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width))
"""


@pytest.fixture(scope="module")
def page_of_a_finder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    path = saved(foreign(), folder / "test.csv")
    words = ["--stratum", "theta_e=1,2", "--target-stratum", "seeing=1.1", "--against", str(path)]
    assert run([str(path), *words, "--headline", "theta_e=1", "--out", str(folder / "out")]) == 0
    return folder / "out" / "index.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_screen_and_its_letters_are_large_enough(
    browser: object, page_of_a_finder: Path, width: int, scheme: str
) -> None:
    page = browser.new_page(  # type: ignore[attr-defined]
        viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_of_a_finder.as_uri())
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    sizes = page.evaluate(LETTERS)
    assert len(sizes) > 30
    assert min(sizes) >= 9
    for link in page.eval_on_selector_all("nav a", "all => all.map(a => a.getAttribute('href'))"):
        assert page.locator(link).count() == 1, link
    page.close()
