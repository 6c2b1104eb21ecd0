"""Samples against real images by named protocols: FID and its kin, as the papers measured them."""
