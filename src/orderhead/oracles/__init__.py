"""What a real image says about its cells: importance in [0, 1]."""
