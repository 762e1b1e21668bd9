"""Who may import whom, and what an import pulls in."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "fnet_callbacks"
MODULES = {".".join(p.relative_to(ROOT.parent).with_suffix("").parts): p for p in sorted(ROOT.rglob("*.py"))}

# A room may import those of the floors below it and its neighbours on its own floor.
FLOORS = [
    {"errors", "interrupts", "stopwatch"},
    {"arguments", "checks", "imports"},
    {"functional"},
    {
        "attacks",
        "capture",
        "history",
        "host",
        "metrics",
        "neighbourhood",
        "network",
        "palette",
        "portrait",
        "spans",
    },
    {"findings", "quantities"},
    {"keys", "record"},
    {"figures", "compare", "specialization", "regions", "codes"},
    {"instruments"},
    {"worker", "report"},
    {"engine"},
    {"drivers", "cli"},
]
HEAVY_FOR_FUNCTIONAL = {
    "torch",
    "lightning",
    "torchmetrics",
    "matplotlib",
    "networkx",
    "sklearn",
    "gudhi",
    "ripser",
    "wandb",
    "tensorboard",
}
# llvmlite is what Numba is made of.
ALLOWED_IN_FUNCTIONAL = {"numpy", "scipy", "numba", "llvmlite"}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path, *, everywhere: bool = True, type_checking: bool = True) -> Iterator[str]:
    """Full names of what a module imports.

    Args:
        path: The module's.
        everywhere: Also in functions, which import when they are called.
        type_checking: Also for annotations alone.
    """

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                yield from (f"{child.module}.{alias.name}" for alias in child.names)
            of_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            of_call = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            if (everywhere or not of_call) and (type_checking or not of_types):
                yield from visit(child)

    yield from visit(ast.parse(path.read_text()))


def packages(module: str, *, everywhere: bool = True) -> set[str]:
    """The packages that a module imports; those for annotations alone count where ``everywhere`` does."""
    found = imports(MODULES[module], everywhere=everywhere, type_checking=everywhere)
    return {name.split(".")[0] for name in found}


def own(name: str) -> str | None:
    """The module of this package that a name is of; None for one of another package."""
    while name and name not in MODULES and f"{name}.__init__" not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def test_every_room_has_a_floor():
    rooms = {room(module) for module in MODULES}
    assert rooms - {"__init__"} == set().union(*FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_from_its_floor_and_below(module):
    if room(module) == "__init__":  # resolves its names lazily
        return
    floor = next(i for i, rooms in enumerate(FLOORS) if room(module) in rooms)
    allowed = set().union(*FLOORS[: floor + 1])
    found = {room(o) for name in imports(MODULES[module]) if (o := own(name)) not in (None, "fnet_callbacks")}
    assert found <= allowed, f"{module} imports {found - allowed}"


def test_no_module_imports_itself_by_way_of_others():
    graph = {
        module.removesuffix(".__init__"): {
            o
            for name in imports(path, everywhere=False)
            if (o := own(name)) is not None and o != module.removesuffix(".__init__")
        }
        for module, path in MODULES.items()
    }
    done: set[str] = set()

    def walk(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " > ".join([*above, module])
        if module not in done:
            for other in sorted(graph.get(module, ())):
                walk(other, (*above, module))
            done.add(module)

    for module in graph:
        walk(module, ())


@pytest.mark.parametrize("module", MODULES)
def test_only_drivers_know_a_training_framework(module):
    if room(module) != "drivers":
        assert not packages(module) & {"lightning", "pytorch_lightning", "transformers"}


@pytest.mark.parametrize("module", MODULES)
def test_only_the_loggers_know_wandb_and_tensorboard_and_import_them_when_they_write(module):
    if module != "fnet_callbacks.engine.loggers":
        assert not packages(module) & {"wandb", "tensorboard"}
    assert not packages(module, everywhere=False) & {"wandb", "tensorboard"}


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) == "functional"])
def test_functional_imports_nothing_heavier_than_its_numerics(module):
    ours = {*sys.stdlib_module_names, "fnet_callbacks"}
    at_import = packages(module, everywhere=False) - ours
    assert at_import <= ALLOWED_IN_FUNCTIONAL
    assert packages(module) - at_import - ours <= {"networkx", "gudhi", "numba", "ripser", "scipy", "sklearn"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_short_says_what_it_is_and_imports_no_star(module):
    text = MODULES[module].read_text()
    assert len(text.splitlines()) <= 400
    assert MODULES[module].stem not in ("utils", "helpers", "common", "misc")
    assert ast.get_docstring(ast.parse(text))
    assert not any(name.endswith(".*") for name in imports(MODULES[module]))


def loaded_by(statement: str) -> set[str]:
    """The modules that are loaded after a statement, in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def pulled_in_by(statement: str) -> set[str]:
    """The packages of them."""
    return {name.split(".")[0] for name in loaded_by(statement)}


def test_what_is_numpy_pulls_in_neither_torch_nor_lightning():
    rooms = "functional, network, record, figures, findings, portrait"
    loaded = pulled_in_by(
        f"from fnet_callbacks import {rooms}; from fnet_callbacks.worker import analyst, artist; "
        "from fnet_callbacks.quantities import known; "
        "from fnet_callbacks.instruments import network_analysis"
    )
    assert "numpy" in loaded
    assert not loaded & {"torch", "lightning", "pytorch_lightning", "torchmetrics", "wandb", "tensorboard"}


def test_what_the_worker_that_measures_runs_draws_nothing():
    assert not pulled_in_by("import fnet_callbacks.worker.analyst") & HEAVY_FOR_FUNCTIONAL


def test_functional_is_light():
    assert not pulled_in_by("import fnet_callbacks.functional") & (HEAVY_FOR_FUNCTIONAL | {"numba"})


def test_a_snapshot_of_the_fast_tier_loads_numba_and_nothing_of_scipy_that_takes_long():
    loaded = loaded_by(
        "import numpy as np; from fnet_callbacks.instruments import network_analysis; "
        "from fnet_callbacks import functional as F; from fnet_callbacks.network import Activity, Network; "
        "from fnet_callbacks.quantities.networks import measure, quantities_of; "
        "x = np.random.default_rng(0).random((50, 8)); "
        "r = F.correlation_from_moments(50, x.sum(0), x.T @ x, np.zeros(8), np.abs(x).max(0)); "
        "found = measure(Network(r, Activity(F.active_share(x))), quantities_of('fast')); assert len(found) > 5"
    )
    assert "numba" in loaded
    assert not loaded & {"scipy.special", "scipy.sparse", "scipy.stats", "threadpoolctl"}


def test_instruments_and_the_engine_run_without_lightning():
    loaded = pulled_in_by(
        "from fnet_callbacks import FunctionalCodes, Lesions; from fnet_callbacks.engine import engine"
    )
    assert "torch" in loaded
    assert not loaded & {"lightning", "pytorch_lightning", "wandb", "tensorboard"}


def test_the_package_itself_pulls_in_nothing_and_has_its_names():
    names = (
        "CaptureError, FnetError, FunctionalNetwork, Monitor, Record, RecordError, Robustness, read_record"
    )
    assert not pulled_in_by("import fnet_callbacks") & {"numpy", "torch", "lightning"}
    assert "lightning" in pulled_in_by(f"from fnet_callbacks import {names}")


def test_a_name_that_is_not_there_is_an_attribute_error():
    import fnet_callbacks

    assert "Monitor" in dir(fnet_callbacks)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = fnet_callbacks.nothing
