"""Fixtures that every test may use, and the rule that in CI nothing real is skipped."""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
MAY_NOT_SKIP = ("real", "spark", "browser")

settings.register_profile("repeatable", derandomize=True)  # a test passes always or never
settings.load_profile("repeatable")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two cores are shared by the test processes


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the tests of endurance and of the golden test."""
    parser.addoption("--soak", action="store_true", help="many repeats in tests of endurance")
    parser.addoption("--golden", action="store_true", help="keep what the stages make as golden")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true a skipped `real`, `spark` or `browser` test is a failure."""
    report = yield
    kinds = [m for m in MAY_NOT_SKIP if item.get_closest_marker(m)]
    if (
        report.skipped
        and kinds
        and os.environ.get("CI") == "true"
        and not hasattr(report, "wasxfail")
    ):
        report.outcome = "failed"
        report.longrepr = f"a test marked {', '.join(kinds)} was skipped in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Headless Chromium of this machine."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium: apt-get install -y --no-install-recommends chromium")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real survey files; the test is skipped with a reason where it is missing."""
    folder = Path(os.environ.get("DHS_SHARED", REPOSITORY.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(
            f"no real survey files at {folder}: set DHS_SHARED to the folder that holds data/"
        )
    return folder
