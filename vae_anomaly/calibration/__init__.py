"""From scores of held-out normals to thresholds and p-values; NumPy and SciPy only."""
