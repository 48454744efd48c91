import shutil
from typing import NamedTuple

import numpy as np
import pytest
from numba.core import config

from cpxt_hpc.science.compiled import cache_folder, compiled, modules_compiled_in, source_digest
from cpxt_hpc.science.compiled_parts import chosen_by_type


def twice(x):
    return 2.0 * x


def test_the_cache_lies_where_numba_is_told_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    assert compiled(twice)(3.0) == 6.0
    assert cache_folder() == tmp_path / "cache" / f"kernels-{source_digest()}"
    assert list(cache_folder().rglob("*twice*"))
    assert str(tmp_path / "cache") == config.CACHE_DIR


def test_without_a_setting_the_cache_lies_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().parent == tmp_path / "cpxt_hpc" / "numba"


def test_the_cache_is_a_folder_of_this_user_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    assert compiled(twice)(3.0) == 6.0
    assert cache_folder().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("trap", ["open", "link", "file"])
def test_a_cache_that_others_may_have_filled_is_not_read(tmp_path, monkeypatch, trap):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    if trap == "open":
        cache_folder().mkdir()
        cache_folder().chmod(0o777)
    elif trap == "link":
        cache_folder().symlink_to(tmp_path / "elsewhere")
    else:
        cache_folder().touch()
    function = compiled(twice)
    assert function(3.0) == 6.0
    assert not list(tmp_path.rglob("*twice*"))


def test_constants_that_compiled_functions_import_belong_to_the_digest():
    sources = {
        "cpxt_hpc.fitting.loop": "from cpxt_hpc.science.compiled import compiled\nfrom cpxt_hpc.fitting import rows\n",
        "cpxt_hpc.fitting.other": "from cpxt_hpc.science.compiled import (\n    compiled,\n)\n"
        "from cpxt_hpc.fitting.places import (\n    FIRST,\n    SECOND,\n)\n",
        "cpxt_hpc.fitting.rows": "from cpxt_hpc.science.units import EV\nCOUNTS = 0\n",
        "cpxt_hpc.fitting.places": "FIRST = 1\nSECOND = 2\n",
        "cpxt_hpc.science.units": "EV = 1.0\n",
        "cpxt_hpc.fitting.plain": "from cpxt_hpc.fitting.loop import function\n",
    }
    assert modules_compiled_in(sources) == sources.keys() - {"cpxt_hpc.fitting.plain"}


def test_a_function_that_cannot_be_cached_is_compiled_all_the_same():
    space = {}
    exec("def thrice(x):\n    return 3.0 * x", space)  # no source file: numba finds no place for it
    assert compiled(space["thrice"])(2.0) == 6.0


@pytest.mark.parametrize("divisor", [0.0, np.nan])
def test_division_follows_ieee(divisor):
    @compiled
    def share(x, y):
        return x / y

    assert not np.isfinite(share(1.0, divisor))


def test_a_part_is_compiled_into_the_function_that_calls_it(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    part = compiled(twice, part=True)

    @compiled
    def four_times(x):
        return part(part(x))

    assert four_times(1.5) == 6.0
    assert list(cache_folder().rglob("*four_times*"))
    assert not list(cache_folder().rglob("*twice*"))


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    function = compiled(twice)
    shutil.rmtree(tmp_path)
    tmp_path.touch()  # as good as a full disk
    assert function(3.0) == 6.0


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"\x80\x05garbage"])
def test_a_damaged_cache_is_made_again(tmp_path, monkeypatch, suffix, content):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    assert compiled(twice)(3.0) == 6.0
    (damaged,) = tmp_path.rglob(f"*twice*.{suffix}")
    damaged.write_bytes(content)
    assert compiled(twice)(3.0) == 6.0
    assert damaged.read_bytes() != content
    again = compiled(twice)
    assert again(3.0) == 6.0
    assert again.stats.cache_hits


class Metres(NamedTuple):
    value: float


class Feet(NamedTuple):
    value: float


def of_metres(length):
    return length.value


def of_feet(length):
    return 0.3048 * length.value


@chosen_by_type({Metres: of_metres, Feet: of_feet})
def in_metres(length):
    """Any length in metres."""


def test_the_type_of_the_first_argument_chooses_the_function():
    @compiled
    def double(length):
        return 2.0 * in_metres(length)

    assert double(Metres(1.5)) == 3.0
    assert double(Feet(10.0)) == 6.096
    assert len(double.signatures) == 2
