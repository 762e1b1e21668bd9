"""Sweeps of trials that take seconds, and what became of them."""

import subprocess
import sys
from pathlib import Path

import yaml

from experiments.trials import state_of

ROOT = Path(__file__).parents[1]
TINY = {
    "data.train_size": 128,
    "trainer.max_epochs": 2,
    "trainer.enable_progress_bar": False,
    "trainer.enable_checkpointing": False,
    "model.hidden": [[16, 16]],
    "trainer.callbacks.0.init_args.every_n_steps": 2,
    "trainer.callbacks.0.init_args.worker": "inline",
    "trainer.callbacks.0.init_args.figures": None,
    "trainer.callbacks.0.init_args.instruments.0.init_args.measures": "fast",
    "trainer.callbacks.0.init_args.instruments.1.init_args.every_n_steps": 2,
}


def file(folder: Path, **axes: object) -> Path:
    path = folder / "sweep.yaml"
    config = str(ROOT / "experiments" / "configs" / "digits_mlp.yaml")
    path.write_text(yaml.safe_dump({"config": config, **TINY, **axes}, sort_keys=False))
    return path


def command(path: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "experiments.sweep", str(path), "--out", str(out), *more]


def sweep(path: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(path, out, *more), cwd=ROOT, capture_output=True, text=True, timeout=250)


def states(out: Path) -> dict[str, str]:
    return {
        f.name: state_of(f).get("state", "") for f in sorted(out.iterdir()) if (f / "trial.json").exists()
    }
