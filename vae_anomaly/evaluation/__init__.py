"""From scores and labels to figures with their uncertainty; NumPy and SciPy only."""
