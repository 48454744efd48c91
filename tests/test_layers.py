"""Imports point one way: cli -> stages, parallel, products, demo -> toolchain, fitting, io -> science -> errors."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "cpxt_hpc"
LEVELS = {
    "errors": 0,
    "config": 0,
    "layout": 0,
    "science": 1,
    "toolchain": 2,
    "fitting": 2,
    "io": 2,
    "stages": 3,
    "parallel": 3,
    "products": 3,
    "demo": 3,
    "cli": 4,
}
ONLY_IN = {
    "mpi4py": ("parallel/transport.py",),
    "sherpa": ("fitting/xspec_child", "fitting/sherpa_child"),
    "xspec": ("fitting/xspec_child",),
    "ciao_contrib": ("toolchain/ciao",),
}
NOT_IN_SCIENCE = {
    "logging", "mpi4py", "h5py", "os", "io", "pathlib", "shutil", "tempfile", "subprocess", "multiprocessing",
    "configparser", "json", "csv", "fitsio", "astropy.io",
}  # fmt: skip
COMPILER = "science/compiled.py"
"""Chooses numba's cache folder, by a digest of the package's own source: it computes nothing."""
LONGEST_MODULE = 400


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def imported(source, package):
    """Full names of all that a source imports, wherever in the file; relative imports resolved."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def imports_of(path):
    package = ".".join(["cpxt_hpc", *path.relative_to(PACKAGE).parts[:-1]])
    return imported(path.read_text(encoding="utf-8"), package)


def is_within(name, module):
    return name == module or name.startswith(module + ".")


def upward_imports(own, names):
    """Imports out of a higher level than that of the module; science may not import config or layout either."""
    own_part = own.split("/")[0].removesuffix(".py")
    wrong = []
    for name in sorted(names):
        parts = name.split(".")
        if parts[0] != "cpxt_hpc" or len(parts) < 2 or parts[1] not in LEVELS:
            continue
        beside = own_part == "science" and parts[1] in ("config", "layout")
        if LEVELS[parts[1]] > LEVELS[own_part] or beside:
            wrong.append(name)
    return wrong


def test_every_part_of_the_package_has_a_level():
    parts = {name_of(path).split("/")[0].removesuffix(".py") for path in modules()} - {"__init__"}
    assert parts <= set(LEVELS)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_no_module_imports_from_a_higher_layer(path):
    if name_of(path) == "__init__.py":
        assert not imports_of(path)
    else:
        assert upward_imports(name_of(path), imports_of(path)) == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_special_packages_are_imported_in_their_one_place(package):
    users = [name_of(path) for path in modules() if any(is_within(n, package) for n in imports_of(path))]
    assert [user for user in users if not user.startswith(ONLY_IN[package])] == []


def test_science_touches_no_files_logs_or_processes():
    wrong = []
    for path in (PACKAGE / "science").rglob("*.py"):
        if name_of(path) == COMPILER:
            continue
        for name in imports_of(path):
            if any(is_within(name, forbidden) for forbidden in NOT_IN_SCIENCE):
                wrong.append(f"{name_of(path)} imports {name}")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        wrong.extend(f"{name_of(path)} calls {name}()" for name in sorted(names & {"open", "print", "input"}))
    assert wrong == []


def test_modules_stay_short():
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


@pytest.mark.parametrize(
    ("own", "source"),
    [
        ("science/maps.py", "from cpxt_hpc.io import images"),
        ("science/maps.py", "from cpxt_hpc import config"),
        ("science/maps.py", "from ..layout import ClusterLayout"),
        ("io/ini.py", "import cpxt_hpc.stages.base"),
        ("fitting/engine.py", "def f():\n    from cpxt_hpc.parallel import master"),
        ("stages/merge.py", "from ..cli import prep"),
        ("errors.py", "from .science import grid"),
    ],
)
def test_an_upward_import_would_be_found(own, source):
    package = ".".join(["cpxt_hpc", *own.split("/")[:-1]])
    assert len(upward_imports(own, imported(source, package))) == 1


def test_a_downward_import_is_allowed():
    assert upward_imports("cli/prep.py", imported("from cpxt_hpc.io import ini", "cpxt_hpc.cli")) == []
