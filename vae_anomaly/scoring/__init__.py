"""From a fitted model and rows to named scores, and to what each feature contributes."""
