"""Fixtures that several test modules share."""

import os

from ciao_observatory import ciao_cluster, ciao_copy, started
from step_clusters import cluster, process_as_before, run, snapshots

__all__ = ["ciao_cluster", "ciao_copy", "cluster", "process_as_before", "run", "snapshots", "started"]

# No test needs the internet, nor may one fetch 100 MB because a file of its own is missing.
os.environ["CPXT_OFFLINE"] = "1"
