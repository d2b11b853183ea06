"""From a person's table to the codes that a model takes, and what each column is; pandas, no torch."""
