"""Features -> a number with an error bar."""
