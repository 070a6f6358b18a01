"""What `dhs bench` and `python -m darkhaloscope.bench` have in common: words in, figures out.

The words are read by argparse: on a bare GPU machine there is no typer.
"""

import argparse
import datetime
import importlib
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import darkhaloscope
from darkhaloscope.core.errors import ConfigError

Figures = Mapping[str, Any]

# The module of each is imported when it is asked for, and has `main(words) -> int`.
MEASURES = {
    "render": "speed and error of the renderer, beside lenstronomy",
    "train": "where the time of a training step goes",
    "infer": "how fast a network scores in torch, ONNX Runtime and OpenVINO",
    "benchmark": "recipes on the frozen benchmark: `dhs benchmark`",
    "spacewarps": "networks trained on simulated pictures, on real graded candidates",
}
_PACKAGES = (
    "numpy", "scipy", "torch", "numba", "lightning", "lenstronomy", "onnxruntime", "openvino",
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one message of the project's kind."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def run(words: Sequence[str]) -> int:
    """Measure what the first word says, with the options that follow; the exit status.

    Raises:
        ConfigError: a word or option cannot be used.
    """
    listed = "\n".join(f"  {name:<11}{what}" for name, what in MEASURES.items())
    parser = Parser(
        prog="dhs bench",
        usage="dhs bench render|train|infer|spacewarps|benchmark ...",
        description="Measure speed and error on this machine.",
        epilog=f"measures:\n{listed}\n\n`dhs bench MEASURE --help` lists the options of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("measure", choices=list(MEASURES), help=argparse.SUPPRESS)
    # Only the first word is ours; `render --help` is for the measure itself.
    measure = parser.parse_args(words[:1]).measure
    # Read when numpy is loaded: its products on several threads would be counted as one thread's,
    # and on a busy machine they spin. Torch's threads are another matter and stay as they are.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        module = importlib.import_module(f"darkhaloscope.bench.{measure}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("darkhaloscope"):
            raise
        raise ConfigError(
            f"{error.name} is not installed; `pip install 'darkhaloscope[nets]'` brings it"
        ) from error
    status: int = module.main(words[1:])
    return status


def parser_of(measure: str) -> Parser:
    """A parser with the options that every measure has: --json, --out, --device."""
    parser = Parser(
        prog=f"dhs bench {measure}",
        description=f"Measure {MEASURES[measure]}.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the JSON to a file too")
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="auto: a GPU too, where there is one",
    )
    return parser


def check(asked: argparse.Namespace) -> None:
    """Refuse, before minutes of measuring, what could not be done at their end.

    Raises:
        ConfigError: no GPU is here, or the file cannot be.
    """
    import torch

    if asked.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device was found; use --device cpu")
    if asked.out is not None and asked.out.is_dir():
        raise ConfigError(f"--out {asked.out} is a folder; name a file")
    if asked.out is not None and not asked.out.parent.is_dir():
        raise ConfigError(
            f"--out {asked.out}: there is no folder {asked.out.parent}; make it first"
        )


def tell(figures: Figures, table: Callable[[Figures], str], asked: argparse.Namespace) -> None:
    """Print the figures, as JSON on one line or as a table, and keep them where that was asked."""
    if asked.out is not None:
        try:
            asked.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--out {asked.out} cannot be written: {error.strerror}") from error
    sys.stdout.write((json.dumps(figures) if asked.json else table(figures)) + "\n")


def circumstances() -> dict[str, Any]:
    """Where and when: date, machine, versions; what a figure means nothing without."""
    import torch

    versions = {"darkhaloscope": darkhaloscope.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions,
    }


def _cpu_model() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
