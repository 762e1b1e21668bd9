from pathlib import Path

import pytest
from small_runs import write_run


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three regularisations with five seeds each, one of them of a hostile name."""
    for name, strength in (("none", 0.3), ("<script>alert(1)</script>", 0.4), ("dropout", 0.8)):
        for seed in range(5):
            write_run(
                tmp_path / "runs" / f"{strength}-{seed}", strength=strength, seed=seed, regularizer=name
            )
    return tmp_path / "runs"


ODD_NAMES = (
    *("plain", "a\rb", "a\nb", "a\0b", "a\x1fb", "a  b", " ", "\udcff", "&lt;b&gt;"),
    *("x" * 90, "שלום", "سلام عليكم"),
)


@pytest.fixture
def odd_sweep(tmp_path: Path) -> Path:
    """Two runs under each of twelve names that a page may stumble over."""
    for i, name in enumerate(ODD_NAMES):
        for seed in range(2):
            write_run(tmp_path / "odd" / f"{i}-{seed}", strength=0.3 + 0.05 * i, seed=seed, regularizer=name)
    return tmp_path / "odd"
