"""Every call of a CIAO tool that the program makes, each once and with all that differs from the tool's defaults.

They run in a process of their own (`cpxt_hpc.toolchain.ciao_child`), in a working folder to which all inputs are
linked under plain names: no path with a blank or a comma ever reaches a tool. ``rt`` is ``ciao_contrib.runtool``.

What ClusterPyXT calls and this program does not: ``acis_set_ardlib`` (bad pixels are handed to each tool instead),
``acis_bkgrnd_lookup``, ``acis_process_events`` and ``reproject_events`` (``blanksky`` does what they did),
``dmkeypar`` (headers are read from the file), ``dmcopy``, ``dmextract``, ``deflare``, ``dmimgcalc`` and
``reproject_image`` (our own code).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PSF_FRACTION = 0.393
"""Share of the light inside the radius that wavdetect is told: one sigma of a Gaussian, as CIAO's threads have it."""
PSF_ENERGY_KEV = 2.3
"""Effective energy of CIAO's broad band."""


def download(rt: Any, obsids: list[int]) -> str | None:
    """Download observations into the working folder, one folder an ObsID; files that are there stay."""
    from ciao_contrib.cda.data import download_chandra_obsids

    found = download_chandra_obsids(obsids)
    absent = [str(obsid) for obsid, there in zip(obsids, found, strict=True) if not there]
    if absent:
        raise OSError(f"the archive has no public ObsID {', '.join(absent)}")
    return None


def reprocess(rt: Any, indir: str, outdir: str, check_vf_pha: bool) -> str | None:
    """Reprocess an observation with the current calibration."""
    return rt.chandra_repro(
        indir=indir, outdir=outdir, check_vf_pha=check_vf_pha, set_ardlib=False, cleanup=True, clobber=True, verbose=1
    )


def blank_sky(rt: Any, evtfile: str, outfile: str, asolfile: str, seed: int, tmpdir: str) -> str | None:
    """Find the blank-sky events of an observation and bring them to its sky frame."""
    return rt.blanksky(
        evtfile=evtfile, outfile=outfile, asolfile=asolfile, weight_method="particle",
        bkgparams="[energy=9000:12000]", random=seed, tmpdir=tmpdir, clobber=True, verbose=1,
    )  # fmt: skip


def one_image(
    rt: Any, infile: str, outroot: str, binsize: float, asolfile: str, badpixfile: str, maskfile: str, tmpdir: str,
    nproc: int,
) -> str | None:  # fmt: skip
    """Image and exposure map of a single observation, then the map of its PSF."""
    said = [
        rt.fluximage(
            infile=infile, outroot=outroot, bands="broad", binsize=binsize, asolfile=asolfile, badpixfile=badpixfile,
            maskfile=maskfile, background="none", parallel=nproc > 1, nproc=nproc, tmpdir=tmpdir, clobber=True,
            verbose=1,
        ),
        rt.mkpsfmap(
            infile=f"{outroot}broad_thresh.img", outfile=f"{outroot}broad_thresh.psfmap", energy=PSF_ENERGY_KEV,
            spectrum="", ecf=PSF_FRACTION, units="arcsec", clobber=True,
        ),
    ]  # fmt: skip
    return _together(said)


def merged_image(
    rt: Any, infiles: str, outroot: str, binsize: float, asolfiles: str, badpixfiles: str, maskfiles: str,
    refcoord: str, tmpdir: str, nproc: int,
) -> str | None:  # fmt: skip
    """Image, exposure map and PSF map of several observations together."""
    return rt.merge_obs(
        infiles=infiles, outroot=outroot, bands="broad", binsize=binsize, asolfiles=asolfiles,
        badpixfiles=badpixfiles, maskfiles=maskfiles, refcoord=refcoord, background="none", psfecf=PSF_FRACTION,
        psfmerge="expmap", parallel=nproc > 1, nproc=nproc, tmpdir=tmpdir, clobber=True, verbose=1,
    )  # fmt: skip


def detect(rt: Any, root: str, scales: str, sigthresh: float, tmpdir: str) -> str | None:
    """Find the point sources of an image."""
    return rt.wavdetect(
        infile=f"{root}broad_thresh.img", outfile="sources.fits", scellfile="cells.fits", imagefile="sources.img",
        defnbkgfile="background.img", scales=scales, psffile=f"{root}broad_thresh.psfmap", regfile="sources.reg",
        expfile=f"{root}broad_thresh.expmap", sigthresh=sigthresh, ellsigma=3.0, interdir=tmpdir, clobber=True,
        verbose=1,
    )  # fmt: skip


def respond(rt: Any, infile: str, outroot: str, asp: str, mskfile: str, badpixfile: str, tmpdir: str) -> str | None:
    """Spectrum, ARF and RMF of a region."""
    return rt.specextract(
        infile=infile, outroot=outroot, asp=asp, mskfile=mskfile, badpixfile=badpixfile, bkgfile="", bkgresp=False,
        weight=True, weight_rmf=False, correctpsf=False, grouptype="NONE", bkg_grouptype="NONE",
        energy="0.3:11.0:0.01", channel="1:1024:1", parallel=False, tmpdir=tmpdir, clobber=True, verbose=1,
    )  # fmt: skip


def _together(said: list[str | None]) -> str | None:
    return "\n".join(text for text in said if text) or None


CALLS: dict[str, Callable[..., str | None]] = {
    function.__name__: function
    for function in (download, reprocess, blank_sky, one_image, merged_image, detect, respond)
}
"""The calls by name, as the process that makes them is told."""
