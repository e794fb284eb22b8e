"""Measurements beside peers, as ratios taken in one run. Never part of the tests."""
