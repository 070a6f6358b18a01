"""Dark Halo Scope: a strong gravitational lens finder whose figures are known before anyone looks."""

__version__ = "0.1.0"
