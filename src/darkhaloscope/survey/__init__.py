"""The survey as it publishes itself: where files lie, fetching, catalogues, bricks, images."""
