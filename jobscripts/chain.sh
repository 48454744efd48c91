#!/usr/bin/env bash
# Submit a whole cluster to Slurm: preprocessing, then the fit, then the maps, each when the one before has ended:
#
#   bash jobscripts/chain.sh [OPTION]... [cluster.ini]
#   bash jobscripts/chain.sh --resolution 3 --all '-A myproject' --fit '-n 64 -t 12:00:00' ~/clusters/A2256/cluster.ini
#
#   --resolution R   of fit and maps (default: 2)
#   --array RANGE    the fit as a job array, such as 0-19
#   --all OPTIONS    sbatch's options for all jobs, in one word; --prep, --fit, --maps: for one of them, they win
#
# Prints the number of each job. Run again while jobs of this cluster.ini wait or run, it submits only what is missing;
# later, it continues: what is done is not done again. Logs are written beside cluster.ini, in logs.
#
# A preprocessing that fails cancels what waits for it. The maps are made of whatever the fit leaves: complete, with
# some regions crashed (exit code 5), or ended by scancel or the wall time; the report says which.
#
# Exit codes: 0 submitted; 2 usage; 3 no Slurm, no such file; 6 cannot write; others are sbatch's.

set -euo pipefail

fail() {
    echo "chain: ${*:2}" >&2
    exit "$1"
}

jobscripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
resolution=2 array='' ini='' all='' prep='' fit='' maps=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        --resolution | --array | --all | --prep | --fit | --maps)
            [ $# -gt 1 ] || fail 2 "$1 needs a value."
            printf -v "${1#--}" '%s' "$2"
            shift
            ;;
        -*) fail 2 "unknown option '$1'. sbatch's options go behind --all, --prep, --fit or --maps, in one word." ;;
        *)
            [ -z "$ini" ] || fail 2 "one cluster.ini, please: found '$ini' and '$1'."
            ini=$1
            ;;
    esac
    shift
done
case $resolution in [123]) ;; *) fail 2 "--resolution $resolution: expected 1, 2 or 3." ;; esac
ini=${ini:-cluster.ini}
[ -f "$ini" ] || fail 3 "$ini: there is no such file (looked for from $PWD)."
command -v sbatch >/dev/null || fail 3 "there is no sbatch here: log in to a machine with Slurm."
folder=$(cd "$(dirname "$ini")" && pwd -P)
ini=$folder/$(basename "$ini")
venv=${CPXT_VENV:-${jobscripts%/*}/.venv}
[ -x "$venv/bin/cpxt-fit" ] || fail 3 "there is no environment in $venv. Make it with: bash jobscripts/setup.sh. Or say where it is: CPXT_VENV=DIR."
mkdir -p "$folder/logs" || fail 6 "cannot write to $folder."
export CPXT_JOBSCRIPTS=$jobscripts

exec 9>"$folder/logs/.chain.lock" || fail 6 "cannot write to $folder/logs."
flock 9 2>/dev/null || true  # two of us at once; a file system without locks is no reason to stop

# A job is known by its comment: job numbers do not survive, names are not enough.
comment() { printf 'cpxt-%s %s' "$1" "$ini"; }

queue=$(squeue --noheader --user="$(id -un)" --format='%F %k')

waiting() {  # waiting STEP: number of a job of this step that waits or runs
    local number text found=''
    while read -r number text; do
        [ "$text" != "$(comment "$1")" ] || found=$number
    done <<<"$queue"
    echo "$found"
}

submit() {  # submit STEP DEPENDENCY SCRIPT ARGUMENT...: sets number
    local step=$1 dependency=$2 script=$3 options
    read -ra options <<<"$all ${!step}"
    # In the name of the log, % would begin a pattern.
    local log=${folder//%/%%}/logs/%x-%j.log
    if [ "$step" = fit ] && [ -n "$array" ]; then
        log=${log%-%j.log}-%A_%a.log
        options+=("--array=$array")
    fi
    [ -z "$dependency" ] || options+=("--dependency=$dependency" --kill-on-invalid-dep=yes)
    number=$(sbatch --parsable --job-name="cpxt-$step" --comment="$(comment "$step")" --output="$log" "${options[@]}" \
        "$jobscripts/$script" "$ini" "${@:4}")
    number=${number%%;*}
    echo "$step $number"
}

# What stands before a job that waits or runs is over, or waits too.
prep_job=$(waiting prep) fit_job=$(waiting fit) maps_job=$(waiting maps)
for step in prep fit maps; do
    name=${step}_job
    if [ -n "${!name}" ]; then
        echo "$step ${!name} (submitted before)"
    elif [ "$step" = prep ] && [ -z "$fit_job$maps_job" ]; then
        submit prep '' prep.slurm --auto
        prep_job=$number
    elif [ "$step" = fit ] && [ -z "$maps_job" ]; then
        script=fit.slurm
        [ -z "$array" ] || script=fit_array.slurm
        submit fit "${prep_job:+afterok:$prep_job}" "$script" --resolution "$resolution"
        fit_job=$number
    elif [ "$step" = maps ]; then
        submit maps "${prep_job:+afterok:$prep_job,}afterany:$fit_job" maps.slurm
    fi
done
