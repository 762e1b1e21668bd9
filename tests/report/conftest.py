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
