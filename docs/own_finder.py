"""Runs the commands of docs/own-finder.md in an empty folder and writes what they print into it.

`python docs/own_finder.py` writes; `--check` says where the page differs from what is printed.
"""

import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE / "own-finder.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def filled(text: str) -> str:
    """The page with every output as it is printed now; `$ ` begins a command."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for script in sorted((HERE / "examples").iterdir()):
            shutil.copy(script, folder)
        return BLOCK.sub(lambda block: _block(block, folder), text)


def _block(block: re.Match[str], folder: Path) -> str:
    """A file is written, commands are run, anything else stays."""
    kind, name, content = block.groups()
    if name is not None:
        (folder / name).write_text(content)
    if kind != "console":
        return block[0]
    lines = []
    for command in _commands(content):
        lines += [f"$ {command}", *_printed(command.replace("\\\n", " "), folder)]
    return "```console\n" + "".join(f"{line}\n" for line in lines) + "```"


def _commands(content: str) -> list[str]:
    """Commands of a block; one goes on in the next line after a backslash."""
    return [c[2:] for c in re.findall(r"^\$ (?:.*\\\n)*.*$", content, re.MULTILINE)]


def _printed(command: str, folder: Path) -> list[str]:
    """What a command prints, and its exit status where that is not 0."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PATH": path, "COLUMNS": "100"},
    )
    said = (ran.stdout + ran.stderr).rstrip().splitlines()
    return said if ran.returncode == 0 else [*said, f"(exit status {ran.returncode})"]


def main() -> int:
    """Write the page, or with --check compare it."""
    text = PAGE.read_text()
    new = filled(text)
    if "--check" in sys.argv:
        names = ("the page", "as printed now")
        lines = (text.splitlines(keepends=True), new.splitlines(keepends=True))
        sys.stdout.writelines(difflib.unified_diff(*lines, *names))
        return int(text != new)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
