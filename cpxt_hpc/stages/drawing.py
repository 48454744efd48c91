"""Ask a person to draw region files: say what, where and how, and open DS9 on the image where there is a screen."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cpxt_hpc.stages.base import RegionRequest, StageContext
from cpxt_hpc.stages.surroundings import batch_variable, has_display

logger = logging.getLogger(__name__)

SWITCH_VARIABLE = "CPXT_NO_DS9"


def ask_to_draw(title: str, missing: Sequence[RegionRequest], context: StageContext) -> str:
    """Instructions for a person; opens DS9 on the images where that is wanted and can be.

    Parameters
    ----------
    title : str
        Of the stage that waits: ``stage 2 (clean)``.
    missing : sequence of RegionRequest
    context : StageContext

    Returns
    -------
    str
        Several lines.
    """
    lines = [f"{title} waits for region files that a person draws."]
    for request in missing:
        image = request.image(context)
        lines += [
            f"  draw:    {request.what}",
            f"  on:      {image}",
            f"  with:    {shlex.join(ds9_words([image]))}",
            f"  save as: {request.target(context)}",
        ]
    images = list(dict.fromkeys(request.image(context) for request in missing))
    if context.open_images and open_ds9(images, context.layout.folder):
        lines.append("DS9 opens on what to draw on; save there by Region > Save.")
    command = f"cpxt-prep {shlex.quote(str(context.config.path))}"
    lines += [f"Then run: {command} --continue", f"Or let the program draw: {command} --auto"]
    return "\n".join(lines)


def ds9_words(images: Sequence[Path | str]) -> list[str]:
    """DS9's command line for drawing on images: each in a frame, regions in DS9's format and physical coordinates."""
    words = ["ds9"]
    for image in images:
        words += [str(image), "-scale", "log", "-cmap", "b", "-zoom", "to", "fit"]
    return [*words, "-regions", "format", "ds9", "-regions", "system", "physical"]


def open_ds9(images: Sequence[Path], folder: Path) -> bool:
    """Start DS9 and leave it alone; whether it was started.

    It is not in a batch job, without a display, with ``CPXT_NO_DS9`` set, where it is not installed or an image is
    missing.

    Parameters
    ----------
    images : sequence of Path
    folder : Path
        Folder in which DS9 runs, and from which it is given the images: it stumbles over blanks and brackets in paths.
    """
    if batch_variable() or os.environ.get(SWITCH_VARIABLE) or not has_display() or shutil.which("ds9") is None:
        return False
    if not all(image.is_file() for image in images):
        return False
    words = ds9_words([os.path.relpath(image, folder) for image in images])
    try:
        # The shell ends at once and leaves DS9 to itself, with nothing of this process's input and output.
        subprocess.run(
            ["/bin/sh", "-c", '"$@" </dev/null >/dev/null 2>&1 &', "sh", *words],
            cwd=folder, start_new_session=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        logger.warning("DS9 could not be started (%s)", error)
        return False
    return True
