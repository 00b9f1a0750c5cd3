"""Measurements, side by side with the peers in one run. Ratios mean more than values on a shared machine."""
