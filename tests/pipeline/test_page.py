"""The report's page in a real browser: whole, without the network, on wide and narrow screens."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("pipeline")]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_stands_alone_and_fits_the_screen(
    browser: object, finished: Path, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})  # type: ignore[attr-defined]
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto((finished / "demo/report/index.html").as_uri())
    assert "Lens finder" in page.title()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert faults == []
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0
    broken = "[...document.images].filter(i => !(i.complete && i.naturalWidth)).length"
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    assert page.locator("img").count() > 0
    page.wait_for_function(f"{broken} === 0")
    page.close()


def test_every_link_of_the_page_leads_to_a_part_of_it(browser: object, finished: Path) -> None:
    page = browser.new_page()  # type: ignore[attr-defined]
    page.goto((finished / "demo/report/index.html").as_uri())
    links = page.eval_on_selector_all("nav a", "all => all.map(a => a.getAttribute('href'))")
    assert len(links) >= 5
    for link in links:
        assert page.locator(link).count() == 1, link
    page.close()
