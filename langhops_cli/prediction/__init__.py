"""From pictures and a vocabulary to instances, files and drawings."""
