"""What a preprocessing stage is: a record that declares what it needs, makes and depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from cpxt_hpc.config import ClusterConfig
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.toolchain.base import Toolchain
from cpxt_hpc.toolchain.builtin import BuiltinToolchain


@dataclasses.dataclass(frozen=True)
class StageContext:
    """What every stage is given.

    Attributes
    ----------
    config : ClusterConfig
    layout : ClusterLayout
    num_cpus : int
        Local processes that a stage may use.
    toolchain : Toolchain
        Brings what needs calibration data or tools.
    open_images : bool
        Open DS9 where a person must draw.
    """

    config: ClusterConfig
    layout: ClusterLayout
    num_cpus: int = 1
    toolchain: Toolchain = dataclasses.field(default_factory=BuiltinToolchain)
    open_images: bool = False


@dataclasses.dataclass(frozen=True)
class RegionRequest:
    """A region file that a person draws, or ``--auto`` makes.

    Attributes
    ----------
    find : callable
        Returns the existing file, or None.
    target : callable
        Where a person must save it, and where ``make`` writes it.
    image : callable
        The image to draw on.
    what : str
        What to draw, one or two sentences.
    make : callable
        Makes the file from the data; never called where ``find`` has found one.
    """

    find: Callable[[StageContext], Path | None]
    target: Callable[[StageContext], Path]
    image: Callable[[StageContext], Path]
    what: str
    make: Callable[[StageContext], None]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One preprocessing stage.

    Attributes
    ----------
    number : int
        1 to 5.
    name : str
        A verb: merge, clean, respond, crop, bin.
    summary : str
        One line for the log.
    needs : callable
        Input files; raises `MissingInput` where one cannot be found.
    makes : callable
        Output files.
    settings : tuple of str
        ``section.key`` of every setting that the outputs depend on.
    regions : tuple of RegionRequest
        Region files that must be there before the stage runs; they count as needs.
    fetch : callable, optional
        Gets or makes inputs that can be got or made, before ``needs`` is asked; does nothing where they are there.
    run : callable
        Does the work; every file is written whole or not at all.
    """

    number: int
    name: str
    summary: str
    needs: Callable[[StageContext], Sequence[Path]]
    makes: Callable[[StageContext], Sequence[Path]]
    settings: tuple[str, ...]
    run: Callable[[StageContext], None]
    regions: tuple[RegionRequest, ...] = ()
    fetch: Callable[[StageContext], None] | None = None
