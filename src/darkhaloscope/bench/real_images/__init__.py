"""An honest check on real pictures: train on a simulated sky, score expert-graded candidates.

`pictures` reads the candidates, `mapping` turns flux into colours as their makers did, `simulated`
draws candidates to train on, `training` feeds and fits a network, `ladder` does so for each
variant, `judged` scores the real ones.
"""
