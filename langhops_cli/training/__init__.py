"""Training: recipes, the loop of both stages, and runs that can be gone on with."""
