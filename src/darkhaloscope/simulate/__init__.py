"""A simulated survey, drawn with the project's own light and PSF, in the survey's own layout."""
