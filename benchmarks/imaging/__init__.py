"""The imaging package beside its peers: time, memory and likeness, as ratios taken in one run."""
