"""The page of a foreign table in a real browser: it fits the screen, and its plots can be read."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
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


def brightness(png: bytes, column: int) -> float:
    """Of a column of pixels, 0 to 255: the median, which letters and lines do not move."""
    with Image.open(io.BytesIO(png)) as picture:
        return float(np.median(np.asarray(picture.convert("L"))[:, column]))


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


def test_a_table_that_goes_on_beyond_the_edge_shows_it(
    browser: object, page_of_a_finder: Path
) -> None:
    """The edge of a wide table is darker than the paper, on the side where more of it is."""
    page = browser.new_page(viewport={"width": 390, "height": 900})  # type: ignore[attr-defined]
    page.goto(page_of_a_finder.as_uri())
    table = page.locator("#rates .scroll").first
    assert table.evaluate("each => each.scrollWidth - each.clientWidth") > 50
    before = table.screenshot()
    table.evaluate("each => { each.scrollLeft = each.scrollWidth }")
    after = table.screenshot()
    paper = 252
    assert brightness(before, -2) < paper - 20
    assert brightness(before, 1) > paper - 3
    assert brightness(after, -2) > paper - 3
    assert brightness(after, 1) < paper - 20
    page.close()
