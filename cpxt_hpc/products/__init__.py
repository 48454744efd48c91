"""Maps, pictures and tables from the checkpoint."""
