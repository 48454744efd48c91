"""Ways to spoil a cluster whose files are hard links: a file is replaced, never written into."""

from __future__ import annotations

import gzip
import re
import shutil

import h5py
import numpy as np
from astropy.io import fits


def replace(path, content):
    """Put other bytes in the place of a file, without touching what it is linked to."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def cut(path, keep):
    """Keep this share of a file."""
    content = path.read_bytes()
    replace(path, content[: int(keep * len(content))])


def compress(path, *, keep=1.0):
    """Replace a file by its gzip'ed form, of which this share is kept."""
    packed = gzip.compress(path.read_bytes(), 1)
    path.unlink()
    path.with_name(path.name + ".gz").write_bytes(packed[: int(keep * len(packed))])


def rewrite(path, change):
    """Let a function change the blocks of a FITS file."""
    fresh = path.with_name("fresh")
    with fits.open(path, memmap=False) as hdus:
        blocks = fits.HDUList(list(hdus))
        blocks = change(blocks) or blocks
        blocks.writeto(fresh)
    fresh.replace(path)


def edit_cards(path, pattern, card):
    """Replace every header card that a pattern matches, whatever astropy thinks of it."""
    content = path.read_bytes()
    cards = re.finditer(rb"(?:%s) *=" % pattern, content)
    places = [found.start() for found in cards if found.start() % 80 == 0]
    assert places
    for place in places:
        content = content[:place] + card.ljust(80) + content[place + 80 :]
    replace(path, content)


def set_keyword(extension, key, value):
    def change(blocks):
        for block in blocks:
            if block.name == extension:
                block.header[key] = value

    return change


def without_column(name):
    def change(blocks):
        table = blocks["EVENTS"]
        header = table.header
        columns = [column for column in table.columns if column.name.lower() != name]
        new = fits.BinTableHDU.from_columns(fits.ColDefs(columns), name="EVENTS")
        new.header.extend(
            (card for card in header.cards if not re.match(r"T[A-Z]+\d+$", card.keyword)), unique=True, update=False
        )
        for number, column in enumerate(columns, start=1):
            old = table.columns.names.index(column.name) + 1
            for key in ("TCTYP", "TCRVL", "TCRPX", "TCDLT", "TCUNI", "TLMIN", "TLMAX"):
                if f"{key}{old}" in header:
                    new.header[f"{key}{number}"] = header[f"{key}{old}"]
        blocks[blocks.index_of("EVENTS")] = new

    return change


def without_blocks(name):
    def change(blocks):
        return fits.HDUList([block for block in blocks if block.name != name])

    return change


def with_empty_tables(name):
    def change(blocks):
        for block in blocks:
            if block.name == name:
                block.data = block.data[:0]

    return change


def other_energy_grid(blocks):
    table = blocks["SPECRESP"]
    table.data = table.data[:-10]


def nan_area(blocks):
    blocks["SPECRESP"].data["SPECRESP"][5] = np.nan


def without_matrix(blocks):
    return fits.HDUList([block for block in blocks if block.name not in ("MATRIX", "SPECRESP MATRIX")])


def shift_good_times(blocks):
    """Good times long before any event."""
    for block in blocks:
        if block.name == "GTI":
            block.data["START"] -= 1e8
            block.data["STOP"] -= 1e8


def stretch_good_times(blocks):
    for block in blocks:
        if block.name == "GTI":
            block.data["STOP"] += 1e10


def edit_hdf5(path, change):
    """Let a function change an HDF5 file."""
    fresh = path.with_name("fresh")
    shutil.copyfile(path, fresh)
    with h5py.File(fresh, "r+") as file:
        change(file)
    fresh.replace(path)


def events_of(layout, obsid=90001):
    return layout.observation(obsid).repro / f"acisf{obsid}_repro_evt2.fits"


def blank_of(layout, obsid=90001):
    return layout.observation(obsid).repro / f"blanksky_{obsid}.fits"


def arf_of(layout, obsid=90001):
    return layout.observation(obsid).repro / f"{obsid}.arf"


def rmf_of(layout, obsid=90001):
    return layout.observation(obsid).repro / f"{obsid}.rmf"


def ini_with(old, new):
    """Replace a line of cluster.ini."""

    def change(layout):
        text = layout.ini.read_text()
        assert old in text
        replace(layout.ini, text.replace(old, new).encode())

    return change


def ini_plus(text):
    return lambda layout: replace(layout.ini, (layout.ini.read_text() + text).encode())


def no_responses(layout):
    for obsid in (90001, 90002):
        arf_of(layout, obsid).unlink()
        rmf_of(layout, obsid).unlink()
