"""Dark Halo Scope: a strong gravitational lens finder that knows its own figures."""

__version__ = "0.1.0"
