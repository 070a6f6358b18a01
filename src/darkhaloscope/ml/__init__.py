"""Networks, the one normalisation, batches made on the device, training."""
