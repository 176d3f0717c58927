"""Trees of names: where they come from, what is wrong with them, what they lack, and how one maps onto another."""
