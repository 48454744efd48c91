"""Run an exported script for Sherpa as a user would: ``python run_sherpa_script.py SCRIPT.py``; prints JSON.

An independent program's answer for tests, in a process of its own with the environment of
`cpxt_hpc.fitting.xspec.child_environment` and in the folder of the script. No module of the package is imported.
Answer: ``statistic`` at the values in the script, and after its fit ``best`` (statistic), ``values`` and ``limits`` by
parameter.
"""

import json
import os
import runpy
import sys
from pathlib import Path

from sherpa.astro import ui


def main(script):
    os.chdir(Path(script).parent)
    runpy.run_path(script)
    answer = {"statistic": float(ui.calc_stat())}
    runpy.run_path(script, run_name="__main__")
    found = ui.get_conf_results()
    answer["best"] = float(ui.calc_stat())
    answer["values"] = dict(zip(found.parnames, found.parvals, strict=True))
    answer["limits"] = {
        name: [None if side is None else value + side for side in sides]
        for name, value, *sides in zip(found.parnames, found.parvals, found.parmins, found.parmaxes, strict=True)
    }
    return answer


if __name__ == "__main__":
    print("ANSWER " + json.dumps(main(sys.argv[1])))
