"""``fnet analyze``: a checkpoint, a module and data by name; what is wrong with one of them is said."""

import json
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from fnet_callbacks import local_specialization
from fnet_callbacks.cli import main

MODULE = """
import lightning.pytorch as pl
import torch
from small_models import loader, mlp, points


class Mine(pl.LightningModule):
    def __init__(self, width: int, depth: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = mlp(*[width] * depth)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Forgetful(Mine):
    def __init__(self, width: int) -> None:
        pl.LightningModule.__init__(self)
        self.net = mlp(width, width)


class Broken(Mine):
    def __init__(self, width: int, depth: int = 2) -> None:
        raise ValueError("no such width")


class Mapped(Mine):
    def forward(self, x):
        return {"logits": self.net(x)}

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0])["logits"], batch[1])


class Hooked(Mine):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch[0] - 100, batch[1]


class FromFit(pl.LightningDataModule):
    def setup(self, stage):
        if stage == "fit":
            self.points = points(96)

    def val_dataloader(self):
        return [torch.utils.data.DataLoader(self.points, batch_size=32)]


class NoLoader(pl.LightningDataModule):
    pass


class Data(pl.LightningDataModule):
    def setup(self, stage):
        self.points = points(96)

    def val_dataloader(self):
        return torch.utils.data.DataLoader(self.points, batch_size=32)


def plain():
    return mlp(16, 16)


def dataset():
    return points(96)


batches = loader(96, batch_size=32)
number = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a module of the user's, and a checkpoint of it."""
    folder = tmp_path_factory.mktemp("analyze")
    (folder / "their_model.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        import their_model

        torch.manual_seed(0)
        kinds = ("Mine", "Forgetful", "Mapped", "Hooked")
        for name, model in ((kind.lower(), getattr(their_model, kind)(16)) for kind in kinds):
            fitted = pl.Trainer(
                max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False,
            )  # fmt: skip
            fitted.fit(model, their_model.loader())
            fitted.save_checkpoint(folder / f"{name}.ckpt")
            if name == "mine":
                torch.save(model.net.state_dict(), folder / "plain.pt")
    return folder


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)  # the user's module is found where the command is called


def command(checkpoint: str = "mine.ckpt", module: str = "Mine", data: str = "Data", *more: str) -> list[str]:
    return [
        *("analyze", checkpoint, "--module", f"their_model:{module}", "--data", f"their_model:{data}"),
        *("--k", "3", "--shuffles", "3", *more),
    ]


def test_it_tells_and_writes_what_the_function_finds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("mine.ckpt", "Mine", "Data", "-o", "found.json")) == 0
    said = capsys.readouterr().out
    import their_model

    model = their_model.Mine.load_from_checkpoint("mine.ckpt")
    expected = local_specialization(model, their_model.batches, k=3, shuffles=3)
    found = json.loads(Path("found.json").read_text())
    assert found["partition"] == expected.partition.tolist()
    assert found["ncut"] == pytest.approx(expected.ncut)
    assert found["z_score"] == pytest.approx(expected.z_score)
    assert found["objective"]["p_value"] is None
    assert len(found["subclusters"]) == len(expected.subclusters) > 0
    for own, other in zip(found["subclusters"], expected.subclusters, strict=True):
        assert own["units"] == other.units.tolist()
        assert own["importance"]["p_value"] == pytest.approx(other.importance.p_value)
        assert f"| {other.layer} | {other.cluster} | {len(other.units)} |" in said
    assert "32 units in 2 layers" in said
    assert "Important, in that accuracy falls" in said
    assert "softmax" not in said


@pytest.mark.parametrize("data", ["batches", "dataset", "Data", "FromFit"])
@pytest.mark.parametrize(("checkpoint", "module"), [("mine.ckpt", "Mine"), ("plain.pt", "plain")])
def test_models_and_data_come_in_several_ways(checkpoint: str, module: str, data: str, capsys) -> None:
    assert main(command(checkpoint, module, data, "--graph", "activations", "--partition", "louvain")) == 0
    assert "32 units in 2 layers" in capsys.readouterr().out


def test_the_submodule_that_is_called_can_be_named(capsys) -> None:
    assert main(command("mine.ckpt", "Mine", "Data", "--model", "net", "--layers", "1")) == 0
    assert "16 units in 1 layers" in capsys.readouterr().out
    assert main(command("mine.ckpt", "Mine", "Data", "--visualization-steps", "2")) == 0
    assert "softmax entropy p" in capsys.readouterr().out


def test_what_a_model_returns_and_what_it_does_to_batches_is_respected(capsys) -> None:
    assert (
        main(command("mapped.ckpt", "Mapped", "Data", "--output-to-logits", "small_models.logits_of_dict"))
        == 0
    )
    capsys.readouterr()
    assert main(command("hooked.ckpt", "Hooked", "Data", "-o", "hooked.json")) == 0
    import their_model

    values, labels = their_model.points(96).tensors
    model = their_model.Hooked.load_from_checkpoint("hooked.ckpt").eval()
    right = (model(values - 100).argmax(1) == labels).float()
    expected = [right[labels == c].mean().item() for c in range(3)]
    assert json.loads(Path("hooked.json").read_text())["accuracy"] == pytest.approx(expected)


def text(folder: Path) -> str:
    (folder / "text.ckpt").write_text("not a checkpoint at all")
    return "text.ckpt"


def code(folder: Path) -> str:
    torch.save(
        {"state_dict": {"w": torch.ones(2)}, "callable": np.random.RandomState(0)}, folder / "code.ckpt"
    )
    return "code.ckpt"


def cut_off(folder: Path) -> str:
    whole = (folder / "mine.ckpt").read_bytes()
    (folder / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    return "cut.ckpt"


def other_key(folder: Path) -> str:
    torch.save({"model_state_dict": {"w": torch.ones(2)}}, folder / "other.ckpt")
    return "other.ckpt"


def weightless(folder: Path) -> str:
    torch.save({"state_dict": {}}, folder / "weightless.ckpt")
    return "weightless.ckpt"


def listed(folder: Path) -> str:
    torch.save([1, 2], folder / "list.ckpt")
    return "list.ckpt"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text, "text.ckpt is no checkpoint"),
        (code, "code.ckpt is no checkpoint, is cut off, or holds more than tensors"),
        (cut_off, "cut.ckpt is no checkpoint, is cut off"),
        (other_key, "its keys are model_state_dict"),
        (weightless, "holds no weights"),
        (listed, "holds a list"),
        (lambda folder: "missing.ckpt", "`checkpoint`: there is no file missing.ckpt"),
    ],
)
def test_a_checkpoint_that_is_none_is_named(make, message: str, folder: Path, capsys) -> None:
    assert main(command(make(folder))) == 1
    said = capsys.readouterr().err
    assert said.startswith("fnet analyze: ")
    assert message in said


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            ("mine.ckpt", "plain"),
            "`checkpoint`: mine.ckpt is not that of `module='their_model:plain'`: RuntimeError",
        ),
        (("forgetful.ckpt", "Forgetful"), "call `self.save_hyperparameters()` in it"),
        (
            ("mine.ckpt", "Nobody"),
            "`module='their_model:Nobody'`: AttributeError: module 'their_model' has no",
        ),
        (("mine.ckpt", "number"), "names a int; it should be a class or a function"),
        (("mine.ckpt", "dataset"), "gives a TensorDataset; it should give a model"),
        (("mine.ckpt", "Mine", "number"), "gives a int; it should give a data module"),
        (("mine.ckpt", "Mine", "mlp.wrong"), "`data='their_model:mlp.wrong'`"),
        (("mine.ckpt", "Mine", "Forgetful"), "`data='their_model:Forgetful'`: TypeError"),
        (("mine.ckpt", "Broken"), "`module='their_model:Broken'` cannot be made"),
        (("mine.ckpt", "Mine", "NoLoader"), "`data='their_model:NoLoader'`: "),
        (("mine.ckpt", "Mine", "Data", "-o", "nowhere/found.json"), "`output`: there is no folder"),
        (("mapped.ckpt", "Mapped"), "the model returns a dict; pass `output_to_logits`"),
        (("mine.ckpt", "Mine", "Data", "--k", "900"), "`k=900` should be from 1 to"),
        (("mine.ckpt", "Mine", "dataset", "--batch-size", "0"), "`batch_size=0`"),
        (("mine.ckpt", "Mine", "Data", "--model", "nowhere"), "`model='nowhere'` is no submodule"),
    ],
)
def test_what_does_not_fit_is_named(changed: tuple[str, ...], message: str, capsys) -> None:
    assert main(command(*changed)) == 1
    assert message in capsys.readouterr().err


def test_a_name_without_its_module_is_named(capsys) -> None:
    arguments = command()
    arguments[arguments.index("--module") + 1] = "Mine"
    assert main(arguments) == 1
    assert "`module='Mine'` should be 'package.module:name'" in capsys.readouterr().err
