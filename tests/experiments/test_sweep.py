"""A sweep: its file, its folders, what is refused before anything runs."""

import re

import pytest
import yaml
from small_sweeps import ROOT, file

import experiments.sweep
import experiments.trials
from experiments.data import DataModule
from experiments.models import Classifier
from experiments.sweep import main, option, parsed, run_study, study_parser
from experiments.train import TrainCLI
from experiments.trials import at_work_elsewhere, prepare, read_sweep, state_of, write_state
from fnet_callbacks import FnetError

# jsonargparse, of Lightning's use of it.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


@pytest.fixture(autouse=True)
def no_command_line(monkeypatch):
    """LightningCLI warns where it is given arguments beside those of the process."""
    monkeypatch.setattr("sys.argv", ["train"])


def test_the_grid_has_its_last_axis_fastest_and_names_say_what_differs(tmp_path):
    trials = read_sweep(file(tmp_path, **{"model.regularizer": ["none", "l1"], "seed_everything": [0, 1]}))
    assert [t.name.rpartition("-")[0] for t in trials] == [
        f"regularizer={r}-seed_everything={s}" for r in ("none", "l1") for s in (0, 1)
    ]
    assert trials[3].settings["model"]["regularizer"] == "l1"
    assert trials[3].settings["seed_everything"] == 1
    assert trials[0].settings["model"]["hidden"] == [16, 16]
    (monitor,) = trials[0].settings["trainer"]["callbacks"]
    assert monitor["init_args"]["instruments"][1]["init_args"]["every_n_steps"] == 2
    assert trials[0].threads == 1


def test_a_trial_is_known_by_its_settings_whatever_else_is_in_the_grid(tmp_path):
    def digests(**axes):
        return [t.name.rpartition("-")[2] for t in read_sweep(file(tmp_path, **axes))]

    alone = digests(**{"model.regularizer": "l1", "seed_everything": 1})
    assert set(alone) < set(digests(**{"model.regularizer": ["none", "l1"], "seed_everything": [0, 1]}))
    assert alone != digests(**{"model.regularizer": "l1", "seed_everything": 1, "threads": 2})
    assert len(set(digests(seed_everything=[0, 1]))) == 2


def test_options_replace_what_the_file_says(tmp_path):
    path = file(tmp_path, **{"model.regularizer": ["none", "l1"]})
    (trial,) = read_sweep(path, {"model.regularizer": "dropout", "model.lr": 0.1})
    assert (trial.settings["model"]["regularizer"], trial.settings["model"]["lr"]) == ("dropout", 0.1)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"seed_everything": []}, "`seed_everything` has no value; the grid is empty"),
        ({"seed_everything": [1, 1]}, "seed_everything=1 comes twice"),
        ({"config": None}, "`config` should be the path of a configuration"),
        ({"config": "nowhere.yaml"}, "nowhere.yaml cannot be read"),
        ({"threads": 0}, "`threads=0` should be an integer of at least 1"),
        ({"threads": True}, "`threads=True` should be"),
        ({"trainer.callbacks.7.init_args.name": "x"}, "`trainer.callbacks.7.init_args.name`: the configuration has"),
        ({"trainer.accelerator.more": 1}, "has no place 'more' for it"),
        ({"trainer.max_epochs.more": 1}, "`trainer.max_epochs` and `trainer.max_epochs.more` both say"),
        ({"model": {"regularizer": "l1"}}, r"`model` and `model\.hidden` both say what the second is"),
        ({"trainer.callbacks.00.init_args.folder": "x", "trainer.callbacks.0": {}}, r"`trainer\.callbacks\.0` and"),
        ({"trainer.callbacks.00.init_args.figures": 1}, r"`trainer\.callbacks\.0\.init_args\.figures` is said twice"),
        ({"model.lr": ["1e-3", 0.001]}, "lr=0.001 comes twice"),
        ({"model.lr": [0.1, 1, 1.0]}, "lr=1.0 comes twice"),
        ({"model.lr": ["0.1", 0.10]}, "lr=0.1 comes twice"),
        ({"data.train_size": [128, "128"]}, "train_size=128 comes twice"),
        ({"data.seed": [None, "null"]}, "seed=null comes twice, as seed=None too"),
        ({"model.hidden": [[16, 16], "[16, 16]"]}, "comes twice"),
        ({"trainer.logger": False}, "`trainer.logger` would have no effect: `--logger` says"),
        ({"trainer.logger.init_args.name": "x"}, "would have no effect"),
        ({"trainer.default_root_dir": "x"}, "would have no effect: a trial's folder is in that of `--out`"),
        ({"data.data_dir": ["a", "b"]}, "should be one folder"),
        ({"data.data_dir": 3}, "should be one folder"),
        ({"data.data_dir": "a", "data_dir": "a"}, "`data.data_dir` is said twice"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused(tmp_path, axes, message):
    with pytest.raises(FnetError, match=message):
        read_sweep(file(tmp_path, **axes))


@pytest.mark.parametrize(
    "text",
    ["seed_everything: [0, 1]\nseed_everything: 2", "a: {lr: 1}\nx: 1\na: {lr: 2}", "x: {a: 1, b: 2, a: 1}"],
)
@pytest.mark.parametrize("place", ["sweep.yaml", "base.yaml"])
def test_a_key_that_stands_twice_drops_nothing_without_a_word(tmp_path, text, place):
    texts = {"base.yaml": "model: {}", "sweep.yaml": "config: base.yaml"}
    for name, own in texts.items():
        (tmp_path / name).write_text(f"{own}\n" + text * (name == place))
    with pytest.raises(FnetError, match=rf"{place}: `\w+` stands twice, the second time in line"):
        read_sweep(tmp_path / "sweep.yaml")


def test_what_is_merged_in_may_be_said_anew(tmp_path):
    (tmp_path / "base.yaml").write_text("x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}")
    (tmp_path / "sweep.yaml").write_text("config: base.yaml\nseed_everything: 0")
    (trial,) = read_sweep(tmp_path / "sweep.yaml")
    assert trial.settings["y"] == {"a": 3, "b": 2}


def test_a_number_is_one_however_it_is_written(tmp_path):
    def told(text):
        (tmp_path / "base.yaml").write_text("model: {lr: 0.5}")
        (tmp_path / "sweep.yaml").write_text(f"config: base.yaml\nmodel.lr: {text}")
        (trial,) = read_sweep(tmp_path / "sweep.yaml")
        return trial.settings["model"]["lr"], trial.name

    assert told("1e-3") == told("0.001") == told("1.0e-3")
    assert told("1E-3")[0] == 0.001
    assert (told("'1e-3'")[0], told("e3")[0], told("1e")[0]) == ("1e-3", "e3", "1e")
    assert option("model.lr=1e-3") == ("model.lr", 0.001)


def test_an_option_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(
        FnetError, match=r"`model\.lr` stands twice on the command line.*`model\.lr=\[\.\.\.\]`"
    ):
        main([str(file(tmp_path)), "model.lr=0.1", "seed_everything=1", "model.lr=0.2"])
    with pytest.raises(FnetError, match=r"`--data-dir` and `data\.data_dir` say the same"):
        main([str(file(tmp_path)), "--data-dir", "a", "data.data_dir=b"])


def test_what_was_asked_of_a_study_replaces_its_own_options(tmp_path, monkeypatch):
    passed_on = []
    monkeypatch.setattr(experiments.sweep, "main", lambda arguments: passed_on.append(arguments) or 0)
    monkeypatch.setattr(
        experiments.sweep, "finished", lambda trials, out: [t.settings["model"]["lr"] for t in trials]
    )
    asked = study_parser(None, tmp_path).parse_args(["model.lr=0.5"])
    own = ["model.lr=0.1", "model.regularizer=l1"]
    assert run_study(file(tmp_path), tmp_path, asked, own) == (0, [0.5])
    assert passed_on[0][-2:] == ["model.regularizer=l1", "model.lr=0.5"]


@pytest.mark.parametrize("name", ["data.data_dir", "data_dir"])
def test_the_folder_of_the_data_is_taken_and_no_part_of_what_a_trial_is(tmp_path, monkeypatch, name):
    (plain,) = read_sweep(file(tmp_path))
    monkeypatch.chdir(tmp_path)
    for folder in (name, "elsewhere", str(tmp_path)):
        (trial,) = read_sweep(file(tmp_path, **{name: folder}))
        assert trial.settings["data"]["data_dir"] == str(tmp_path / folder)
        assert "data_dir" not in trial.settings
        assert trial.name == plain.name


@pytest.mark.parametrize("said", ["--data-dir", "--data.data_dir", "data", "top"])
def test_a_trial_looks_for_its_data_where_it_was_told(tmp_path, said):
    config = yaml.safe_load((ROOT / "experiments" / "configs" / "digits_mlp.yaml").read_text())
    config["trainer"] |= {"callbacks": [], "logger": False}
    if said == "data":
        config["data"]["data_dir"] = str(tmp_path)
    if said == "top":
        config["data_dir"] = str(tmp_path)
    more = [said, str(tmp_path)] if said.startswith("--") else []
    cli = TrainCLI(Classifier, DataModule, args=["--config", yaml.safe_dump(config), *more], run=False)
    assert cli.datamodule.data_dir == str(tmp_path)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"model.num_classes": 3}, "`model.num_classes` would have no effect"),
        ({"model.input_shape": [[1, 8, 8]]}, "`model.input_shape` would have no effect"),
        ({"model.lr": [0.1, "much"]}, r"the options of the trial lr=much-\w+: .*model\.lr"),
        (
            {"data.seed": [1, 2], "model.hidden": [[[4]], [4, "x"]]},
            r"the options of the trial .*model\.hidden",
        ),
    ],
)
def test_what_would_be_ignored_or_fail_is_told_before_anything_runs(tmp_path, axes, message):
    with pytest.raises(FnetError, match=re.compile(message, re.DOTALL)):
        main([str(file(tmp_path, **axes)), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "1: 2\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(FnetError, match=r"sweep\.yaml"):
        read_sweep(tmp_path / "sweep.yaml")


def test_what_finished_is_kept_and_the_rest_moved_aside(tmp_path):
    trials = read_sweep(file(tmp_path, seed_everything=[0, 1, 2, 3]))
    out = tmp_path / "out"
    folders = prepare(trials, out)
    for folder, state in zip(folders, ("finished", "failed", "stopped"), strict=False):
        write_state(folder, state)
    assert prepare(trials, out) == [folders[1], folders[3]]
    assert prepare(trials, out) == [folders[1], folders[3]]
    assert len(list((out / "superseded").iterdir())) == 4
    assert not state_of(folders[1])


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(FnetError, match="`out`: a trial's folder cannot be written"):
        prepare(read_sweep(file(tmp_path)), tmp_path / "out")


def test_an_unknown_option_is_told_before_anything_runs(tmp_path):
    with pytest.raises(FnetError, match="regulariser"):
        main([str(file(tmp_path, **{"model.regulariser": "l1"})), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_file_for_wandb_names_trials_of_the_sweep():
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    asked = yaml.safe_load((ROOT / "experiments" / "wandb_sweep.yaml").read_text())
    sweep_file = ROOT / "experiments" / "sweeps" / "digits.yaml"
    known = {trial.name.rpartition("-")[2] for trial in read_sweep(sweep_file)}
    command = asked["command"]
    assert command[2:5] == ["-m", "experiments.sweep", "experiments/sweeps/digits.yaml"]
    found = set()
    for regularizer in asked["parameters"]["model.regularizer"]["values"]:
        for seed in asked["parameters"]["seed_everything"]["values"]:
            given = {"model.regularizer": {"value": regularizer}, "seed_everything": {"value": seed}}
            options = utils.create_sweep_command_args({"args": given})["args_no_hyphens"]
            arguments = parsed([*command[4:-1], *options])
            assert (arguments.logger, arguments.workers) == ("wandb", 1)
            (trial,) = read_sweep(arguments.sweep, dict(map(option, arguments.options)))
            found.add(trial.name.rpartition("-")[2])
    assert found == known


def test_a_finished_trial_is_known_whatever_else_is_in_the_grid(tmp_path):
    out = tmp_path / "out"
    grid = read_sweep(file(tmp_path, **{"model.regularizer": ["none", "l1"], "seed_everything": [0, 1]}))
    (folder, *_) = prepare(grid, out)
    write_state(folder, "finished")
    (alone,) = read_sweep(file(tmp_path, **{"model.regularizer": "none", "seed_everything": 0}))
    assert alone.folder(out) == folder != out / alone.name
    assert alone.is_done(out)
    assert prepare([alone], out) == []


def test_a_trial_whose_process_does_not_end_is_left_to_it(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    trials = read_sweep(file(tmp_path))
    (folder,) = prepare(trials, tmp_path / "out")
    with (folder / "running.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(experiments.trials, "_SECONDS_TO_END", 0.0)
        assert prepare(trials, tmp_path / "out") == []
        ((name, who),) = at_work_elsewhere(trials, tmp_path / "out").items()
        assert (name, folder.exists()) == (trials[0].name, True)
        assert "is being run by another sweep" in who
    assert prepare(trials, tmp_path / "out") == [folder]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stop-early", "val_accuracy"], "`ray_address` and `stop_early` go with `engine='ray'`"),
        (["--ray-address", "host:1"], "go with `engine='ray'`"),
        (["trainer.max_epochs"], "`trainer.max_epochs` should be name=value"),
        (["a=[1,"], r"`a=\[1,`: the value cannot be read as YAML"),
    ],
)
def test_a_command_line_that_is_wrong_is_refused(tmp_path, arguments, message):
    with pytest.raises(FnetError, match=message):
        main([str(file(tmp_path)), *arguments])
