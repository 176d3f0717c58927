"""The core model: modules that map padded batches to masks; no files, no configuration objects, no device logic."""
