"""A synthetic cluster with known truth, in Chandra level-2 format."""
