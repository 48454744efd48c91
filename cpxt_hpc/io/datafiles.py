"""Where the data files lie that are not in the repository: AtomDB tables and ACIS-I responses.

``jobscripts/setup.sh`` fetches them once into a cache folder outside the repository and checks them by the
SHA-256 below. The cache is looked for in $CPXT_CACHE, then in the folder that the set-up recorded in the
environment, then in ``~/.cache/cpxt_hpc``.
"""

import os
import sys
from pathlib import Path

from cpxt_hpc.errors import MissingInput

TABLES_FOLDER = "tables"
APEC_PREFIX = "apec_v3.0.3"
RECORD = Path("share", "cpxt_hpc", "cache")

#: SHA-256 of every file of the cache; the tables are AtomDB 3.0.3, the responses are of the ACIS-I aim point.
SHA256 = {
    "apec_v3.0.3_coco.fits": "d26c3dc54a58787d6c8c62cb204850cee72628deb1227f5de8c67f0b518ac0cb",
    "apec_v3.0.3_line.fits": "b0ffe09a6a6365ef95da19b110ce2cea5c4f6e53ac548bb2f8a3e069dce950f4",
    "acisi_aimpt_cy0.arf": "8b4769932535f8f267e5adf65a610c2b835895a22df3c7a3bace9214e0d76b38",
    "acisi_aimpt_cy0.rmf": "761a5a851e02b7b04fe46c21f6b57bca03890135f24183adec3907a28473228d",
    "acisi_aimpt_cy18.arf": "7084f907819ddacede684794030ecf7eca8c44f6d3b496e48a40d5772c78087f",
    "acisi_aimpt_cy18.rmf": "85ae7b2d3a8b2355d3091233a970c505a6b316a6639bc91da2296d9cb05e168f",
}


def cache_folders() -> list[Path]:
    """Folders in which the cache is looked for, in this order.

    Returns
    -------
    list of Path
    """
    folders = []
    if os.environ.get("CPXT_CACHE"):
        folders.append(Path(os.environ["CPXT_CACHE"]).absolute())
    record = Path(sys.prefix) / RECORD
    if record.is_file():
        folders.append(Path(record.read_text(encoding="utf-8").rstrip("\n")))
    if os.environ.get("HOME"):
        folders.append(Path(os.environ["HOME"], ".cache", "cpxt_hpc"))
    return folders


def data_files(*names: str) -> list[Path]:
    """Paths of files of the cache, all in one folder.

    Parameters
    ----------
    *names : str
        Keys of `SHA256`.

    Returns
    -------
    list of Path

    Raises
    ------
    MissingInput
        No cache folder holds them all.
    """
    folders = [folder / TABLES_FOLDER for folder in cache_folders()]
    for folder in folders:
        paths = [folder / name for name in names]
        if all(path.is_file() for path in paths):
            return paths
    looked = ", ".join(map(str, folders)) or "no folder ($HOME is not set)"
    raise MissingInput(f"{' and '.join(names)} not found in {looked}. Run: bash jobscripts/setup.sh")


def apec_root() -> Path:
    """Prefix of the AtomDB tables, as XSPEC's APECROOT takes it.

    Returns
    -------
    Path
        ``.../apec_v3.0.3``; with ``_line.fits`` and ``_coco.fits`` behind it, two files that exist.

    Raises
    ------
    MissingInput
        One of the two is not in the cache.
    """
    line, _ = data_files(f"{APEC_PREFIX}_line.fits", f"{APEC_PREFIX}_coco.fits")
    return line.with_name(APEC_PREFIX)


def response_files(cycle: str = "cy18") -> tuple[Path, Path]:
    """ARF and RMF of the ACIS-I aim point.

    Parameters
    ----------
    cycle : str
        Chandra's observing cycle: ``cy0`` (launch) or ``cy18`` (2016).

    Returns
    -------
    tuple of Path
        ARF, RMF.

    Raises
    ------
    ValueError
        There are no responses for this cycle.
    MissingInput
        They are not in the cache.
    """
    if f"acisi_aimpt_{cycle}.arf" not in SHA256:
        raise ValueError(f"no responses for cycle {cycle!r}: choose cy0 or cy18")
    arf, rmf = data_files(f"acisi_aimpt_{cycle}.arf", f"acisi_aimpt_{cycle}.rmf")
    return arf, rmf
