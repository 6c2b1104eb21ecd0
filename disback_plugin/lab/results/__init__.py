"""Curves of runs and what they say over seeds: thresholds, paired ratios, intervals."""
