"""Datasets, cached latents, deterministic batches."""
