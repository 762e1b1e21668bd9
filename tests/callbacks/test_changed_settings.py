"""A run that goes on with other settings: the record keeps both, says what changed, and compares nothing across."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from small_models import Net, functional_monitor, loader, mlp, monitor, network, record, robustness, trainer

from fnet_callbacks import (
    FnetWarning,
    FunctionalCodes,
    Instrument,
    Lesions,
    LocalSpecialization,
    Monitor,
    Record,
    ReLURegions,
)

# Lightning, on a checkpoint of another folder.
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")

COMPARED = ("partition_ami", "edge_turnover", "flexibility", "births")


def run(
    folder: Path,
    watching: Monitor,
    *,
    epochs: int = 1,
    resume: Path | None = None,
    model: Any = None,
    val: Any = None,
    **options: Any,
) -> Path:
    """Trains so many epochs on what never changes; the checkpoint of its end."""
    torch.manual_seed(0)
    saving = ModelCheckpoint(folder, filename="end", enable_version_counter=False)
    made = trainer(folder, watching, saving, max_epochs=epochs, **options)
    made.fit(model or Net(), loader(), val or loader(32, seed=5), ckpt_path=resume)
    return folder / "end.ckpt"


def standard(**options: Any) -> Monitor:
    return functional_monitor(4, **{"measures": "standard", **options})


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run of one epoch."""
    return run(tmp_path_factory.mktemp("first"), standard())


def went_on(
    folder: Path, first: Path, watching: Monitor, *, match: str | None = None, **options: Any
) -> Record:
    """The record of a second epoch; of a change that is told in words that ``match``, or not told of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")  # of Lightning's folders
        warnings.simplefilter("always", FnetWarning)
        run(folder, watching, epochs=2, resume=first, **options)
    told = [text for w in caught if "neurons are watched" not in (text := str(w.message))]
    assert len(told) == (match is not None), told
    if match is not None:
        assert match in told[0]
        assert "the run goes on from step 8 with other settings" in told[0]
    return record(folder)


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"layers": ["net.1"]}, "fnet: `layers` net.1 (16), net.3 (12) -> net.1 (16)"),
    ({"max_neurons": 10}, "`layers` net.1 (16), net.3 (12) -> net.1 (6), net.3 (4)"),
    ({"density": 0.2}, "`density` 0.3 -> 0.2"),
    ({"seed": 3}, "`seed` 0 -> 3"),
    ({"nulls": 3}, "`nulls` 2 -> 3"),
    ({"sign": "positive"}, "`sign` absolute -> positive"),
    ({"probe_seed": 4}, "`probe_seed` 0 -> 4"),
    ({"probe_size": 16}, "`probe` 32 inputs of validation data -> 16 inputs of validation data"),
    ({"signal": "pre"}, "`signal` post -> pre"),
    ({"source": "train", "probe_size": 32}, "`source` probe -> train"),
    ({"batch_to_inputs": "operator.itemgetter(0)"}, "`batch_to_inputs` None -> "),
]


@pytest.mark.parametrize(
    ("changed", "told"), CHANGES, ids=lambda value: str(value) if isinstance(value, dict) else ""
)
def test_a_change_is_told_kept_in_the_record_and_compared_across_by_nothing(
    tmp_path: Path, first: Path, changed: dict[str, Any], told: str
) -> None:
    options = dict(changed)
    if "batch_to_inputs" in options:
        options["batch_to_inputs"] = first_of_batch
    found = went_on(tmp_path, first, standard(**options), match=told)
    assert found.steps == [0, 4, 8, 12, 16]
    assert [span.begin for span in found.spans] == [0, 9]
    before, now = (span.instruments["fnet"] for span in found.spans)
    assert (len(before["layers"]), before["density"], before["seed"]) == (2, 0.3, 0)
    assert now == found.manifest["instruments"]["fnet"]
    assert found.breaks("fnet") == [9]
    assert (found.breaks("robust"), found.last_span("fnet")) == ([], [12, 16])
    for measure in COMPARED:
        series = found.series(f"fnet/{measure}")
        assert np.isfinite(series).tolist() == [False, True, True, False, True], measure
    notes = found.snapshots[3].notes
    assert notes["fnet/edge_turnover"] == "no snapshot before this one that was measured alike"
    names = [found.arrays(step)["fnet.community"] for step in found.steps]
    assert max(map(np.max, names[:3])) < min(map(np.min, names[3:]))  # no community is one of before
    assert np.isfinite(found.series("fnet_layers/01/edge_turnover")).tolist() == [
        False,
        True,
        True,
        False,
        True,
    ]


def first_of_batch(batch: Any) -> Any:
    return batch[0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"measures": "fast", "layer_measures": []},
        {"homology_backend": "gudhi"},
        {"max_neurons": 100},
        {"figures": "log"},
        {"probe_size": 2000},  # of 32 that there are
        {
            "worker": "process",
            "when_busy": "skip",
            "log": "auto",
            "measure_timeout_s": None,
            "overhead_budget": 1.0,
        },
    ],
    ids=str,
)
def test_what_changes_no_value_is_no_change(tmp_path: Path, first: Path, options: dict[str, Any]) -> None:
    found = went_on(tmp_path, first, standard(**options))
    assert [span.begin for span in found.spans] == [0]
    assert "spans" not in found.manifest
    assert (found.breaks("fnet"), found.last_span("fnet")) == ([], found.steps)
    assert np.isfinite(found.series("fnet/edge_turnover")).tolist() == [False, True, True, True, True]


def test_another_schedule_is_no_change(tmp_path: Path, first: Path) -> None:
    found = went_on(tmp_path, first, functional_monitor("log", measures="standard"))  # type: ignore[arg-type]
    assert found.steps == [0, 4, 8, 10, 13, 16]
    assert len(found.spans) == 1
    assert np.isfinite(found.series("fnet/edge_turnover")[1:]).all()


@pytest.mark.parametrize("is_other", [True, False])
def test_another_probe_is_told_by_what_is_in_it(tmp_path: Path, first: Path, is_other: bool) -> None:
    probe = loader(
        32, seed=6 if is_other else 5
    )  # of as many items, with the same labels at the same places or not
    match = "`probe` 32 inputs of validation data -> 32 inputs of the data of `probe`" if is_other else None
    found = went_on(tmp_path, first, standard(probe=probe), match=match)
    assert len(found.spans) == 1 + is_other


def test_another_set_of_validation_data_is_told_too(tmp_path: Path, first: Path) -> None:
    told = "`probe` 32 inputs of validation data -> 32 inputs of validation data, others"
    labels = loader(32, seed=5).dataset.tensors[1]  # type: ignore[attr-defined]
    other = torch.utils.data.TensorDataset(
        torch.rand(32, 8, generator=torch.Generator().manual_seed(1)), labels
    )
    found = went_on(
        tmp_path, first, standard(), match=told, val=torch.utils.data.DataLoader(other, batch_size=8)
    )
    assert found.manifest["probe"]["indices"] == found.spans[0].probe["indices"]


def test_a_run_may_change_more_than_once_and_an_earlier_checkpoint_knows_of_no_later_change(
    tmp_path: Path, first: Path
) -> None:
    went_on(tmp_path / "b", first, standard(density=0.2), match="`density` 0.3 -> 0.2")
    with pytest.warns(FnetWarning, match=r"from step 16 .*`density` 0\.2 -> 0\.4"):
        run(tmp_path / "c", standard(density=0.4), epochs=3, resume=tmp_path / "b" / "end.ckpt")
    found = record(tmp_path / "c")
    assert [(s.begin, s.instruments["fnet"]["density"]) for s in found.spans] == [
        (0, 0.3),
        (9, 0.2),
        (17, 0.4),
    ]
    assert found.breaks("fnet") == [9, 17]
    run(tmp_path / "d", standard(density=0.4), epochs=4, resume=tmp_path / "c" / "end.ckpt")  # nothing new
    assert [s.begin for s in record(tmp_path / "d").spans] == [0, 9, 17]
    back = went_on(tmp_path / "e", first, standard())
    assert [s.begin for s in back.spans] == [0]


def test_it_is_the_same_where_the_run_goes_on_in_its_own_folder(tmp_path: Path) -> None:
    def logged(**options: Any) -> Any:
        return {"logger": CSVLogger(tmp_path, version="one", **options)}

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Experiment logs directory")
        end = run(tmp_path, standard(), **logged())
        found = went_on(tmp_path, end, standard(density=0.2), match="`density`", **logged())
        assert [(s.begin, s.instruments["fnet"]["density"]) for s in found.spans] == [(0, 0.3), (9, 0.2)]
        shutil.rmtree(found.folder)
        with pytest.warns(FnetWarning, match="is not taken over|with other settings") as caught:
            run(tmp_path / "on", standard(density=0.1), epochs=3, resume=tmp_path / "end.ckpt")
    told = [str(warning.message) for warning in caught]
    assert [part in " ".join(told) for part in ("is not taken over", "`density` 0.2 -> 0.1")] == [True, True]


def test_where_a_checkpoint_says_nothing_of_settings_its_record_does(tmp_path: Path) -> None:
    end = run(tmp_path / "a", standard())
    held = torch.load(end, weights_only=True)
    held["callbacks"]["fnet_callbacks"]["measured"] = None
    torch.save(held, end)
    found = went_on(tmp_path / "b", end, standard(density=0.2), match="`density` 0.3 -> 0.2")
    assert [s.begin for s in found.spans] == [0, 9]


def test_a_trainer_that_fits_on_with_other_settings_is_a_run_that_goes_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before, now, model = standard(), standard(density=0.2), Net()
    made = trainer(tmp_path, before, logger=CSVLogger(tmp_path, version="one"))
    made.fit(model, loader(), loader(32))
    now.load_state_dict(before.state_dict())
    callbacks: list[Any] = made.callbacks  # type: ignore[attr-defined]
    callbacks[callbacks.index(before)] = now
    made.fit_loop.max_epochs = 2
    with pytest.warns(FnetWarning, match=r"from step 8 with other settings.*`density` 0\.3 -> 0\.2"):
        made.fit(model, loader(), loader(32))
    found = record(tmp_path)
    assert (found.steps, found.breaks("fnet")) == ([0, 4, 8, 12, 16], [9])


OTHERS: dict[str, tuple[Callable[..., Instrument], dict[str, Any], str, str | None]] = {
    "robust": (lambda **o: robustness(4, **o), {"steps": 3}, "robust: `steps` 2 -> 3", None),
    "lesion": (
        lambda **o: Lesions(every_n_steps=4, points=3, **{"density": 0.3, **o}), {"density": 0.2},
        "lesion: `density`", None,
    ),
    "codes": (
        lambda **o: FunctionalCodes(every_n_steps=4, **{"grid": (3, 3), **o}),
        {"maxima": True}, "codes: `maxima` False -> True", "codes/01/map_change",
    ),
    "regions": (
        lambda **o: ReLURegions(every_n_steps=4, **{"lines": 2, **o}), {"lines": 3}, "regions: `lines` 2 -> 3",
        "regions/unchanged_share",
    ),
    "specialization": (
        lambda **o: LocalSpecialization(every_n_steps=4, references=2, shuffles=0, **{"k": 3, **o}),
        {"k": 2}, "specialization: `k` 3 -> 2", "specialization/partition_ami",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_instruments_compare_nothing_across_either_and_those_that_stay_go_on(
    tmp_path: Path, name: str
) -> None:
    make, changed, told, compared = OTHERS[name]
    fast = network(measures="fast")
    end = run(tmp_path / "a", monitor(4, fast, make()))
    found = went_on(tmp_path / "b", end, monitor(4, fast, make(**changed)), match=told)
    assert [span.begin for span in found.spans] == [0, 9]
    assert (found.breaks(name), found.breaks("fnet")) == ([9], [])
    assert np.isfinite(found.series("fnet/edge_turnover")[1:]).all()
    if compared is not None:
        assert np.isfinite(found.series(compared)).tolist() == [False, True, True, False, True]


def test_an_instrument_that_is_new_or_gone_changes_nothing_of_the_others(tmp_path: Path, first: Path) -> None:
    found = went_on(tmp_path, first, monitor(4, network(measures="standard"), robustness(4)))
    assert len(found.spans) == 1
    assert np.isfinite(found.series("fnet/edge_turnover")[1:]).all()
    assert np.isnan(found.series("robust/clean_accuracy")).tolist() == [True, True, False, False, False]


def test_a_model_of_other_widths_is_a_change_too(tmp_path: Path) -> None:
    end = run(tmp_path / "a", standard())
    held = torch.load(end, weights_only=True)
    wide = Net(mlp(16, 13))
    held["state_dict"] = wide.state_dict()
    held["optimizer_states"] = [torch.optim.Adam(wide.parameters(), lr=1e-2).state_dict()]
    torch.save(held, end)
    told = "`layers` net.1 (16), net.3 (12) -> net.1 (16), net.3 (13)"
    found = went_on(tmp_path / "b", end, standard(), match=told, model=wide)
    assert found.series("fnet/n_neurons").tolist()[:3] != found.series("fnet/n_neurons").tolist()[3:]
