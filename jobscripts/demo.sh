#!/usr/bin/env bash
# The main job on a synthetic cluster with known truth: bash jobscripts/demo.sh [DIR]
#
# Set-up, then cpxt-demo, cpxt-init, cpxt-prep, cpxt-fit on three MPI ranks and cpxt-maps in DIR
# (default: cpxt_demo in the clone), and at the end each truth region beside what the map says there.
# Run again it continues where it stopped. Exit codes: those of setup.sh and of the commands.

set -euo pipefail

case ${1:-} in
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) echo "demo: unknown argument '$1'; it takes a folder." >&2; exit 2 ;;
esac
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
dir=${1:-$repo/cpxt_demo}
venv=${CPXT_VENV:-$repo/.venv}

bash "$repo/jobscripts/setup.sh"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd -P)
venv=$(cd "$venv" && pwd -P)
PATH=$venv/bin:$PATH
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 MPLBACKEND=Agg
if [ "$(id -u)" = 0 ]; then  # Open MPI, where it is the system's MPI, refuses root without these
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

cluster=$dir/demo
truth=$dir/demo_truth
if [ ! -e "$truth" ] || [ -e "$truth/.unfinished" ]; then
    run cpxt-demo "$dir"
fi
if [ ! -e "$cluster/cluster.ini" ]; then
    # shellcheck disable=SC2046  # the flags are words without blanks
    run cpxt-init --cluster_name demo --data-dir "$dir" $(python - "$truth/truth.json" <<'FLAGS'
import json
import sys
truth = json.load(open(sys.argv[1], encoding="utf-8"))
obsids = [str(observation["obsid"]) for observation in truth["observations"]]
print("--obsids", *obsids, "--nH", truth["nH_1e22"], "--redshift", truth["redshift"])
print("--abundance", truth["abundance"])
FLAGS
    )
fi
run cpxt-prep "$cluster/cluster.ini" --auto
run mpiexec -n 3 cpxt-fit "$cluster/cluster.ini" --resolution 2
run cpxt-maps "$cluster/cluster.ini" --resolution 2
code=0
run python -m cpxt_hpc.cli.compare "$cluster/cluster.ini" "$truth/demo_kT_truth.fits" || code=$?
printf '\nPictures: %s\n' "$cluster/main_output"
exit "$code"
