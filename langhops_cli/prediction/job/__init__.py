"""Many pictures and videos predicted: a record of what is done, resumed after any end, in batches and threads."""
