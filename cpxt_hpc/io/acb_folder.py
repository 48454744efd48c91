"""What lies in ClusterPyXT's ``acb`` folder: names and reading; nothing is ever written there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io.images import read_image
from cpxt_hpc.science.grid import PixelGrid

LARGEST_SHIFT_PIXEL = 0.01


@dataclasses.dataclass(frozen=True)
class AcbFolder:
    """Files of one cluster.

    Attributes
    ----------
    folder : Path
    name : str
    """

    folder: Path
    name: str

    @property
    def scale_map(self) -> Path:
        """Radius of each pixel's circle."""
        return self.folder / f"{self.name}_pype_scale_map.fits"

    def events(self, obsid: int) -> Path:
        """Cleaned events."""
        return self.folder / f"acisI_clean_{obsid}.fits"

    def blank_sky(self, obsid: int) -> Path:
        """Cleaned blank-sky events."""
        return self.folder / f"backI_clean_{obsid}.fits"

    def response(self, obsid: int, kind: str) -> Path:
        """``arf`` or ``rmf``."""
        return self.folder / f"{self.name}_{obsid}.{kind}"

    def effective_time(self, obsid: int, kind: str) -> Path:
        """``data`` or ``background``: exposure of each pixel's circle."""
        return self.folder / f"{self.name}_effective_{kind}_time_{obsid}.npy"

    def arf_region(self, obsid: int) -> Path:
        """Where the ARF was made; beside the acb folder, and so not always there."""
        return self.folder.parent / str(obsid) / "analysis" / "acisI_region_0.reg"

    def files(self, obsids: tuple[int, ...]) -> list[Path]:
        """All that an import needs."""
        return [
            self.scale_map,
            *(
                path
                for obsid in obsids
                for path in (
                    self.events(obsid), self.blank_sky(obsid), self.response(obsid, "arf"), self.response(obsid, "rmf"),
                    self.effective_time(obsid, "data"), self.effective_time(obsid, "background"),
                )
            ),
        ]  # fmt: skip


def read_radii(acb: AcbFolder) -> tuple[np.ndarray, PixelGrid]:
    """Radius of each pixel's circle [image pixel], 0 where there is none, and the map's grid.

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        It is no map of radii in Chandra's sky pixels.
    """
    radius, grid, header = read_image(acb.scale_map)
    expected = grid.wcs().wcs.crpix
    found = [float(header.get(f"CRPIX{axis}", np.nan)) for axis in (1, 2)]
    if not np.all(np.abs(expected - found) < LARGEST_SHIFT_PIXEL):
        raise DataError(
            f"{acb.scale_map}: its tangent point is at image pixel {found[0]:.3f}, {found[1]:.3f}, by its physical "
            f"coordinates at {expected[0]:.3f}, {expected[1]:.3f}. Expected Chandra's sky pixels."
        )
    radius = np.nan_to_num(np.asarray(radius, dtype=float))
    if not (radius > 0.0).any() or radius.min() < 0.0:
        raise DataError(f"{acb.scale_map}: has no circles. Run ClusterPyXT's ACB stage again.")
    return radius, grid


def read_effective_time(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Effective exposure of each pixel's circle [s].

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        It is no such array.
    """
    try:
        time_s = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise MissingInput(f"{path}: not there. Run ClusterPyXT's calculation of effective times.") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: no NumPy array ({error}).") from error
    if time_s.shape != shape or time_s.dtype.kind != "f" or not np.all(np.isfinite(time_s)) or time_s.min() < 0.0:
        raise DataError(
            f"{path}: an array of {time_s.dtype} and shape {time_s.shape}, expected times [s] of shape {shape}, as the "
            "scale map."
        )
    return time_s
