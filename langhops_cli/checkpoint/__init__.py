"""Building a model, and saving and loading it with its vocabulary and provenance."""
