"""What master and workers tell each other, and how it looks as bytes."""

from __future__ import annotations

import dataclasses
import enum
import struct

import numpy as np

from cpxt_hpc.fitting.results import RESULT_DTYPE

_HEADER = struct.Struct("<qq")


class Kind(enum.IntEnum):
    """Kinds of messages; they serve as MPI tags."""

    READY = 1
    WORK = 2
    RESULTS = 3
    STOP = 4
    LEFT = 5
    ALIVE = 6


@dataclasses.dataclass(frozen=True)
class Ready:
    """Worker: I can fit."""


@dataclasses.dataclass(frozen=True)
class Work:
    """Master: fit these regions, given by their positions in the fit input."""

    chunk: int
    positions: np.ndarray


@dataclasses.dataclass(frozen=True)
class Results:
    """Worker: rows of a chunk, or of a part of it, in the order of ``positions``."""

    chunk: int
    positions: np.ndarray
    rows: np.ndarray


@dataclasses.dataclass(frozen=True)
class Stop:
    """Master: send what you have and leave."""


@dataclasses.dataclass(frozen=True)
class Left:
    """Worker: nothing more will come from me."""


@dataclasses.dataclass(frozen=True)
class Alive:
    """Master: I am still here."""


@dataclasses.dataclass(frozen=True)
class Lost:
    """The MPI library: this rank is dead. Never sent."""


Message = Ready | Work | Results | Stop | Left | Alive | Lost

_BARE = {Kind.READY: Ready, Kind.STOP: Stop, Kind.LEFT: Left, Kind.ALIVE: Alive}


def encode(message: Message) -> tuple[Kind, bytes]:
    """Kind and bytes of a message."""
    match message:
        case Ready():
            return Kind.READY, b""
        case Stop():
            return Kind.STOP, b""
        case Left():
            return Kind.LEFT, b""
        case Alive():
            return Kind.ALIVE, b""
        case Work(chunk, positions):
            return Kind.WORK, _HEADER.pack(chunk, len(positions)) + np.asarray(positions, "<i4").tobytes()
        case Results(chunk, positions, rows):
            content = np.asarray(positions, "<i4").tobytes() + np.asarray(rows, RESULT_DTYPE).tobytes()
            return Kind.RESULTS, _HEADER.pack(chunk, len(positions)) + content
    raise TypeError(f"not a message: {message!r}")


def decode(kind: int, data: bytes) -> Message:
    """The message that `encode` made bytes of."""
    kind = Kind(kind)
    if kind in _BARE:
        return _BARE[kind]()
    chunk, number = _HEADER.unpack_from(data)
    positions = np.frombuffer(data, "<i4", count=number, offset=_HEADER.size)
    if kind is Kind.WORK:
        return Work(chunk, positions)
    rows = np.frombuffer(data, RESULT_DTYPE, count=number, offset=_HEADER.size + positions.nbytes)
    return Results(chunk, positions, rows)
