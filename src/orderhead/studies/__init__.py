"""One section of the study = one file."""
