"""Grid, randomness, files, results: what every other room uses and what knows no model."""
