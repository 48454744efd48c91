"""Fitting on many processes: scheduler, master, workers, transport."""
