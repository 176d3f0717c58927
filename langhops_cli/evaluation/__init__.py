"""Protocols that score predictions against annotations."""
