"""The responses of an observation to the bins of the fit, for whoever folds models through them anew."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.sparse import csr_array

from cpxt_hpc.fitting.model import ObservationInput
from cpxt_hpc.fitting.region_spectra import ObservationPart


@dataclasses.dataclass(frozen=True)
class BinnedResponse:
    """The responses of an observation, to the bins of the fit.

    Attributes
    ----------
    energy_edges_kev : ndarray of float64, shape (n_energies + 1,)
    area_cm2 : ndarray of float64, shape (n_responses, n_energies)
    matrix : csr_array, shape (n_energies, n_bins)
    """

    energy_edges_kev: np.ndarray
    area_cm2: np.ndarray
    matrix: csr_array

    def mean_area_cm2(self, part: ObservationPart) -> np.ndarray:
        """Effective area of a region: the mean of the responses by their shares in its light."""
        return np.asarray(part.response_weight) @ self.area_cm2


def binned_response(observation: ObservationInput, bin_channels: int) -> BinnedResponse:
    """The responses of an observation of a fit input, to its fitted channels in bins of so many."""
    n_fitted = observation.nodes.shape[-1]
    first = observation.first_channel - observation.first_rmf_channel
    matrix = csr_array(
        (observation.rmf_value, observation.rmf_column, observation.rmf_start),
        shape=(len(observation.rmf_start) - 1, len(observation.channel_low_kev)),
    )
    return BinnedResponse(
        np.asarray(observation.arf_energy_edges_kev, dtype=float),
        np.asarray(observation.arf_area_cm2, dtype=float),
        binned_matrix(matrix, np.arange(first, first + n_fitted), bin_channels),
    )


def binned_matrix(
    matrix: csr_array, channel: np.ndarray, bin_channels: int, weight: np.ndarray | None = None
) -> csr_array:
    """Columns of a redistribution matrix, in the order of `channel` and times their `weight`, in bins of so many."""
    n_bins = -(-len(channel) // bin_channels)
    weight = np.ones(len(channel)) if weight is None else weight
    to_bin = csr_array((weight, (channel, np.arange(len(channel)) // bin_channels)), shape=(matrix.shape[1], n_bins))
    binned = csr_array(matrix @ to_bin)
    binned.sort_indices()
    return binned
