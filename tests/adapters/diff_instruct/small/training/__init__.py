"""Network, losses, data, loop."""
