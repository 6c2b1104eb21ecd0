"""Hooks into training."""
