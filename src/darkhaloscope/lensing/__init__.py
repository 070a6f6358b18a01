"""Batched physics on tensors: deflection, light, PSF, rendering, noise, populations."""
