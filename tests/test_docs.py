"""What the documentation says of tables and settings is printed from them."""

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def test_generated_pages_are_current() -> None:
    script = REPOSITORY / "docs" / "generate.py"
    ran = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"run `python docs/generate.py`: {ran.stdout}{ran.stderr}"


def test_pages_link_to_pages_that_are_there() -> None:
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"
