"""What others wrote - loggers, checkpoints, modules - stays data: it runs nothing and writes nowhere else."""

import ast
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from small_models import Ledger, Net, fast, loader, monitor, network, record, robustness, trainer

from fnet_callbacks import FnetError, FnetWarning

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "version", ["../../up", "/etc", "..", "a\0b", "<script>", "x" * 150, "ünïcode", "\n", 7, None]
)
def test_whatever_a_logger_calls_its_run_the_record_stays_below_its_folder(
    tmp_path: Path, version: Any
) -> None:
    class Named(Ledger):
        @property
        def version(self) -> Any:
            return version

    inside = tmp_path / "deep" / "er"
    trainer(inside, fast(4), logger=Named()).fit(Net(), loader())
    found = record(tmp_path)
    assert found.steps == [0, 4, 8]
    assert (found.folder.name, found.folder.parent.parent) == ("fnet", inside)
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]


def checkpoint(folder: Path) -> Path:
    saves = ModelCheckpoint(folder, filename="made", every_n_train_steps=4, save_top_k=-1)
    watched = monitor(2, network(measures="fast"), robustness(2))
    trainer(folder, watched, saves, enable_checkpointing=True).fit(Net(), loader())
    return folder / "made.ckpt"


def test_a_checkpoint_holds_nothing_that_would_have_to_be_trusted(tmp_path: Path) -> None:
    content = torch.load(checkpoint(tmp_path), weights_only=True)
    assert content["callbacks"]["fnet_callbacks"]["step"] > 0


OWN: dict[str, Any] = {"count": 3, "last_step": 4, "left_out": 0, "state": {}}


@pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch.*")
@pytest.mark.parametrize("worker", ["inline", "process"])
@pytest.mark.parametrize(
    "state",
    [
        {"foo": 1},
        {"step": "../../up"},
        {"last_step": "4"},
        {"record": 3},
        {"probe": 3},
        {"measured": [1]},
        {"values": "x"},
        {"values": {"fnet/modularity": "x"}},
        {"instruments": None},
        {"instruments": {"fnet": 3}},
        {"instruments": {"fnet": {**OWN, "count": "a"}}},
        {"instruments": {"fnet": {**OWN, "state": 3}}},
        {"instruments": {"fnet": {**OWN, "state": {"": 3}}}},
        {"instruments": {"fnet": {**OWN, "state": {"": {"partition": "x", "edges": None}}}}},
    ],
    ids=str,
)
def test_a_state_that_no_monitor_wrote_is_refused_before_the_first_step(
    tmp_path: Path, state: dict[str, Any], worker: str
) -> None:
    path = checkpoint(tmp_path / "first")
    content = torch.load(path, weights_only=True)
    own = content["callbacks"]["fnet_callbacks"]
    content["callbacks"]["fnet_callbacks"] = state if "foo" in state else {**own, **state}
    torch.save(content, path)
    fitted = trainer(tmp_path / "second", fast(2, worker=worker, on_error="warn"), max_epochs=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(FnetError, match=r"the checkpoint's state of .* is none that it wrote"):
            fitted.fit(Net(), loader(), ckpt_path=str(path), weights_only=True)


@pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch.*")
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.filterwarnings("ignore:.*The dirpath has changed.*")
def test_a_record_that_a_checkpoint_points_to_is_read_and_never_written(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "first")
    content = torch.load(path, weights_only=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "manifest.json").write_text('{"format": "something else"}')
    for state in content["callbacks"].values():
        if "record" in state:
            state["record"] = str(elsewhere)
    torch.save(content, path)
    with pytest.warns(FnetWarning, match="not taken over: .*no manifest of a record"):
        trainer(tmp_path / "second", fast(2), max_epochs=2).fit(
            Net(), loader(), ckpt_path=str(path), weights_only=True
        )
    assert [p.name for p in elsewhere.iterdir()] == ["manifest.json"]
    assert record(tmp_path / "second").steps[-1] == 16


# CIFAR-10 for Python is published as pickles: this one file reads them, by a reader that finds no class but its own.
READS_PICKLES = ROOT / "experiments" / "pickled.py"
RUNS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def test_nothing_reads_what_could_run_code() -> None:
    """No pickle, no unsafe YAML, no `eval`; torch reads weights only."""
    files = [
        f for room in ("fnet_callbacks", "experiments", "benchmarks") for f in (ROOT / room).rglob("*.py")
    ]
    assert len(files) > 100
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import) and file != READS_PICKLES:
                assert not {name.name.partition(".")[0] for name in node.names} & RUNS_CODE, file
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in RUNS_CODE, file
            if isinstance(node, ast.Call):
                called, arguments = (
                    ast.unparse(node.func),
                    {k.arg: ast.unparse(k.value) for k in node.keywords},
                )
                assert called not in ("eval", "exec", "yaml.load", "yaml.full_load", "yaml.unsafe_load"), file
                assert called != "torch.load" or arguments.get("weights_only") == "True", file
                assert called != "np.load" or arguments.get("allow_pickle") == "False", file


def test_what_reads_pickles_uses_nothing_of_them_but_a_reader_with_its_own_way_to_find_classes() -> None:
    tree = ast.parse(READS_PICKLES.read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
    }
    assert used == {"Unpickler", "UnpicklingError"}
    readers = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.ClassDef) and "pickle.Unpickler" in map(ast.unparse, n.bases)
    ]
    assert len(readers) == 1
    assert "find_class" in {f.name for f in readers[0].body if isinstance(f, ast.FunctionDef)}
