"""`import stepstream as wandb` keeps a script's logging code."""
# ruff: noqa: PT031 - the warnings of several calls are counted

import warnings

import numpy as np
import pytest
import stepstream as wandb


def test_a_wandb_script_runs_as_it_is(home):
    """A script with wandb's init, config, log, summary and finish runs without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = wandb.init(
            project="p", entity="e", id="abc", name="n", config={"lr": 1}, tags=["a"], mode="online"
        )
        wandb.config.update({"batch": 32})
        wandb.config.layers = 2
        assert (wandb.config.lr, wandb.config["batch"], run.config.layers) == (1, 32, 2)
        wandb.log({"loss": 0.5, "nested": {"a": 1}})
        wandb.log({"loss": 0.4}, step=10)
        wandb.log({"first": 1}, commit=False)
        wandb.log({"second": 2})
        wandb.run.summary["best"] = 0.4
        assert (wandb.run.id, wandb.run.name, wandb.run.tags) == ("abc", "n", ["a"])
        wandb.finish(exit_code=1)
    assert home.lines("run_started")[-1]["config"] == {"lr": 1, "batch": 32, "layers": 2}
    first, second, third = home.lines("metrics")
    assert (first["step"], first["loss"], first["nested/a"]) == (0, 0.5, 1)
    assert (second["step"], third["step"]) == (10, 11)
    assert (third["first"], third["second"]) == (1, 2)
    (ended,) = home.lines("run_completed")
    assert (ended["status"], ended["summary"]) == ("failed", {"best": 0.4})


def test_what_is_missing_is_named_once_and_does_nothing(home):
    """Each function of wandb that is missing here warns once, does nothing and raises nothing."""
    with pytest.warns(wandb.StepstreamWarning, match="watch") as caught:
        wandb.watch(object())
        wandb.watch(object(), log="all")
        artifact = wandb.Artifact("model", type="model")
        artifact.add_file("x")
        wandb.log_artifact(artifact)
        with wandb.anything() as thing:
            thing.more["x"] = 1
        wandb.init().log_code(".")
        wandb.finish()
    assert len(caught) == 5
    assert not wandb.plot.line(1, 2)


def test_an_argument_that_does_nothing_here_is_named(home):
    """An argument without effect is named in a warning, and the run begins all the same."""
    with pytest.warns(wandb.StepstreamWarning, match="monitor_gym"):
        wandb.init(monitor_gym=True).finish()


def test_tensorboard_that_is_imported_later_is_not_followed_and_said(home):
    """sync_tensorboard warns that a TensorBoard imported after init is not followed."""
    with pytest.warns(wandb.StepstreamWarning, match="imported after init"):
        wandb.init(sync_tensorboard=True).finish()


@pytest.mark.parametrize(
    "made",
    [
        {"sequence": np.array([1.0, 2.0, 6.0])},
        {"sequence": [1, (2, [6])]},
        {"np_histogram": ([1, 1, 1], [0.5, 1.5, 2.5, 9.5])},
    ],
    ids=["array", "lists", "bins"],
)
def test_a_histogram_is_its_numbers(home, run, made):
    """A histogram is logged as least, greatest, mean, standard deviation and count below its name."""
    run.log({"weights": wandb.Histogram(**made), "loss": 0.5}, step=3)
    run.finish()
    (line,) = home.lines("metrics")
    least, greatest = (0.5, 9.5) if "np_histogram" in made else (1.0, 6.0)
    assert (line["weights/min"], line["weights/max"], line["weights/count"]) == (least, greatest, 3)
    assert (line["weights/mean"], line["weights/std"]) == pytest.approx((3.0, np.std([1, 2, 6])))
    assert (line["loss"], line["step"]) == (0.5, 3)


@pytest.mark.parametrize("odd", [[], None, "text", [object()]])
def test_what_is_no_distribution_costs_one_warning(home, run, odd):
    """A value that is no distribution gives one warning, and the numbers beside it arrive."""
    with pytest.warns(wandb.StepstreamWarning, match="histogram"):
        run.log({"weights": wandb.Histogram(odd), "loss": 0.5})
    run.finish()
    assert home.lines("metrics")[0]["loss"] == 0.5


def test_a_table_in_a_log_does_not_lose_the_rest(home, run):
    """A table in a log call cannot be logged, but the numbers beside it arrive."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.log({"loss": 1.0, "table": wandb.Table(columns=["a"])})
        run.finish()
    assert home.lines("metrics")[0]["loss"] == 1.0


def test_init_twice_in_a_notebook_ends_the_first_run(home, monkeypatch):
    """A second init in a notebook ends the first run, so that a cell can run again."""
    import sys

    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    wandb.init(run_id="a")
    wandb.init(run_id="b").finish()
    assert [line["run_id"] for line in home.lines("run_completed")] == ["a", "b"]


def test_define_metric_names_the_step_of_metrics(home):
    """define_metric names a metric's step by name or prefix; a call without that step takes its last one."""
    run = wandb.init(run_id="r")
    wandb.define_metric("train/step")
    wandb.define_metric("train/*", step_metric="train/step")
    run.define_metric("val/acc", step_metric="epoch", summary="max")
    run.log({"train/step": 500, "train/loss": 0.5, "fps": 60})
    run.log({"epoch": 2, "val/acc": 0.9, "train/loss": 0.4})
    run.log({"val/acc": 0.8}, step=99)
    run.log({"epoch": 2.5, "other": 1}, step=7)
    run.finish()
    lines = [
        (line["step"], {name: line[name] for name in line if name not in ("type", "run_id", "ts", "step")})
        for line in home.lines("metrics")
    ]
    assert lines == [
        (500, {"train/step": 500, "train/loss": 0.5}),
        (0, {"fps": 60}),
        (2, {"epoch": 2, "val/acc": 0.9}),
        (500, {"train/loss": 0.4}),
        (2, {"val/acc": 0.8}),
        (2, {"epoch": 2.5}),
        (7, {"other": 1}),
    ]


def test_a_table_is_named_as_missing_and_is_no_picture(home):
    """A table is named as missing and not logged; the numbers beside it are."""
    run = wandb.init(run_id="r")
    with pytest.warns(wandb.StepstreamWarning, match="no stepstream.Table"):
        table = wandb.Table(columns=["a"], data=[[1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.log({"table": table})
        run.log({"table": table, "loss": 0.5})
    run.finish()
    (line,) = home.lines("metrics")
    assert line["loss"] == 0.5
    assert "table" not in line
    assert not home.lines("frame", "sdk_warning")[1:]
