"""Sources brought to the disk: fetched, unpacked, their layout checked."""
