"""Fixtures that several test modules share."""

import os
import tempfile
from pathlib import Path

import pytest
from ciao_observatory import ciao_cluster, ciao_copy, started
from step_clusters import cluster, process_as_before, run, snapshots

__all__ = ["ciao_cluster", "ciao_copy", "cluster", "process_as_before", "run", "snapshots", "started"]

# No test needs the internet, nor may one fetch 100 MB because a file of its own is missing.
os.environ["CPXT_OFFLINE"] = "1"

# Nor does one read or change the settings of whoever runs it.
_SETTINGS = tempfile.TemporaryDirectory(prefix="cpxt_settings_")
os.environ["CPXT_CONFIG"] = str(Path(_SETTINGS.name, "config.ini"))


@pytest.fixture(autouse=True)
def without_current_cluster():
    """A user who has never worked on a cluster before."""
    Path(_SETTINGS.name, "config.ini").unlink(missing_ok=True)
