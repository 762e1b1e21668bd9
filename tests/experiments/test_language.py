"""A text by characters: its stretches, and the transformer that reads them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.language import LanguageModel, TextModule, Transformer
from fnet_callbacks import FnetError, read_record

ROOT = Path(__file__).parents[2]
TEXT = "the quick brown fox jumps over the lazy dog, and then äöü again; " * 60


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_targets_are_one_character_further_and_stretches_cover_the_text(text: Path) -> None:
    module = TextModule(str(text), context=16)
    assert module.vocabulary == len(set(TEXT))

    def told(rows: torch.Tensor) -> str:
        return "".join(module.characters[i] for i in rows.flatten())

    inputs, targets = module.train.tensors
    assert inputs.shape == targets.shape == (len(inputs), 16)
    assert TEXT.startswith(told(inputs))
    assert TEXT[1:].startswith(told(targets))
    end = round(0.9 * len(TEXT))
    assert end - 17 <= inputs.numel() < end
    assert TEXT[end:].startswith(told(module.validation.tensors[0]))


def test_the_order_of_training_is_the_seeds_alone(text: Path) -> None:
    def order(seed: int) -> torch.Tensor:
        return torch.cat([batch[0] for batch in TextModule(str(text), seed=seed).train_dataloader()])

    torch.manual_seed(1)
    first = order(3)
    torch.manual_seed(2)
    assert torch.equal(first, order(3))
    assert not torch.equal(first, order(4))


def test_no_character_sees_those_behind_it() -> None:
    model = Transformer(10, 8, layers=2, width=16, heads=2).eval()
    one = torch.arange(8)[None] % 10
    other = one.clone()
    other[0, 5:] = 9
    with torch.no_grad():
        np.testing.assert_allclose(model(one)[0, :5], model(other)[0, :5], atol=1e-6)
        assert not torch.allclose(model(one)[0, 5:], model(other)[0, 5:])


@pytest.mark.parametrize(
    "content, message",
    [(b"", "has 0 characters; at least 650"), (b"short", "has 5 characters"), (b"\xff\xfe\x00", "as UTF-8")],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(FnetError, match=f"text_file .*{message}"):
        TextModule(str(path))


def test_wrong_arguments_are_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(FnetError, match=r"text_file .*nowhere"):
        TextModule(str(tmp_path / "nowhere"))
    with pytest.raises(FnetError, match="context should be at least 2"):
        TextModule(str(text), context=1)
    with pytest.raises(FnetError, match="width a multiple of heads"):
        LanguageModel(width=10, heads=4)


@pytest.mark.slow
def test_the_command_trains_and_tells(text: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.train", "text", "fit"]
    command += ["--config", "experiments/configs/text.yaml", "--data.text_file", str(text)]
    command += ["--trainer.max_epochs", "8", "--model.width", "32", "--data.context", "16"]
    command += ["--trainer.logger.init_args.save_dir", str(tmp_path)]
    command += ["--trainer.callbacks.init_args.every_n_steps", "40"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    record = read_record(tmp_path / "text" / "version_0" / "fnet")
    assert record.steps == [0, 40, 56]
    assert record.series("fnet/n_samples")[0] == len(TextModule(str(text), context=16).validation) * 16
    last = record.snapshots[-1]
    assert last.logged_at_end["val_accuracy"] > 0.5  # a text that says one thing over and over
    assert "fnet/modularity" in ended.stdout
