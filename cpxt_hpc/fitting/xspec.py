"""XSPEC's plasma models, evaluated in a child process.

The XSPEC library comes with the xspectrampoline wheel (see ``jobscripts/setup.sh``) or with CIAO. It wants
HEADAS set before it is loaded, lets an LD_LIBRARY_PATH that names another XSPEC win silently, and can end
its process by a signal. So it runs in a process of its own with an environment made for it, and whatever
goes wrong there is one error here.
"""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from cpxt_hpc.errors import DataError, MissingInput, ToolError
from cpxt_hpc.fitting.xspec_child import ABSORPTION_MODELS, ADDITIVE_MODELS
from cpxt_hpc.io import datafiles

CHILD_MODULE = "cpxt_hpc.fitting.xspec_child"
ATOMDB_MODELS = ("apec", "bapec", "nlapec")
"""Models that XSPEC interpolates linearly in kT between the temperatures of AtomDB."""

WITHOUT_METALS = ("zbremss",)

TIMEOUT_S = 900
SHOWN_LINES = 5


@dataclass(frozen=True)
class XspecNodes:
    """Spectra of a plasma model on a grid of abundances and temperatures.

    Attributes
    ----------
    emitted : ndarray, shape (n_abundance, n_kt, n_bin)
        Photon flux for norm 1 before absorption [photon/cm2/s/bin].
    transmission : ndarray, shape (n_nh, n_bin)
        Part that each hydrogen column lets through.
    versions : dict of str
        ``xspec``, ``sherpa``, ``atomdb``.
    """

    emitted: np.ndarray
    transmission: np.ndarray
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def photons(self) -> np.ndarray:
        """Photon flux behind the first column, shape (n_abundance, n_kt, n_bin)."""
        return self.emitted * self.transmission[0]


def evaluate_additive(
    energy_edges_kev: ArrayLike,
    kt_kev: ArrayLike,
    *,
    abundances: ArrayLike = (0.0, 1.0),
    redshift: float,
    nh_1e22: ArrayLike,
    absorption: str = "phabs",
    model: str = "apec",
    abundance_table: str = "angr",
    cross_sections: str = "vern",
    apec_root: str | Path | None = None,
) -> XspecNodes:
    """Absorbed plasma spectra for each abundance and temperature.

    Between the temperatures of `apec_temperatures_kev` the `ATOMDB_MODELS` are linear in kT, and they are linear in
    the abundance: two abundances and these temperatures are the whole model.

    Parameters
    ----------
    energy_edges_kev : array_like, shape (n_bin + 1,)
        Observed energies, positive and increasing [keV].
    kt_kev : array_like, shape (n_kt,)
        Temperatures, positive [keV]. XSPEC crashes at AtomDB's last one, 86.17.
    abundances : array_like, shape (n_abundance,)
        Metal abundances relative to `abundance_table`.
    redshift : float
    nh_1e22 : float or array_like, shape (n_nh,)
        Galactic columns [10^22 cm^-2]; 0 for no absorption. Each costs next to nothing.
    absorption : str
        phabs, tbabs or wabs.
    model : str
        A key of `ADDITIVE_MODELS`. Those but apec, bapec, nlapec and zbremss need data files that come with a full
        XSPEC (CIAO has them).
    abundance_table, cross_sections : str
        As XSPEC's `abund` and `xsect` take them.
    apec_root : path, optional
        Prefix of the AtomDB tables; default: those of the set-up.

    Returns
    -------
    XspecNodes

    Raises
    ------
    ValueError
        An argument out of its range, or the name of an unknown model.
    MissingInput
        The AtomDB tables are not where they should be.
    ToolError
        There is no XSPEC, it crashed, or refused a setting.
    """
    edges = np.ascontiguousarray(energy_edges_kev, dtype=float)
    temperatures = np.atleast_1d(np.asarray(kt_kev, dtype=float))
    metals = np.atleast_1d(np.asarray(abundances, dtype=float))
    if edges.ndim != 1 or edges.size < 2 or not (edges[0] > 0 and np.all(np.diff(edges) > 0)):
        raise ValueError("energy_edges_kev must be at least two positive, increasing energies")
    if temperatures.ndim != 1 or not np.all((temperatures > 0) & np.isfinite(temperatures)):
        raise ValueError(f"kt_kev must be positive, found {temperatures}")
    if metals.ndim != 1 or not np.all((metals >= 0) & np.isfinite(metals)):
        raise ValueError(f"abundances must not be negative, found {metals}")
    columns = np.atleast_1d(np.asarray(nh_1e22, dtype=float))
    if columns.ndim != 1 or columns.size == 0 or not np.all((columns >= 0) & np.isfinite(columns)):
        raise ValueError(f"nh_1e22 must not be negative, found {nh_1e22}")
    if not (redshift > -1 and np.isfinite(redshift)):
        raise ValueError(f"redshift must be above -1, found {redshift}")
    for kind, name, known in (
        ("absorption", absorption, ABSORPTION_MODELS),
        ("model", model, ADDITIVE_MODELS),
    ):
        if name not in known:
            raise ValueError(f"{kind} = {name!r} is unknown: choose one of {', '.join(known)}")
    root = checked_apec_root(apec_root)
    answer = run_child(
        {
            "energy_edges_kev": edges,
            "kt_kev": temperatures,
            "abundances": metals,
            "redshift": redshift,
            "nh_1e22": columns,
            "absorption": absorption,
            "model": model,
            "abundance_table": abundance_table,
            "cross_sections": cross_sections,
            "apec_root": str(root),
        }
    )
    emitted = answer["emitted"]
    # With a table that it cannot read XSPEC prints a line and returns zeros.
    if not (np.all(np.isfinite(emitted)) and np.all(emitted.sum(axis=-1) > 0)):
        raise ToolError(
            f"XSPEC's {model} gave an empty or invalid spectrum between {edges[0]:g} and {edges[-1]:g} keV "
            + (
                f"with the tables {root}. Run: bash jobscripts/setup.sh, which checks them."
                if model in ATOMDB_MODELS
                else "at some temperature: its data files come with a full XSPEC (CIAO has them), not with the one of "
                f"the set-up. Choose another plasma model, such as {', '.join(ATOMDB_MODELS)}."
            )
        )
    versions = {name: str(answer[name]) for name in ("xspec", "sherpa")}
    return XspecNodes(emitted, answer["transmission"], versions | {"atomdb": atomdb_version(root)})


def apec_temperatures_kev(apec_root: str | Path | None = None) -> np.ndarray:
    """Temperatures at which AtomDB tabulates the plasma.

    Parameters
    ----------
    apec_root : path, optional
        Prefix of the AtomDB tables; default: those of the set-up.

    Returns
    -------
    ndarray, shape (51,)
        Increasing temperatures [keV], from 0.00086 to 86.17. (Another AtomDB may have another number.)

    Raises
    ------
    MissingInput
        The tables are not where they should be.
    DataError
        The file is no AtomDB table.
    """
    from astropy.io import fits

    path = line_file(checked_apec_root(apec_root))
    try:
        with fits.open(path, memmap=True) as tables:
            temperatures = np.array(tables["PARAMETERS"].data["kT"], dtype=float)
    except (OSError, KeyError) as error:
        raise DataError(f"{path} is no AtomDB line table ({error}). Run: bash jobscripts/setup.sh") from error
    return temperatures


def line_file(root: Path) -> Path:
    """Line table of a table prefix."""
    return root.with_name(root.name + "_line.fits")


def checked_apec_root(apec_root: str | Path | None) -> Path:
    """The table prefix, absolute, after a look at both its files."""
    if apec_root is None:
        return datafiles.apec_root()
    root = Path(apec_root).expanduser().absolute()
    for path in (line_file(root), root.with_name(root.name + "_coco.fits")):
        if not path.is_file():
            raise MissingInput(
                f"{path} does not exist. The AtomDB setting must be a prefix such as "
                "/data/atomdb/apec_v3.0.9, beside which _line.fits and _coco.fits lie."
            )
    return root


def atomdb_version(root: Path) -> str:
    """Version of AtomDB as its file names tell it, e.g. 3.0.3."""
    found = re.search(r"v(\d+(?:\.\d+)+)", root.name)
    return found.group(1) if found else root.name


def bundled_headas() -> Path | None:
    """Folder of the XSPEC library that came with the xspectrampoline wheel, if it did."""
    spec = importlib.util.find_spec("xspectrampoline")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for candidate in sorted(Path(folder).glob("LibXSPEC*")):
            return candidate
    return None


def path_without_rivals(library_path: str, own_folder: Path) -> str:
    """An LD_LIBRARY_PATH without the folders that hold a library of the same name as one of our own.

    The rest stays: the libraries of a compiler module, or Python's own, may be needed to start at all.
    """
    own = {path.name.split(".")[0] for path in own_folder.glob("lib*")}
    return os.pathsep.join(
        entry
        for entry in library_path.split(os.pathsep)
        if entry and not any(path.name.split(".")[0] in own for path in Path(entry).glob("lib*"))
    )


def child_environment() -> dict[str, str]:
    """Environment variables with which XSPEC finds its own library and files, and no other.

    Raises
    ------
    ToolError
        There is neither the wheel's XSPEC nor CIAO's.
    """
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parents[2]), *filter(None, [environment.get("PYTHONPATH")])]
    )
    headas = bundled_headas()
    if headas is not None:
        environment["HEADAS"] = str(headas)
        kept = path_without_rivals(environment.pop("LD_LIBRARY_PATH", ""), headas / "lib")
        if kept:
            environment["LD_LIBRARY_PATH"] = kept
    elif not environment.get("ASCDS_INSTALL"):
        raise ToolError(
            f"no XSPEC models in the environment {sys.prefix}. Run: bash jobscripts/setup.sh "
            "(with CIAO: start CIAO first), and use the cpxt- commands of that environment."
        )
    return environment


def run_child(request: dict) -> dict:
    """Evaluate a request in a child process.

    Raises
    ------
    ToolError
        The child did not end well; the message has the last lines of what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="cpxt_xspec_") as folder:
        request_file, answer_file = Path(folder, "request.npz"), Path(folder, "answer.npz")
        np.savez(request_file, **request)
        # -P: a numpy.py in the current folder is not taken for numpy.
        command = [sys.executable, "-P", "-m", CHILD_MODULE, request_file, answer_file]
        try:
            ended = subprocess.run(
                command,
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ToolError(f"XSPEC did not answer within {TIMEOUT_S} s and was stopped.") from error
        if ended.returncode != 0:
            raise ToolError(f"XSPEC {describe_end(ended.returncode)}. {last_lines(ended.stdout)}")
        with np.load(answer_file) as stored:
            return {key: stored[key] for key in stored.files}


def describe_end(returncode: int) -> str:
    """How a child ended, in words."""
    if returncode >= 0:
        return f"failed (exit code {returncode})"
    try:
        return f"was ended by the signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was ended by the signal {-returncode}"


def last_lines(output: str) -> str:
    """The last lines that a child printed, for a message."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    return "It printed nothing." if not lines else "Its last lines: " + " | ".join(lines[-SHOWN_LINES:])
