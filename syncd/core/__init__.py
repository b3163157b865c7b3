"""The functional core: mapping, merging, deciding, guarding, pacing. No I/O, no clock, no randomness."""
