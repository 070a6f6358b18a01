"""`[images]`: which files of a brick are asked for."""

from darkhaloscope.core.settings.base import StageConfig


class ImagesConfig(StageConfig):
    """The files of each brick and band; nothing to choose beyond the bands."""
