"""Measurements: as ratios to peers or to doing nothing, all in one run; never asserted by a test."""
