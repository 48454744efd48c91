"""Spectral fits: models, statistics, engines, results."""
