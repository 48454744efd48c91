"""The packed input of the fit, ``acb/<name>_fit_input.h5``.

Every array lies in the file as one plain, uncompressed block, so that a reader maps it into memory: the
ranks of a node share the pages, and a run for one region reads little more than what that region needs.

Layout (version 2)::

    /                  attributes format, version, software, name, grid, abundance, settings, binning_digest
    /kt_nodes_kev, /nh_nodes_1e22, /surface_brightness
    /regions/          the arrays of RegionTable
    /observations/0000 attributes: the numbers and names of ObservationInput; its arrays

Each dataset carries the CRC-32 of its bytes in the attribute ``crc32``; `verify_fit_input` checks them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

import cpxt_hpc
from cpxt_hpc.errors import DataError, MissingInput, OutputError
from cpxt_hpc.fitting.model import FitInput, ObservationInput, RegionTable
from cpxt_hpc.fitting.model_arrays import (
    OBSERVATION_ARRAYS,
    OBSERVATION_NUMBERS,
    REGION_ARRAYS,
    ROOT_ARRAYS,
    shape_fault,
)
from cpxt_hpc.io.atomic import replacing
from cpxt_hpc.science.grid import PixelGrid

FORMAT = "cpxt_hpc fit input"
VERSION = 2

ALIGNMENT_BYTES = 64
"""Blocks begin at multiples of this, so that a mapped array is aligned for every type and vector unit."""

MAPPED_FROM_BYTES = 65536
"""Smaller arrays are read: a mapping of their own would cost more than it saves."""

_RERUN = "Run cpxt-prep --stage 5 again."


def write_fit_input(path: Path, fit_input: FitInput) -> None:
    """Write the fit's input, whole or not at all.

    Raises
    ------
    ValueError
        An array has another type or shape than `FitInput` states.
    OutputError
        The file cannot be written.
    """
    fault = shape_fault(fit_input)
    if fault:
        raise ValueError(f"not a fit input: {fault}")
    path = Path(path)
    with replacing(path) as temporary:
        try:
            with h5py.File(
                temporary, "w", alignment_threshold=ALIGNMENT_BYTES, alignment_interval=ALIGNMENT_BYTES
            ) as file:
                blocks = _lay_out(file, fit_input)
        except RuntimeError as error:
            # What h5py makes of a full disk when it closes a file.
            raise OutputError(f"{path}: cannot be written ({error}). Make room, then run again.") from error
        # The bulk goes round HDF5, which after a failed write cannot even close its file.
        with open(temporary, "rb+") as stream:
            for offset, values in blocks:
                stream.seek(offset)
                stream.write(values.reshape(-1).view(np.uint8))


def _lay_out(file: h5py.File, fit_input: FitInput) -> list[tuple[int, np.ndarray]]:
    """Write all but the arrays' values; return these with the offsets in the file where they belong."""
    grid = fit_input.grid
    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    file.attrs["software"] = f"cpxt_hpc {cpxt_hpc.__version__}"
    file.attrs["name"] = fit_input.name
    file.attrs["abundance"] = float(fit_input.abundance)
    file.attrs["binning_digest"] = fit_input.binning_digest
    file.attrs["settings"] = json.dumps(fit_input.settings, sort_keys=True)
    file.attrs["grid"] = json.dumps(
        {
            "ra_deg": float(grid.ra_deg),
            "dec_deg": float(grid.dec_deg),
            "sky_x0": float(grid.sky_x0),
            "sky_y0": float(grid.sky_y0),
            "nx": int(grid.nx),
            "ny": int(grid.ny),
            "binning": int(grid.binning),
        }
    )
    blocks = _lay_out_arrays(file, fit_input, ROOT_ARRAYS)
    blocks += _lay_out_arrays(file.create_group("regions"), fit_input.regions, REGION_ARRAYS)
    observations = file.create_group("observations")
    for position, observation in enumerate(fit_input.observations):
        group = observations.create_group(f"{position:04d}")
        for key, kind in OBSERVATION_NUMBERS.items():
            group.attrs[key] = kind(getattr(observation, key))
        group.attrs["groups"] = json.dumps(list(observation.groups))
        blocks += _lay_out_arrays(group, observation, OBSERVATION_ARRAYS)
    return blocks


def _lay_out_arrays(
    group: h5py.Group, record: object, arrays: dict[str, tuple[str, int]]
) -> list[tuple[int, np.ndarray]]:
    blocks = []
    for name, (dtype, _) in arrays.items():
        values = np.ascontiguousarray(getattr(record, name), dtype=dtype)
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        dataset = group.create_dataset(name, shape=values.shape, dtype=dtype, dcpl=creation)
        dataset.attrs["crc32"] = np.uint32(_crc32(values))
        if values.size:
            blocks.append((dataset.id.get_offset(), values))
    return blocks


def _crc32(values: np.ndarray) -> int:
    return zlib.crc32(values.reshape(-1).view(np.uint8)) if values.size else 0


def read_fit_input(path: Path) -> FitInput:
    """Read the fit's input; the large arrays are mapped, not read.

    Arrays are read-only and aligned. A mapped array stays valid after the file was replaced by a newer one.

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        The file is damaged, of another format or version, or refers to other files.
    """
    path = Path(path)
    with _opened(path) as file:
        before = path.stat()
        fit_input = _read_content(file, path)
        after = path.stat()
    if (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns):
        raise DataError(f"{path} was replaced while it was read. Run again.")
    return fit_input


def verify_fit_input(path: Path) -> None:
    """Compare every array with its checksum: reads the whole file.

    Raises
    ------
    MissingInput, DataError
        As `read_fit_input`, and where bytes changed since the file was written.
    """
    path = Path(path)
    with _opened(path) as file:
        _read_content(file, path)
        for dataset in _all_datasets(file):
            if _crc32(dataset[()]) != int(_attribute(dataset, "crc32", path)):
                raise DataError(f"{path}: the array {dataset.name} does not match its checksum. {_RERUN}")


def _opened(path: Path) -> h5py.File:
    """Open the file for reading, after a look at its format and version."""
    if not path.is_file():
        raise MissingInput(f"{path} does not exist. Run cpxt-prep up to stage 5 (bin), which writes it.")
    try:
        # The file only ever appears whole, by a rename: no lock is needed, and some file systems have none.
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise DataError(f"{path} is truncated or no HDF5 file ({error}). {_RERUN}") from error
    try:
        found = file.attrs.get("format")
        if found != FORMAT:
            raise DataError(f"{path}: format is {found!r}, expected {FORMAT!r}. {_RERUN}")
        version = file.attrs.get("version")
        if version != VERSION:
            software = file.attrs.get("software", "an unknown program")
            raise DataError(
                f"{path}: format version {version}, written by {software}; this is cpxt_hpc "
                f"{cpxt_hpc.__version__}, which reads version {VERSION}. {_RERUN}"
            )
    except BaseException:
        file.close()
        raise
    return file


def _read_content(file: h5py.File, path: Path) -> FitInput:
    observations = []
    folder = _member(file, "observations", h5py.Group, path)
    for name in sorted(folder):
        group = _member(folder, name, h5py.Group, path)
        observations.append(
            ObservationInput(
                **{key: kind(_number(group, key, path)) for key, kind in OBSERVATION_NUMBERS.items()},
                groups=tuple(_json(group, "groups", list, path)),
                **_read_arrays(group, OBSERVATION_ARRAYS, path),
            )
        )
    if not observations:
        raise DataError(f"{path}: holds no observation. {_RERUN}")
    try:
        grid = PixelGrid(**_json(file, "grid", dict, path))
    except TypeError as error:
        raise DataError(f"{path}: the grid is not described as expected ({error}). {_RERUN}") from error
    fit_input = FitInput(
        name=str(_attribute(file, "name", path)),
        grid=grid,
        regions=RegionTable(**_read_arrays(_member(file, "regions", h5py.Group, path), REGION_ARRAYS, path)),
        observations=tuple(observations),
        abundance=_number(file, "abundance", path),
        settings=_json(file, "settings", dict, path),
        binning_digest=str(_attribute(file, "binning_digest", path)),
        **_read_arrays(file, ROOT_ARRAYS, path),
    )
    fault = shape_fault(fit_input)
    if fault:
        raise DataError(f"{path}: {fault}. {_RERUN}")
    return fit_input


def _member(group: h5py.Group, name: str, kind: type, path: Path) -> h5py.Group | h5py.Dataset:
    """Get a group or dataset that lies in this very file."""
    where = f"{group.name.rstrip('/')}/{name}"
    link = group.get(name, getlink=True)
    if link is None:
        raise DataError(f"{path}: {where} is missing. {_RERUN}")
    if not isinstance(link, h5py.HardLink):
        raise DataError(
            f"{path}: {where} is a link ({type(link).__name__}), which is not followed. {_RERUN}"
        )
    member = group[name]
    if not isinstance(member, kind):
        raise DataError(f"{path}: {where} is no {kind.__name__.lower()}. {_RERUN}")
    return member


def _attribute(item: h5py.Group | h5py.Dataset, name: str, path: Path) -> object:
    try:
        return item.attrs[name]
    except (KeyError, OSError) as error:
        raise DataError(f"{path}: attribute {name} of {item.name} is missing. {_RERUN}") from error


def _number(item: h5py.Group, name: str, path: Path) -> float:
    value = _attribute(item, name, path)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: attribute {name} of {item.name} is {value!r}, expected a number. {_RERUN}") from error


def _json(item: h5py.Group, name: str, kind: type, path: Path) -> object:
    text = _attribute(item, name, path)
    try:
        value = json.loads(text)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: attribute {name} of {item.name} is not JSON ({error}). {_RERUN}") from error
    if not isinstance(value, kind):
        raise DataError(
            f"{path}: attribute {name} of {item.name} is {text!r}, expected a JSON {kind.__name__}. {_RERUN}"
        )
    return value


def _read_arrays(group: h5py.Group, arrays: dict[str, tuple[str, int]], path: Path) -> dict[str, np.ndarray]:
    return {
        name: _read_array(_member(group, name, h5py.Dataset, path), np.dtype(dtype), path)
        for name, (dtype, _) in arrays.items()
    }


def _read_array(dataset: h5py.Dataset, dtype: np.dtype, path: Path) -> np.ndarray:
    """One array, mapped where it is large; read-only."""
    if dataset.is_virtual or dataset.external:
        raise DataError(f"{path}: {dataset.name} takes its data from another file; this is refused. {_RERUN}")
    if dataset.dtype != dtype:
        raise DataError(f"{path}: {dataset.name} is of type {dataset.dtype}, expected {dtype}. {_RERUN}")
    if dataset.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
        raise DataError(f"{path}: {dataset.name} is compressed or in pieces, not one plain block. {_RERUN}")
    offset = dataset.id.get_offset()
    if dataset.nbytes and (offset is None or offset + dataset.nbytes > path.stat().st_size):
        raise DataError(f"{path}: {dataset.name} reaches beyond the end of the file: truncated. {_RERUN}")
    if dataset.nbytes >= MAPPED_FROM_BYTES:
        mapped = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=dataset.shape)
        return mapped.view(np.ndarray)
    values = dataset[()]
    values.flags.writeable = False
    return values


def _all_datasets(group: h5py.Group) -> Iterator[h5py.Dataset]:
    for member in group.values():
        if isinstance(member, h5py.Group):
            yield from _all_datasets(member)
        else:
            yield member
