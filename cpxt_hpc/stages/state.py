"""What is done: for each stage the settings, inputs and outputs of its last finished run.

Kept in ``.cpxt/state.json`` with paths relative to the cluster's folder and inputs known by their content,
so that a folder may be moved or copied without any work being done again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cpxt_hpc
from cpxt_hpc.errors import DataError
from cpxt_hpc.io import atomic

logger = logging.getLogger(__name__)

FORMAT = 1
SHORTCUT_ABOVE_BYTES = 1 << 20
"""Larger files with unchanged size and time stamp are not read again; smaller ones always are: a region file
can be edited twice within one tick of a file system's clock."""


@dataclasses.dataclass
class StageRecord:
    """One finished run of a stage.

    Attributes
    ----------
    settings : dict of str to str
        Text of each setting by ``section.key``.
    inputs : dict of str to str
        SHA-256 of each input by relative path.
    outputs : dict of str to int
        Size [byte] of each output by relative path.
    """

    settings: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, int]


class State:
    """State of one cluster's stages.

    Parameters
    ----------
    folder : Path
        The cluster's folder.
    path : Path
        The state file; it need not exist.
    """

    def __init__(self, folder: Path, path: Path) -> None:
        self.folder = folder
        self.path = path
        self.stages: dict[str, StageRecord] = {}
        self.made_regions: dict[str, dict[str, str]] = {}
        self._files: dict[str, tuple[int, int, str]] = {}

    @classmethod
    def load(cls, folder: Path, path: Path) -> State:
        """Read the state; one that cannot be read counts as none, with a warning."""
        state = cls(folder, path)
        try:
            content = json.loads(path.read_bytes())
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']}, expected {FORMAT}")
            files = {name: (int(s), int(t), str(d)) for name, (s, t, d) in content["files"].items()}
            stages = {name: _record(**record) for name, record in content["stages"].items()}
            made = {name: {str(k): str(v) for k, v in d.items()} for name, d in content["made_regions"].items()}
        except FileNotFoundError:
            return state
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning(
                "%s cannot be used (%s: %s). All stages count as not done.", path, type(error).__name__, error
            )
            return state
        state._files, state.stages, state.made_regions = files, stages, made
        return state

    def save(self) -> None:
        """Write the state, whole or not at all.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        content = {
            "format": FORMAT,
            "program": f"cpxt_hpc {cpxt_hpc.__version__}",
            "stages": {name: dataclasses.asdict(record) for name, record in self.stages.items()},
            "made_regions": self.made_regions,
            "files": self._files,
        }
        atomic.write_text(self.path, json.dumps(content, indent=1) + "\n")

    def relative(self, path: Path) -> str:
        """Path as the state has it: relative to the cluster's folder where it lies inside."""
        try:
            return path.relative_to(self.folder).as_posix()
        except ValueError:
            return str(path)

    def digest(self, path: Path) -> str:
        """SHA-256 of a file's content; large files known by size and time stamp are not read again.

        Raises
        ------
        DataError
            The file cannot be read.
        """
        name = self.relative(path)
        try:
            with open(path, "rb") as stream:
                status = os.fstat(stream.fileno())
                known = self._files.get(name)
                if (
                    known is not None
                    and status.st_size > SHORTCUT_ABOVE_BYTES
                    and known[:2] == (status.st_size, status.st_mtime_ns)
                ):
                    return known[2]
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}). Check the file and its permissions."
            ) from error
        self._files[name] = (status.st_size, status.st_mtime_ns, digest)
        return digest

    def digests(self, paths: Iterable[Path]) -> dict[str, str]:
        """SHA-256 of files by relative path."""
        return {self.relative(path): self.digest(path) for path in paths}

    def finish(self, stage: str, settings: dict[str, str], inputs: dict[str, str], outputs: Iterable[Path]) -> None:
        """Record a finished stage and save."""
        sizes = {self.relative(path): path.stat().st_size for path in outputs}
        self.stages[stage] = StageRecord(settings, inputs, sizes)
        self.save()

    def forget(self, stage: str) -> None:
        """Note that a stage's outputs cannot be trusted, before it starts to replace them, and save."""
        if self.stages.pop(stage, None) is not None:
            self.save()

    def why_outdated(
        self, stage: str, settings: dict[str, str], inputs: dict[str, str], outputs: Iterable[Path]
    ) -> str | None:
        """Reason why a stage must run; None where its outputs are up to date.

        Parameters
        ----------
        stage : str
        settings, inputs : dict
            As they are now; inputs as `digests` gives them.
        outputs : iterable of Path
            What the stage would make now.
        """
        record = self.stages.get(stage)
        if record is None:
            return "not done yet"
        for name in sorted(settings.keys() | record.settings.keys()):
            before, now = record.settings.get(name), settings.get(name)
            if before != now:
                section, _, key = name.partition(".")
                return f"[{section}] {key} was {before or 'not set'}, is {now or 'not set'}"
        for name in sorted(inputs.keys() | record.inputs.keys()):
            if name not in record.inputs:
                return f"{name} is a new input"
            if name not in inputs:
                return f"{name} is no input any more"
            if inputs[name] != record.inputs[name]:
                return f"{name} changed"
        for path in outputs:
            name = self.relative(path)
            if name not in record.outputs:
                return f"{name} is a new product"
            if not path.is_file():
                return f"{name} is not there"
            if path.stat().st_size != record.outputs[name]:
                return f"{name} changed size"
        return None

    def note_made_region(self, region: Path, image: Path) -> None:
        """Remember that the program made a region file, and on which image, and save."""
        self.made_regions[self.relative(region)] = {
            "digest": self.digest(region),
            "image": self.digest(image) if image.is_file() else "",
        }
        self.save()

    def is_stale_made_region(self, region: Path, image: Path) -> bool:
        """Whether the program made this region file, nobody edited it since, and its image is another now."""
        made = self.made_regions.get(self.relative(region))
        if made is None or not image.is_file() or made.get("digest") != self.digest(region):
            return False
        return made.get("image") != self.digest(image)


def _record(settings: Any, inputs: Any, outputs: Any) -> StageRecord:
    return StageRecord(
        {str(key): str(value) for key, value in settings.items()},
        {str(key): str(value) for key, value in inputs.items()},
        {str(key): int(value) for key, value in outputs.items()},
    )
