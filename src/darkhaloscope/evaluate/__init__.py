"""How good a finder is, with intervals: rates, curves, plots, the page. No torch."""
