"""What is measured: an instrument looks at a model through the batches of a probe, in any training loop."""
