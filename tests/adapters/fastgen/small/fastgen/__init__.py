"""A small host of our own in FastGen's place: its names, and the order of its calls."""
