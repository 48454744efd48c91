"""Fixtures that several test modules share."""

from step_clusters import cluster, process_as_before, run, snapshots

__all__ = ["cluster", "process_as_before", "run", "snapshots"]
