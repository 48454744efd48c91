"""The process in which Sherpa fits: ``python -P -m cpxt_hpc.fitting.sherpa_child DESCRIPTOR``.

Started by `cpxt_hpc.fitting.sherpa_engine`, which sets its environment, sends one request after another through the
socket of that descriptor, and may end it at any time. Sherpa's own Data, Stat, Fit and Confidence objects do the work,
with XSPEC's models folded through the responses; nothing of the exact engine is used here.
"""

import ctypes
import logging
import os
import signal
import sys
import warnings
from multiprocessing.connection import Connection

import numpy as np
import sherpa
from sherpa.astro import xspec
from sherpa.astro.data import DataARF, DataPHA, DataRMF
from sherpa.astro.instrument import Response1D
from sherpa.data import DataSimulFit
from sherpa.estmethods import Confidence
from sherpa.fit import Fit
from sherpa.models import SimulFitModel
from sherpa.models.model import ArithmeticModel
from sherpa.models.parameter import Parameter
from sherpa.optmethods import LevMar, NelderMead
from sherpa.stats import Chi2DataVar, Chi2Gehrels, Chi2XspecVar, CStat, WStat
from sherpa.utils.err import EstErr, FitErr

from cpxt_hpc.fitting.xspec_child import ABSORPTION_MODELS, ADDITIVE_MODELS, FIXED_PARAMETERS

STATISTICS = {
    "cstat": CStat,
    "wstat": WStat,
    "chi2gehrels": Chi2Gehrels,
    "chi2datavar": Chi2DataVar,
    "chi2xspecvar": Chi2XspecVar,
}
START_KT_KEV = (8.0, 3.0, 1.0)
"""ClusterPyXT's start and two cooler ones: the method of Levenberg and Marquardt stops at the kinks of the model."""
LIMIT_PRECISION = 1e-3
"""Of the limits; Sherpa's default is 0.01."""
ANY_FIT = 1e30
"""Sherpa refuses limits of fits that are poor; whether a fit is, others judge."""
SET_PDEATHSIG = 1
"""Option of Linux' prctl: the signal that a process gets when its parent dies."""


class KnownBackground(ArithmeticModel):
    """Expected background counts, added to the folded source model of a spectrum."""

    def __init__(self, name, counts):
        self.counts = np.asarray(counts, dtype=float)
        self.scale = Parameter(name, "scale", 1.0, 0.0, 10.0, frozen=True)
        ArithmeticModel.__init__(self, name, (self.scale,))

    def calc(self, p, *args, **kwargs):
        """The same counts on whatever grid: channels."""
        return p[0] * self.counts


class Session:
    """The model and the responses of a configuration, for one set of spectra after another.

    Parameters
    ----------
    configuration : dict
        As `cpxt_hpc.fitting.sherpa_engine.SherpaEngine` sends it.
    """

    def __init__(self, configuration):
        self.configuration = configuration
        xspec.set_xschatter(0)
        xspec.set_xsabund(configuration["abundance_table"])
        xspec.set_xsxsect(configuration["cross_sections"])
        xspec.set_xsxset("APECROOT", configuration["apec_root"])
        self.matrices = [sherpa_matrix(response) for response in configuration["responses"]]

    def answer(self, request):
        """Fit a set of spectra, or evaluate its statistic where the request has points.

        Parameters
        ----------
        request : dict
            ``observations``: list of dict (position, counts, background, blank_counts, blank_scale, exposure_s,
            area_cm2). ``points``, optional: list of dict of parameter values.

        Returns
        -------
        dict
            ``statistics`` at the points; or ``values`` by parameter, their ``limits`` (lower, upper; None where not
            found), ``statistic``, and of each observation the ``norms`` and the ``counts_of_norm_1``.
        """
        absorption, plasmas = self._models(len(request["observations"]))
        data, models = [], []
        for number, each in enumerate(request["observations"]):
            pha = self._data(each)
            model = Response1D(pha)(absorption * plasmas[number % len(plasmas)])
            if self.configuration["statistic"] == "cstat":
                model = model + KnownBackground(f"background{number}", each["background"])
            data.append(pha)
            models.append(model)
        statistic = STATISTICS[self.configuration["statistic"]]()
        fit = Fit(DataSimulFit("spectra", data), SimulFitModel("model", models), statistic, LevMar())
        parameters = {"kT": plasmas[0].kT, "norm": plasmas[0].norm, "nH": absorption.nH}
        metals = named(plasmas[0]).get("abundanc")
        if metals is not None:
            parameters["abundance"] = metals
        if "points" in request:
            return {"statistics": [statistic_at(fit, parameters, point) for point in request["points"]]}
        counts = sum(net_counts(each) for each in request["observations"])
        find_minimum(fit, models, plasmas, counts)
        # It moves the parameters where it meets a lower minimum.
        limits = confidence_limits(fit, parameters, self.configuration["delta_statistic"])
        statistic_found = float(fit.calc_stat())
        return {
            "values": {name: float(parameter.val) for name, parameter in parameters.items()},
            "limits": limits,
            "statistic": statistic_found,
            "norms": [float(plasmas[number % len(plasmas)].norm.val) for number in range(len(data))],
            "counts_of_norm_1": counts_of_norm_1(plasmas, data, models),
        }

    def _models(self, n_observations):
        """The absorption, and the plasma: one for all observations, or each its own, alike but for the norm."""
        given = self.configuration
        absorption = getattr(xspec, ABSORPTION_MODELS[given["absorption"]])("absorption")
        absorption.nH = given["nh_1e22"]
        absorption.nH.frozen = "nH" not in given["free"]
        if "nH" in given["free"]:
            absorption.nH.min, absorption.nH.max = given["nh_range"]
        plasmas = []
        for number in range(n_observations if given["norms_per_observation"] else 1):
            plasma = getattr(xspec, ADDITIVE_MODELS[given["plasma"]])(f"plasma{number}")
            by_name = named(plasma)
            fixed = {"redshift": given["redshift"], "abundanc": given["abundance"]}
            for name, value in {**fixed, **FIXED_PARAMETERS.get(given["plasma"], {})}.items():
                if name in by_name:
                    by_name[name].val = value
                    by_name[name].frozen = True
            if number:
                for name in ("kt", "abundanc"):
                    if name in by_name:
                        by_name[name].link = named(plasmas[0])[name]
            else:
                plasma.kT.set(val=START_KT_KEV[0], min=given["kt_range"][0], max=given["kt_range"][1])
                if "abundance" in given["free"]:
                    plasma.Abundanc.frozen = False
                    plasma.Abundanc.min, plasma.Abundanc.max = given["abundance_range"]
            plasmas.append(plasma)
        return absorption, plasmas

    def _data(self, each):
        """A spectrum with its response and, where the statistic uses one, its background."""
        matrix, n_channels = self.matrices[each["position"]], len(each["counts"])
        channel = np.arange(1, n_channels + 1)
        longest = float(np.max(each["exposure_s"]))
        part = each["exposure_s"] / longest
        part = None if np.all(part == 1.0) else part
        pha = DataPHA(f"spectrum{each['position']}", channel, each["counts"], exposure=longest, areascal=part)
        area = DataARF("area", matrix.energ_lo, matrix.energ_hi, each["area_cm2"])
        pha.set_response(area, matrix)
        statistic = self.configuration["statistic"]
        if statistic == "chi2datavar":
            # Sherpa's statistic takes an error of 0 for 1, but its fit refuses it.
            empty = (each["counts"] == 0) & (each["blank_counts"] == 0)
            pha.staterror = np.where(empty, 1.0, np.sqrt(each["counts"]))
        if statistic != "cstat" and np.all(each["blank_scale"] > 0.0):
            background = DataPHA(
                "background", channel, each["blank_counts"], exposure=longest, areascal=part,
                backscal=1.0 / each["blank_scale"],
            )  # fmt: skip
            if statistic == "chi2datavar":
                background.staterror = np.sqrt(each["blank_counts"])
            background.set_response(area, matrix)
            pha.backscal = np.ones(n_channels)
            pha.set_background(background)
            if statistic != "wstat":
                pha.subtract()
        pha.set_analysis("channel")
        return pha


def named(model):
    """Parameters of a model by their names in lower case."""
    return {parameter.name.lower(): parameter for parameter in model.pars}


def sherpa_matrix(response):
    """A redistribution matrix as Sherpa's object, from the rows of a sparse one."""
    n_groups, first, length, values = [], [], [], []
    start, column, value = response["start"], response["column"], response["value"]
    for row in range(len(start) - 1):
        inside = slice(start[row], start[row + 1])
        order = np.argsort(column[inside], kind="stable")
        columns = column[inside][order]
        begins = np.flatnonzero(np.diff(columns, prepend=-2) != 1)
        n_groups.append(len(begins))
        first.append(columns[begins] + 1)
        length.append(np.diff(np.append(begins, len(columns))))
        values.append(value[inside][order])
    edges, channel_edges = response["energy_edges_kev"], np.arange(response["n_channels"] + 1.0)
    return DataRMF(
        "matrix",
        response["n_channels"],
        edges[:-1].copy(),
        edges[1:].copy(),
        np.array(n_groups, dtype=np.uint64),
        np.concatenate(first).astype(np.uint64),
        np.concatenate(length).astype(np.uint64),
        np.concatenate(values).astype(float),
        e_min=channel_edges[:-1],
        e_max=channel_edges[1:],
    )


def net_counts(each):
    """Counts of a spectrum above its background."""
    background = each["background"] if len(each["background"]) else each["blank_counts"] * each["blank_scale"]
    return float(np.sum(each["counts"]) - np.sum(background))


def counts_of_norm_1(plasmas, data, models):
    """Source counts that each spectrum would have with a norm of 1; the norms are 1 afterwards."""
    sums = []
    for norm in (0.0, 1.0):
        for plasma in plasmas:
            plasma.norm = norm
        sums.append([float(np.sum(each.eval_model(model))) for each, model in zip(data, models, strict=True)])
    return [of_one - of_none for of_none, of_one in zip(*sums, strict=True)]


def statistic_at(fit, parameters, point):
    """The statistic at given values."""
    for name, value in point.items():
        parameters[name].val = value
    return float(fit.calc_stat())


def find_minimum(fit, models, plasmas, counts):
    """Set the parameters to the lowest minimum found from several temperatures, polished by a simplex."""
    fitted = [parameter for parameter in fit.model.pars if not parameter.frozen and parameter.link is None]
    begin, best, lowest = [parameter.val for parameter in fitted], None, np.inf
    for kt in START_KT_KEV:
        set_values(fitted, begin)
        plasmas[0].kT = float(np.clip(kt, plasmas[0].kT.min, plasmas[0].kT.max))
        set_norms(fit, plasmas, counts)
        outcome = fit.fit()
        if outcome.statval < lowest:
            best, lowest = [parameter.val for parameter in fitted], outcome.statval
    if best is not None:
        set_values(fitted, best)
    method, fit.method = fit.method, NelderMead()
    if fit.fit().statval > lowest:
        set_values(fitted, best)
    fit.method = method


def set_values(parameters, values):
    """Put parameters to values."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.val = value


def set_norms(fit, plasmas, counts):
    """Begin with the norm that gives the net counts, or a tenth of the square root of them where there are none."""
    for plasma in plasmas:
        plasma.norm = 0.0
    nothing = float(np.sum(fit.data.eval_model_to_fit(fit.model)))
    for plasma in plasmas:
        plasma.norm = 1.0
    of_one = float(np.sum(fit.data.eval_model_to_fit(fit.model))) - nothing
    for plasma in plasmas:
        plasma.norm = max(counts, 1.0) / of_one if of_one > 0.0 else 1.0


def confidence_limits(fit, parameters, delta_statistic):
    """Limits of the free parameters by Sherpa's `conf`; none where it finds no way."""
    method = Confidence()
    # It forks over all cores otherwise.
    method.parallel = False
    method.sigma, method.eps, method.max_rstat = np.sqrt(delta_statistic), LIMIT_PRECISION, ANY_FIT
    fit.estmethod = method
    limits = {}
    for name, parameter in parameters.items():
        if parameter.frozen:
            continue
        try:
            found = fit.est_errors(parlist=(parameter,))
        except (EstErr, FitErr):
            limits[name] = (None, None)
            continue
        limits[name] = tuple(
            None if side[0] is None else float(parameter.val + side[0]) for side in (found.parmins, found.parmaxes)
        )
    return limits


def main(descriptor):
    """Answer requests until the socket closes."""
    ctypes.CDLL(None, use_errno=True).prctl(SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("sherpa").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    with Connection(int(descriptor)) as link:
        session = None
        try:
            while os.getppid() != 1:
                request = link.recv()
                try:
                    if "responses" in request:
                        session = Session(request)
                        answer = {"versions": {"sherpa": sherpa.__version__, "xspec": xspec.get_xsversion()}}
                    else:
                        answer = session.answer(request)
                except MemoryError as error:
                    answer = {"out_of_memory": str(error)}
                except Exception as error:
                    answer = {"fault": f"{type(error).__name__}: {error}"}
                link.send(answer)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


if __name__ == "__main__":
    main(sys.argv[1])
