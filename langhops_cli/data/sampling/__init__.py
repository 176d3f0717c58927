"""What each training step reads: sets by ratio, repetitions, pictures of like shape, in batches."""
