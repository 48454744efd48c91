"""The vignetting of Chandra's mirror, as this package brings it (``hrma_vignetting.json`` tells its source)."""

from __future__ import annotations

import functools
import json
from importlib import resources

import numpy as np

from cpxt_hpc.science.vignetting import VignettingTable


@functools.cache
def hrma_vignetting() -> VignettingTable:
    """Ray traces of the bare mirror with MARX 5.5.3: 0.5 to 10 keV, 0 to 12 arcmin, averaged over the azimuth."""
    content = json.loads(resources.files("cpxt_hpc.io").joinpath("hrma_vignetting.json").read_text(encoding="utf-8"))
    arrays = (np.array(content[name], dtype=float) for name in ("energy_keV", "theta_arcmin", "V"))
    return VignettingTable(*arrays)
