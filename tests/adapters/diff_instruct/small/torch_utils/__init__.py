"""Processes, sampler, statistics."""
