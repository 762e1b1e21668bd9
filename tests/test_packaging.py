import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
TABLES = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = TABLES["project"]


def needed(requirement: Requirement) -> list[Requirement]:
    """What an installed distribution asks for, with the extras that were asked of it."""
    try:
        asked = [Requirement(line) for line in requires(requirement.name) or []]
    except PackageNotFoundError:
        return []
    extras = requirement.extras or {""}
    return [r for r in asked if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)]


def test_nothing_that_is_installed_pulls_torchvision():
    """Its wheel for CUDA breaks `import lightning` beside a CPU build of torch."""
    todo = [Requirement("fnet-callbacks[dev,wandb,cli]")]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        key = (requirement.name.lower().replace("_", "-"), frozenset(requirement.extras))
        if key not in seen:
            seen.add(key)
            todo += needed(requirement)
    names = {name for name, _ in seen}
    assert {"torch", "lightning", "numpy", "pytest"} <= names
    assert "torchvision" not in names


def test_lightning_releases_that_carried_malware_are_excluded():
    (lightning,) = [r for line in PROJECT["dependencies"] if (r := Requirement(line)).name == "lightning"]
    assert isinstance(lightning.specifier, SpecifierSet)
    assert "2.6.6" in lightning.specifier
    assert "2.6.2" not in lightning.specifier
    assert "2.6.3" not in lightning.specifier


def test_run_time_dependencies_are_permissively_licensed():
    copyleft = {"igraph", "python-igraph", "leidenalg", "bctpy", "giotto-ph", "giotto-tda", "cripser"}
    run_time = {Requirement(line).name for line in PROJECT["dependencies"]}
    extras = {
        Requirement(line).name for e in ("wandb", "cli") for line in PROJECT["optional-dependencies"][e]
    }
    assert not copyleft & (run_time | extras)


def test_a_wheel_has_every_file_that_the_package_reads():
    data = TABLES["tool"]["setuptools"]["package-data"]
    listed = {
        path
        for package, patterns in data.items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    beside = {
        path
        for path in (ROOT / "fnet_callbacks").rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert beside == listed
    assert ROOT / "fnet_callbacks" / "report" / "page.html" in listed
