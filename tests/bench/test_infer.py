"""`dhs bench infer`: every installed way on the same stamps, with what it costs in exactness."""

import importlib.util
import json
import subprocess
import sys

import pytest

from darkhaloscope.bench import entry, infer
from darkhaloscope.core.errors import ConfigError


@pytest.fixture(scope="module")
def figures() -> dict[str, object]:
    return infer.measure(["small"], rounds=1, batch=2, seconds=1e-4, size=16)


def ways(figures: dict[str, object]) -> dict[str, dict[str, float]]:
    return figures["networks"]["small"]["ways"]  # type: ignore[index,no-any-return]


def test_all_that_is_installed_is_measured(figures: dict[str, object]) -> None:
    expected = {infer.PLAIN, "torch fp32 channels_last", "torch bf16 channels_last"}
    for package, found in (
        ("onnxruntime", {"onnxruntime fp32", "onnxruntime int8"}),
        ("openvino", {"openvino fp32", "openvino bf16", "openvino int8"}),
    ):
        has = importlib.util.find_spec(package) is not None
        expected |= found if has else set()
        assert (package in figures["not_installed"]) != has  # type: ignore[operator]
    assert set(ways(figures)) == expected
    assert all(one["stamps_per_core_s"] > 0 for one in ways(figures).values())
    assert ways(figures)[infer.PLAIN]["ratio"] == 1


def test_float32_is_exact_and_fewer_bits_are_seen_to_be_fewer(figures: dict[str, object]) -> None:
    for way, one in ways(figures).items():
        if "fp32" in way:
            assert one["max_difference_over_std"] < 1e-3, way
        elif way != "openvino bf16":  # on a processor without it that is float32
            assert one["max_difference_over_std"] > 1e-3, way


def test_the_figures_are_json_and_a_table_names_every_way(figures: dict[str, object]) -> None:
    held = json.loads(json.dumps(figures))
    assert held["versions"]["torch"]
    assert held["clock"] == "CPU seconds of one thread"
    told = infer.table(held)
    assert all(way in told for way in ways(figures))


def test_options_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        infer.measure(["small"], rounds=0)
    with pytest.raises(ConfigError, match="invalid choice"):
        entry.run(["infer", "--network", "none"])


def test_it_loads_where_only_the_nets_packages_are() -> None:
    script = (
        "import sys, darkhaloscope.bench.infer\n"
        "names = ('pydantic', 'typer', 'rich', 'astropy', 'onnx', 'onnxruntime', 'openvino')\n"
        "print([m for m in names if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
