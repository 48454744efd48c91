"""Run a real DS9 without a screen."""

import os
import shutil
import subprocess

import pytest

needs_ds9 = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("ds9", "xvfb-run", "xauth")),
    reason="DS9 without a screen is not installed (Debian packages saods9, xvfb, xauth)",
)


def run_ds9(folder, *words):
    """Run DS9's commands one after the other and leave it; its settings come from nowhere."""
    environment = dict(os.environ, HOME=str(folder), XPA_METHOD="local")
    done = subprocess.run(
        ["xvfb-run", "-a", "ds9", *map(str, words), "-exit"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def saving(path, *, system="physical", sky=None, sky_format="degrees", file_format="ds9"):
    """DS9's words for saving the regions of the frame in sight."""
    words = ["-regions", "system", system]
    if sky:
        words += ["-regions", "sky", sky, "-regions", "skyformat", sky_format]
    return [*words, "-regions", "format", file_format, "-regions", "save", path]
