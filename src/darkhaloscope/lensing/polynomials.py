"""Short polynomials in the place of functions that a compiled loop would be slow to call.

numba keeps what it compiled until the module with the loop changes: a change here is seen by a loop
only once its own module is changed too, or its cache is deleted.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["series"]


def series(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    degree: int,
    low: float,
    high: float,
) -> tuple[np.float32, ...]:
    """Coefficients of a polynomial through Chebyshev points of (low, high), the constant first.

    Examples:
        >>> series(lambda t: 1 + 2 * t, 1, 0.0, 1.0)
        (np.float32(1.0), np.float32(2.0))
    """
    at = low + (np.cos(np.pi * (np.arange(400) + 0.5) / 400) + 1) / 2 * (high - low)
    fitted = np.polynomial.Polynomial.fit(at, function(at), degree).convert()
    return tuple(np.float32(c) for c in fitted.coef)
