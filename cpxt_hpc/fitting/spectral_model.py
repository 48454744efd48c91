"""What is known of the model besides its folded rates."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class SpectralModel:
    """Nodes and frozen values of a model.

    Attributes
    ----------
    kt_nodes_kev : ndarray of float64, shape (n_nodes,)
        Temperatures between which it is linear; the first and last bound the search.
    nh_nodes_1e22 : ndarray of float64, shape (n_nh,)
        Hydrogen columns at which it was folded.
    abundance, nh_1e22 : float
        Frozen values.
    """

    kt_nodes_kev: np.ndarray
    nh_nodes_1e22: np.ndarray
    abundance: float
    nh_1e22: float
