"""One reader a dataset layout: from what lies on disk to records."""
