"""The packed fit input: exact round trip, mapped arrays, and what a reader must refuse."""

import dataclasses
import os
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest
from synthetic import make_fit_input

import cpxt_hpc
from cpxt_hpc.errors import DataError, MissingInput, OutputError
from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.io import fit_input as module
from cpxt_hpc.io.fit_input import read_fit_input, verify_fit_input, write_fit_input


@pytest.fixture(scope="module")
def original() -> FitInput:
    return make_fit_input(3, n_pixel_lists=4, n_channels=160)


@pytest.fixture
def stored(tmp_path, original):
    path = tmp_path / "acb" / "a b_fit_input.h5"
    write_fit_input(path, original)
    return path


def assert_equal_records(found, expected):
    for field in dataclasses.fields(expected):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype and a.shape == b.shape
            assert a.tobytes() == b.tobytes(), field.name
        elif field.name == "observations":
            assert len(a) == len(b)
            for one, other in zip(a, b, strict=True):
                assert_equal_records(one, other)
        elif field.name == "regions":
            assert_equal_records(a, b)
        else:
            assert a == b or (a != a and b != b), field.name


def test_what_was_written_is_read_to_the_last_bit(stored, original):
    found = read_fit_input(stored)
    assert_equal_records(found, original)
    assert type(found.observations[0].obsid) is int
    assert {key: type(value) for key, value in found.settings.items()} == {
        key: type(value) for key, value in original.settings.items()
    }
    verify_fit_input(stored)


def test_an_input_without_events_and_regions_makes_the_round_trip(tmp_path, original):
    observation = original.observations[0]
    n_pixels = original.grid.nx * original.grid.ny
    empty = dataclasses.replace(
        observation,
        pixel_start=np.zeros(n_pixels + 1, np.int64),
        channel=np.empty(0, np.uint16),
        blank_pixel_start=np.zeros(n_pixels + 1, np.int64),
        blank_channel=np.empty(0, np.uint16),
        blank_group=np.empty(0, np.uint8),
    )
    regions = dataclasses.replace(
        original.regions,
        **{
            field.name: getattr(original.regions, field.name)[:0]
            for field in dataclasses.fields(original.regions)
            if field.name != "pixel_start"
        },
        pixel_start=np.zeros(1, np.int64),
    )
    bare = dataclasses.replace(original, observations=(empty,), regions=regions)
    write_fit_input(tmp_path / "empty.h5", bare)
    assert_equal_records(read_fit_input(tmp_path / "empty.h5"), bare)


def test_large_arrays_are_mapped_aligned_and_read_only(stored):
    found = read_fit_input(stored)
    large = found.observations[0].nodes
    assert large.nbytes >= module.MAPPED_FROM_BYTES
    assert isinstance(large.base, np.memmap)
    arrays = [getattr(found.observations[0], name) for name in module.OBSERVATION_ARRAYS]
    arrays += [getattr(found.regions, name) for name in module.REGION_ARRAYS]
    for values in arrays:
        assert type(values) is np.ndarray
        assert values.flags.aligned and values.flags.c_contiguous and not values.flags.writeable


def test_arrays_stay_valid_after_the_file_was_replaced(stored, original):
    first = read_fit_input(stored)
    other = make_fit_input(4)
    write_fit_input(stored, other)
    assert_equal_records(first, original)
    assert_equal_records(read_fit_input(stored), other)


def test_the_file_names_format_version_and_software(stored):
    with h5py.File(stored) as file:
        assert file.attrs["format"] == "cpxt_hpc fit input"
        assert file.attrs["version"] == module.VERSION
        assert file.attrs["software"] == f"cpxt_hpc {cpxt_hpc.__version__}"


def test_nothing_but_the_file_is_left_behind(stored):
    assert os.listdir(stored.parent) == [stored.name]


def test_a_missing_file_names_the_step_that_writes_it(tmp_path):
    with pytest.raises(MissingInput, match=r"x\.h5 does not exist.*stage 5"):
        read_fit_input(tmp_path / "x.h5")


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.999])
def test_a_truncated_file_is_refused(stored, kept):
    size = stored.stat().st_size
    with open(stored, "rb+") as stream:
        stream.truncate(int(size * kept))
    with pytest.raises(DataError, match="truncated or no HDF5 file"):
        read_fit_input(stored)


def spoil_format(file):
    file.attrs["format"] = "something else"


def spoil_version(file):
    file.attrs["version"] = module.VERSION + 1


def spoil_grid(file):
    file.attrs["grid"] = '{"nx": 3}'


def spoil_settings(file):
    file.attrs["settings"] = "{"


def drop_name(file):
    del file.attrs["name"]


def drop_array(file):
    del file["observations/0000/nodes"]


def drop_regions(file):
    del file["regions"]


def link_outside(file):
    del file["observations/0000/channel"]
    file["observations/0000/channel"] = h5py.ExternalLink("other.h5", "/channel")


def link_inside(file):
    del file["surface_brightness"]
    file["surface_brightness"] = h5py.SoftLink("/observations/0000/exposure_fraction")


def link_group(file):
    del file["regions"]
    file["regions"] = h5py.ExternalLink("other.h5", "/regions")


def make_virtual(file):
    shape = file["kt_nodes_kev"].shape
    del file["kt_nodes_kev"]
    virtual = h5py.VirtualLayout(shape=shape, dtype="<f8")
    virtual[:] = h5py.VirtualSource("other.h5", "x", shape=shape)
    file.create_virtual_dataset("kt_nodes_kev", virtual)


def store_outside(file):
    values = file["kt_nodes_kev"][()]
    del file["kt_nodes_kev"]
    file.create_dataset(
        "kt_nodes_kev", shape=values.shape, dtype="<f8", external=[("/etc/hostname", 0, values.nbytes)]
    )


def compress(file):
    values = file["kt_nodes_kev"][()]
    del file["kt_nodes_kev"]
    file.create_dataset("kt_nodes_kev", data=values, compression="gzip")


def change_type(file):
    values = file["kt_nodes_kev"][()]
    del file["kt_nodes_kev"]
    file.create_dataset("kt_nodes_kev", data=values.astype(">f8"))


def change_shape(file):
    values = file["kt_nodes_kev"][()]
    del file["kt_nodes_kev"]
    file.create_dataset("kt_nodes_kev", data=values[:-1])


def shorten_events(file):
    values = file["observations/0001/channel"][()]
    del file["observations/0001/channel"]
    file.create_dataset("observations/0001/channel", data=values[:-1])


def group_in_place_of_array(file):
    del file["kt_nodes_kev"]
    file.create_group("kt_nodes_kev")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_format, "format is 'something else', expected 'cpxt_hpc fit input'"),
        (spoil_version, "format version 3, written by cpxt_hpc .*reads version 2"),
        (spoil_grid, "grid is not described"),
        (spoil_settings, "attribute settings of / is not JSON"),
        (drop_name, "attribute name of / is missing"),
        (drop_array, "/observations/0000/nodes is missing"),
        (drop_regions, "/regions is missing"),
        (link_outside, r"/observations/0000/channel is a link \(ExternalLink\)"),
        (link_inside, r"/surface_brightness is a link \(SoftLink\)"),
        (link_group, r"/regions is a link \(ExternalLink\)"),
        (make_virtual, "takes its data from another file"),
        (store_outside, "takes its data from another file"),
        (compress, "compressed or in pieces"),
        (change_type, "kt_nodes_kev is of type >f8, expected float64"),
        (change_shape, r"expected \(1, 1, 2, 29, 160\)"),
        (shorten_events, r"observation \d+: pixel_start runs from 0 to"),
        (group_in_place_of_array, "/kt_nodes_kev is no dataset"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused(stored, spoil, message):
    with h5py.File(stored, "r+") as file:
        spoil(file)
    with pytest.raises(DataError, match=message):
        read_fit_input(stored)


def test_a_changed_byte_is_found_by_the_checksums(stored):
    with h5py.File(stored, "r") as file:
        offset = file["observations/0001/exposure_fraction"].id.get_offset()
    with open(stored, "rb+") as stream:
        stream.seek(offset + 100)
        byte = stream.read(1)
        stream.seek(offset + 100)
        stream.write(bytes([byte[0] ^ 1]))
    read_fit_input(stored)
    with pytest.raises(DataError, match="/observations/0001/exposure_fraction does not match its checksum"):
        verify_fit_input(stored)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kt_nodes_kev": np.zeros(29, np.float32)}, "kt_nodes_kev is float32"),
        ({"surface_brightness": np.zeros((3, 4), np.float32)}, "surface_brightness has the shape"),
    ],
)
def test_arrays_of_another_type_or_shape_are_not_written(tmp_path, original, change, message):
    with pytest.raises(ValueError, match=message):
        write_fit_input(tmp_path / "x.h5", dataclasses.replace(original, **change))
    assert not any(tmp_path.iterdir())


def test_a_file_that_cannot_grow_is_an_output_error_and_leaves_nothing(tmp_path):
    # A limit on the size of files stands for a full disk; in a child, since it holds for the whole process.
    code = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        from synthetic import make_fit_input
        from cpxt_hpc.errors import OutputError
        from cpxt_hpc.io.fit_input import write_fit_input
        fit_input = make_fit_input(3)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))
        try:
            write_fit_input(Path(sys.argv[1]), fit_input)
        except OutputError as error:
            print("output error:", error)
        """
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.h5")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])},
        capture_output=True, text=True, check=False,
    )
    assert ended.stdout.startswith("output error:") and "x.h5" in ended.stdout, ended.stderr
    assert not any(tmp_path.iterdir())


def test_a_folder_without_write_permission_is_an_output_error(tmp_path, original):
    (tmp_path / "acb").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="cannot be written"):
        write_fit_input(tmp_path / "acb" / "x.h5", original)
