"""What all tests share: one thread, nothing drawn on a screen, no file outside of pytest's folders."""

import os
from collections.abc import Iterator

import pytest
import torch

# One thread: sums come out the same in every test, and processes of their own do not fight for cores.
torch.set_num_threads(1)
os.environ["MPLBACKEND"] = "Agg"


@pytest.fixture(autouse=True, scope="session")
def wandb_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """W&B writes below pytest's folder and never asks the network."""
    folder = tmp_path_factory.mktemp("wandb")
    os.environ |= {
        f"WANDB_{kind}": str(folder)
        for kind in ("DIR", "CACHE_DIR", "DATA_DIR", "CONFIG_DIR", "ARTIFACT_DIR")
    }
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Shows what tests have told by ``record_property("told", ...)``, whichever process they ran in."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "told":
                terminalreporter.write_line(str(text))


@pytest.fixture(autouse=True)
def no_rendezvous_is_left() -> Iterator[None]:
    """Lightning leaves the port of a group of ranks in the environment, where the next group would look for it."""
    yield
    for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK"):
        os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def seed() -> None:
    """Models that a test makes without a seed of its own start from the same weights in every run."""
    torch.manual_seed(0)
