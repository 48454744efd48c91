"""Which row of the search's work space holds what; the columns are the channels that have counts."""

COUNTS, PULL, EXPOSURE, BACKGROUND, RATIO, FIRST_NODE = range(6)
"""Counts; pull of the model last weighed; exposure [s]; background or its counts; wstat's c; source counts for norm 1
at the first node."""
