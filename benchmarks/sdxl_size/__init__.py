"""What DisBack costs by size, from 10 M parameters to SDXL: see `__main__.py`."""
