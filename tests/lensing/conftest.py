"""The renderer's kernels: a test that asks for `kernel` runs once with each."""

import pytest

from darkhaloscope.lensing.render import Kernel

KERNELS: tuple[Kernel, ...] = ("torch", "compiled")


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    """Each kernel in turn, for `render_lensed`."""
    chosen: Kernel = request.param
    return chosen
