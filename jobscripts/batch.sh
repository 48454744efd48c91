# What the batch jobs of this folder share; they source it, nobody runs it.
# shellcheck shell=bash

# wall_time: Slurm's signal before the wall time has come; cancelled: TERM has come, by scancel or at the wall time
# itself. Then the job must not come back by itself.
wall_time=${wall_time:-} cancelled='' signalled='' program='' launcher=()
trap 'signalled=yes; wall_time=yes; pass_on USR1' USR1
trap 'signalled=yes; cancelled=yes; pass_on TERM' TERM

pass_on() { [ -z "$program" ] || kill -s "$1" "$program" 2>/dev/null || true; }

note() { printf '%(%F %T)T job %s: %s\n' -1 "${job:-${SLURM_JOB_ID:-}}" "$*"; }

fail() {  # fail CODE WHAT...
    note "${@:2}" >&2
    exit "$1"
}

settle() {  # settle PROGRAM [ARGUMENT]...: where this job runs and with what; sets job, venv and ini
    local name=$1
    shift
    job=${SLURM_JOB_ID:-}
    [ -n "$job" ] || fail 2 "this is a job for Slurm. Submit it: sbatch jobscripts/... cluster.ini"
    # In an array the number of its last task stands for all of them: scontrol would requeue them all.
    [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    venv=${CPXT_VENV:-${jobscripts%/*}/.venv}
    [ -x "$venv/bin/$name" ] ||
        fail 3 "there is no environment in $venv. Make it with: bash jobscripts/setup.sh. Or say where it is: CPXT_VENV=DIR sbatch ..."
    venv=$(cd "$venv" && pwd -P)
    PATH=$venv/bin:$PATH
    ini=${1:-cluster.ini}
    case $ini in
        -*) ini='' ;;  # options only: the command looks for its cluster.ini itself
        *) [ -f "$ini" ] || fail 3 "$ini: there is no such file (looked for from $PWD). Name cluster.ini behind the job script." ;;
    esac
    # The processes share the cores: threads inside them would fight for these.
    export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 MPLBACKEND=Agg
    if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
    note "$name on ${SLURM_JOB_NODELIST:-$(hostname)}, ${SLURM_NTASKS:-1} tasks, restart ${SLURM_RESTART_COUNT:-0} of at most ${CPXT_MAX_RESTARTS:-20}"
}

choose_launcher() {  # sets launcher: the words before the program; none for one task
    local tasks=${SLURM_NTASKS:-1} library plugin=pmi2 mpiexec binding=() how=${CPXT_LAUNCHER:-auto}
    launcher=()
    [ "$tasks" -gt 1 ] || return 0
    library=$("$venv/bin/python" -c 'import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.Get_library_version().split(",")[0].splitlines()[0])') ||
        fail 3 "MPI cannot be loaded. Load the module that was loaded at the set-up, or run bash jobscripts/setup.sh again."
    case $library in *'Open MPI'*) plugin=pmix binding=(--bind-to none) ;; esac
    if [ "$how" = auto ]; then
        how=mpiexec
        # A trial, for `srun --mpi=list` also names plugins whose library is missing.
        if timeout 120 srun "--mpi=$plugin" --nodes=1 --ntasks=1 true >/dev/null 2>&1; then how=srun; fi
    fi
    case $how in
        srun) launcher=(srun "--mpi=$plugin" --kill-on-bad-exit=0 "--ntasks=$tasks") ;;
        mpiexec)
            mpiexec=$venv/bin/mpiexec
            [ -x "$mpiexec" ] || mpiexec=$(command -v mpiexec) ||
                fail 3 "there is no mpiexec on PATH. Load the MPI module that was loaded at the set-up, or set CPXT_LAUNCHER=srun."
            launcher=("$mpiexec" "${binding[@]}" -n "$tasks")
            ;;
        *) read -ra launcher <<<"$how" ;;
    esac
    note "$library, started by: ${launcher[*]}"
}

remove_leftovers() {  # before a restart under srun: MPICH hangs where a killed start of the same job left shared memory
    [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && [ "${launcher[0]:-}" = srun ] || return 0
    # shellcheck disable=SC2016  # the variables belong to the inner shell
    srun --mpi=none --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --ntasks-per-node=1 bash -c '
        for file in /dev/shm/mpich_shm_* /dev/shm/mpich_vci_*; do
            if [ -O "$file" ] && ! grep -qsF "$file" /proc/[0-9]*/maps; then rm -f "$file"; fi
        done' || note "leftovers of the last start could not be removed"
}

run_and_requeue() {  # run_and_requeue COMMAND...: to its end; at the wall time the job is requeued. Ends the shell.
    local code=75 lost=0
    remove_leftovers
    while [ -z "$wall_time$cancelled" ]; do
        run_to_its_end "$@"
        # 0 to 7 and 75 a command says itself. All else comes from a launcher that lost a rank: what is left is done
        # by a new start, in the same allocation.
        case $code in [0-7] | 75) break ;; esac
        [ -z "$wall_time$cancelled" ] && [ "${#launcher[@]}" -gt 0 ] && [ "$lost" -lt 3 ] || break
        lost=$((lost + 1))
        note "exit code $code: a rank was lost. What is left starts again ($lost of at most 3 times)"
    done
    case $code in [0-7]) ;; *) [ -z "$wall_time" ] || [ -n "$cancelled" ] || requeue ;; esac
    exit "$code"
}

run_to_its_end() {  # run_to_its_end COMMAND...: with all signals passed on; sets code
    "$@" &
    program=$!
    [ -z "$wall_time" ] || pass_on USR1  # it may have come a moment ago
    while :; do
        signalled=''
        wait "$program"
        code=$?
        [ -n "$signalled" ] || break  # else wait was only interrupted
    done
    program=''
}

requeue() {
    local restarts=${SLURM_RESTART_COUNT:-0} most=${CPXT_MAX_RESTARTS:-20} again="submit it again: it continues"
    if [ "$restarts" -ge "$most" ]; then
        note "stopped before its wall time and not requeued: CPXT_MAX_RESTARTS=$most is reached; $again"
    elif [[ $(scontrol show job "$job") != *JobState=RUNNING* ]]; then
        note "stopped before its wall time and not requeued: it was cancelled meanwhile"
    elif scontrol requeue "$job"; then
        note "stopped before its wall time and requeued (restart $((restarts + 1)) of at most $most)"
    else
        note "stopped before its wall time, but Slurm does not requeue it; $again"
    fi
}
