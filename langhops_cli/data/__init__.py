"""From a dataset on disk to a padded batch."""
