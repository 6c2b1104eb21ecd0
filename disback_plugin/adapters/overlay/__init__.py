"""What all patched hosts share: the session behind their loop, flags, side files in checkpoints."""
