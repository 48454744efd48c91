"""Engine ``sherpa``: the same spectra through Sherpa's fit and confidence objects and XSPEC's own models.

The reference for whoever wants to see it, thousands of times slower than the exact engine. Sherpa runs in a child
process that lives as long as its parent and fits region after region; what crashes or hangs there is an exception
here, and the next region gets a new child.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection

import numpy as np

from cpxt_hpc.errors import ToolError
from cpxt_hpc.fitting.binned_response import BinnedResponse
from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.fitting.region_spectra import RegionSpectra
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.xspec import checked_apec_root, child_environment, describe_end, last_lines

CHILD_MODULE = "cpxt_hpc.fitting.sherpa_child"
START_TIMEOUT_S = 300.0


class SherpaFault(Exception):
    """Sherpa raised an exception, or its process died: this fit has no result."""


class SherpaKilled(SherpaFault):
    """Its process was killed from outside, as by a machine that runs out of memory: no fault of the spectra."""


class SherpaTimeout(SherpaFault):
    """Sherpa did not answer in time."""


@dataclasses.dataclass(frozen=True)
class XspecModel:
    """The model as XSPEC knows it: absorption times plasma.

    Attributes
    ----------
    redshift, nh_1e22, abundance : float
        Frozen values, or where free ones start.
    absorption, plasma : str
        XSPEC's names.
    abundance_table, cross_sections : str
        As XSPEC's `abund` and `xsect` take them.
    apec_root : str
        Prefix of the AtomDB tables; empty for those of the set-up.
    """

    redshift: float
    nh_1e22: float
    abundance: float
    absorption: str = "phabs"
    plasma: str = "apec"
    abundance_table: str = "angr"
    cross_sections: str = "vern"
    apec_root: str = ""


@dataclasses.dataclass(frozen=True)
class SherpaResult:
    """What Sherpa found.

    Attributes
    ----------
    values : dict of str to float
        ``kT`` [keV], ``norm``, ``abundance``, ``nH`` [10^22 cm^-2] at the minimum, frozen ones included.
    limits : dict of str to (float or None, float or None)
        Lower and upper limit of each free parameter; None where none was found.
    statistic : float
    norms, counts_of_norm_1 : tuple of float
        Of each observation: its norm, and the source counts that it would have with a norm of 1.
    """

    values: dict[str, float]
    limits: dict[str, tuple[float | None, float | None]]
    statistic: float
    norms: tuple[float, ...]
    counts_of_norm_1: tuple[float, ...]


def xspec_model(fit_input: FitInput, apec_root: str = "") -> XspecModel:
    """The model that the nodes of a fit input were folded from."""
    settings = fit_input.settings
    return XspecModel(
        redshift=float(settings["redshift"]),
        nh_1e22=float(settings["nH_1e22"]),
        abundance=float(fit_input.abundance),
        absorption=str(settings["absorption"]),
        plasma=str(settings["plasma"]),
        abundance_table=str(settings["abundance_table"]),
        cross_sections=str(settings["cross_sections"]),
        apec_root=apec_root,
    )


class SherpaEngine:
    """Fits spectra with Sherpa in a child process, which starts with the engine and ends with it.

    Parameters
    ----------
    responses : sequence of BinnedResponse
        By position of the observation.
    model : XspecModel
    settings : FitSettings
        Its statistic, what is free, norms, the level of the limits and the longest time for one fit.
    kt_range_kev : (float, float)
        Searched temperatures.
    nh_range_1e22, abundance_range : (float, float)
        Searched values where these are free.

    Raises
    ------
    MissingInput
        The AtomDB tables are not there.
    ToolError
        There is no Sherpa with XSPEC, or it does not start.
    """

    def __init__(
        self,
        responses: Sequence[BinnedResponse],
        model: XspecModel,
        settings: FitSettings,
        *,
        kt_range_kev: tuple[float, float],
        nh_range_1e22: tuple[float, float] = (0.0, 10.0),
        abundance_range: tuple[float, float] = (0.0, 5.0),
    ) -> None:
        self.responses = tuple(responses)
        self.timeout_s = settings.region_timeout or None
        self.versions: dict[str, str] = {}
        self.ranges = {"abundance": tuple(map(float, abundance_range)), "nH": tuple(map(float, nh_range_1e22))}
        self._statistic = settings.statistic
        free = [name for name, is_free in (("abundance", settings.free_abundance), ("nH", settings.free_nh)) if is_free]
        self._configuration = {
            **dataclasses.asdict(model),
            "apec_root": str(checked_apec_root(model.apec_root or None)),
            "statistic": settings.statistic,
            "free": free,
            "norms_per_observation": settings.norms_per_observation,
            "delta_statistic": float(settings.delta_statistic),
            "kt_range": tuple(map(float, kt_range_kev)),
            "nh_range": self.ranges["nH"],
            "abundance_range": self.ranges["abundance"],
            "responses": [
                {
                    "energy_edges_kev": each.energy_edges_kev,
                    "start": each.matrix.indptr,
                    "column": each.matrix.indices,
                    "value": each.matrix.data,
                    "n_channels": each.matrix.shape[1],
                }
                for each in self.responses
            ],
        }
        self._child: subprocess.Popen | None = None
        self._link: Connection | None = None
        self._start()

    def __enter__(self) -> SherpaEngine:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    @property
    def child_pid(self) -> int | None:
        """Process number of the child; None after one has failed, until the next fit."""
        return None if self._child is None else self._child.pid

    def close(self) -> None:
        """End the child process."""
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
            self._output.close()

    def fit(self, spectra: RegionSpectra) -> SherpaResult:
        """Minimise the statistic of spectra, and find the limits of what is free.

        Raises
        ------
        SherpaFault
            Sherpa raised an exception, its process died (`SherpaTimeout`: did not answer in time).
        ToolError
            A new child process does not start.
        """
        answer = self._ask({"observations": self._observations(spectra)})
        return SherpaResult(
            answer["values"],
            answer["limits"],
            answer["statistic"],
            tuple(answer["norms"]),
            tuple(answer["counts_of_norm_1"]),
        )

    def statistics(self, spectra: RegionSpectra, points: Sequence[Mapping[str, float]]) -> np.ndarray:
        """Sherpa's statistic of spectra at given values of the parameters, those of `SherpaResult.values`.

        Raises
        ------
        SherpaFault, ToolError
            As `fit`.
        """
        request = {"observations": self._observations(spectra), "points": [dict(point) for point in points]}
        return np.array(self._ask(request)["statistics"])

    def _observations(self, spectra: RegionSpectra) -> list[dict]:
        observations = []
        for part in spectra.parts:
            bins = slice(int(spectra.start[part.position]), int(spectra.start[part.position + 1]))
            observations.append(
                {
                    "position": part.position,
                    "counts": spectra.counts[bins],
                    "background": spectra.background[bins] if self._statistic == "cstat" else np.zeros(0),
                    "blank_counts": spectra.blank_counts[bins] if self._statistic != "cstat" else np.zeros(0),
                    "blank_scale": spectra.blank_scale[bins] if self._statistic != "cstat" else np.zeros(0),
                    "exposure_s": spectra.exposure[bins],
                    "area_cm2": self.responses[part.position].mean_area_cm2(part),
                }
            )
        return observations

    def _start(self) -> None:
        """Start a child, and tell it the configuration."""
        environment = {**child_environment(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        ours, theirs = socket.socketpair()
        # -P: a numpy.py in the current folder is not taken for numpy.
        command = [sys.executable, "-P", "-m", CHILD_MODULE, str(theirs.fileno())]
        self._output = tempfile.TemporaryFile(prefix="cpxt_sherpa_")  # noqa: SIM115 (open as long as the child lives)
        with theirs:
            self._child = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
            )
        self._link = Connection(ours.detach())
        try:
            self.versions = self._exchange(self._configuration, START_TIMEOUT_S)["versions"]
        except SherpaFault as fault:
            self.close()
            raise ToolError(f"Sherpa does not start: {fault} Run: bash jobscripts/setup.sh") from fault

    def _ask(self, request: dict) -> dict:
        if self._child is None:
            self._start()
        return self._exchange(request, self.timeout_s)

    def _exchange(self, request: dict, timeout_s: float | None) -> dict:
        """Send a request and wait for its answer; a child that fails to give one is ended."""
        try:
            self._link.send(request)
            if not self._link.poll(timeout_s):
                self.close()
                raise SherpaTimeout(f"no answer within {timeout_s:g} s.")
            answer = self._link.recv()
        except (EOFError, OSError) as error:
            raise self._fault_of_its_end() from error
        if "out_of_memory" in answer:
            raise MemoryError(f"Sherpa: {answer['out_of_memory']}")
        if "fault" in answer:
            raise SherpaFault(answer["fault"])
        return answer

    def _fault_of_its_end(self) -> SherpaFault:
        """How the child ended and what it printed last."""
        try:
            code = self._child.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            code = self._child.wait()
        self._output.seek(0)
        printed = self._output.read().decode(errors="replace")
        self.close()
        kind = SherpaKilled if code == -signal.SIGKILL else SherpaFault
        return kind(f"its process {describe_end(code)}. {last_lines(printed)}")
