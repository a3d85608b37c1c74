"""The table of runs: seeds in a line, means and deviations, what is unfinished, damaged or of another version."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.tables import unpadded

from resnet_keras.cli import runs as program
from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import PART_OF, Recipe
from resnet_keras.runs.folder import RunFolder
from resnet_keras.runs.saved_run import find_runs, nearest, read_run
from resnet_keras.runs.summary import RunSummary, summarize_runs

BASE = RECIPES["cifar10"].replace(epochs=3)


def finish_again(path: Path) -> None:
    """Writes the hashes of the files of a finished run, after a change of one."""
    result = RunFolder(path).evaluation()
    assert result is not None
    RunFolder(path).finish(result)


def write_run(
    path: Path, recipe: Recipe = BASE, error: float | None = 0.25, done: int | None = None, **data: Any
) -> Path:
    """Writes the files of a run after `done` epochs, of 10, 20, 30 ... seconds, at 1000, 1100, 1200 ... images/s."""
    folder = RunFolder(path)
    folder.begin(recipe, {"data_dir": None, "replicas": 1, **data})
    epochs = range(recipe.schedule.epochs if done is None else done)
    folder.write_history(
        [
            {
                "epoch": i + 1,
                "val_accuracy": 0.5 + i / 10,
                "images_per_second": 1000.0 + 100 * i,
                "seconds": 10.0 * (i + 1),
            }
            for i in epochs
        ]
    )
    if error is not None:
        folder.model.write_bytes(b"")
        folder.finish(Evaluation(images=10_000, top1_error=error, top5_error=0.01, loss=1.5))
    return path


def with_fields(path: Path, **changes: Any) -> Path:
    """Changes fields of a run's recipe.json, as another version of the package would have it; `None` takes one out."""
    content = json.loads((path / "recipe.json").read_text())
    for name, value in changes.items():
        part = content[PART_OF.get(name) or "schedule"]
        part[name] = value
        if value is None:
            del part[name]
    (path / "recipe.json").write_text(json.dumps(content))
    return path


def lines(table: RunSummary) -> list[str]:
    """The lines of all Markdown tables, without heads."""
    found = [line for line in unpadded(table).splitlines() if line.startswith("| ")]
    return [line for line in found if not line.startswith(("| recipe |", "| unfinished run |", "| --- |"))]


def test_seeds_of_a_recipe_are_one_line_of_means_and_sample_deviations(tmp_path: Path) -> None:
    for seed, error in enumerate((0.08, 0.09, 0.13)):
        write_run(tmp_path / f"r{seed}", BASE.replace(seed=seed), error)
    table = summarize_runs([tmp_path])
    # Mean 10 %; deviations -2, -1 and 3 points: the root of 14 / 2 is 2.6458. 10 + 20 + 30 s; median of 1000 to 1200.
    assert lines(table) == [
        "| cifar10 resnet20, epochs=3 | 3 | 3 of 164 | 10.00 ± 2.65 | – | 10,000 | 0:01:00 | 1,100 |"
    ]
    (row,) = table.as_dict()["recipes"]
    assert row["seeds"] == [0, 1, 2]
    assert row["top1_error_mean"] == pytest.approx(0.1)
    assert row["top1_error_sd"] == pytest.approx(0.0264575, abs=1e-7)
    assert row["seconds"] == 60
    assert "validation" in str(table)
    assert "n - 1" in str(table)


def test_epochs_that_are_validated_on_other_images_give_no_test_error(tmp_path: Path) -> None:
    mirrored = BASE.replace(test_flip=True)
    for name, error in (("finished", 0.25), ("half", None)):
        run = write_run(tmp_path / name, mirrored, error)
        assert read_run(run).validated_on == "test"
        if error is not None:
            assert read_run(run).measures == {"top1_error": pytest.approx(0.3), "mirrored_top1_error": 0.25}
        (run / "data.json").write_text('{"train": {}, "test": {}, "validation": {}}')
    assert read_run(tmp_path / "finished").measures == {"top1_error": None, "mirrored_top1_error": 0.25}
    name = "cifar10 resnet20, epochs=3, test_flip=True"
    assert lines(summarize_runs([tmp_path])) == [
        f"| {name} | 1 | 3 of 164 | – | 25.00 | 10,000 | 0:01:00 | 1,100 |",
        f"| {tmp_path / 'half'} | {name} | 0 | epoch 3 of 3 | validation 30.00 |",
    ]
    (tmp_path / "half" / "data.json").write_text("[")  # damaged
    assert read_run(tmp_path / "half").validated_on == "test"


def test_one_seed_has_a_mean_alone(tmp_path: Path) -> None:
    write_run(tmp_path / "run", RECIPES["cifar10"].replace(seed=4), 0.08755)
    table = summarize_runs([tmp_path])
    assert lines(table)[0].startswith("| cifar10 resnet20 | 1 | 164 | 8.76 | – | 10,000 | ")
    assert table.as_dict()["recipes"][0]["top1_error_sd"] is None


def test_time_is_the_mean_over_runs_and_speed_the_median_over_all_epochs(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    other = RunFolder(write_run(tmp_path / "b", BASE.replace(seed=1)))
    other.write_history([{"epoch": i, "seconds": 1200.5, "images_per_second": 5000.0 + i} for i in (1, 2, 3)])
    finish_again(other.path)
    # Means of 60 and 3601.5 s; of 1000, 1100, 1200, 5001, 5002, 5003 the median is 3100.5.
    assert lines(summarize_runs([tmp_path]))[0].endswith("| 0:30:31 | 3,100 |")


def test_lines_go_in_the_order_of_the_recipes_and_tell_what_differs(tmp_path: Path) -> None:
    write_run(tmp_path / "a", RECIPES["cifar10"].replace(model="resnet56", epochs=3))
    write_run(tmp_path / "b", BASE.replace(dataset="cifar100", lr_drops=(0.5,)))
    write_run(tmp_path / "c", BASE.replace(weights="/somewhere/deep|er/r20.pth"))
    write_run(tmp_path / "d", RECIPES["digits"].replace(epochs=3))
    names = [line.split(" | ")[0] for line in lines(summarize_runs([tmp_path]))]
    assert names == [
        "| digits resnet20, epochs=3",
        "| cifar10 resnet20, dataset=cifar100, epochs=3, lr_drops=(0.5,)",
        "| cifar10 resnet20, weights=r20.pth, epochs=3",
        "| cifar10 resnet56, epochs=3",
    ]


def test_every_recipe_is_nearest_to_itself_whatever_the_seed() -> None:
    for name, recipe in RECIPES.items():
        assert nearest(recipe.replace(seed=11)) == (name, {})


def test_the_network_does_not_count_among_the_differences() -> None:
    changed = RECIPES["cifar10"].replace(model="resnet110", warmup_steps=0)
    assert nearest(changed) == ("cifar10", {"warmup_steps": 0})


def test_unfinished_runs_are_listed_with_what_they_have(tmp_path: Path) -> None:
    write_run(tmp_path / "begun", error=None, done=0)
    write_run(tmp_path / "half", BASE.replace(seed=1), error=None, done=2)
    write_run(tmp_path / "lost", BASE.replace(seed=2)).joinpath("model.keras").unlink()
    table = summarize_runs([tmp_path])
    name = "cifar10 resnet20, epochs=3"
    assert lines(table) == [
        f"| {tmp_path / 'begun'} | {name} | 0 | epoch 0 of 3 | – |",
        f"| {tmp_path / 'half'} | {name} | 1 | epoch 2 of 3 | 40.00 |",
        f"| {tmp_path / 'lost'} | {name} | 2 | epoch 3 of 3, model.keras is lost | 30.00 |",
    ]
    assert not table.rows
    assert [run["epochs_done"] for run in table.as_dict()["unfinished"]] == [0, 2, 3]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("recipe.json", '{"network": {"model": "resnet20", ', "recipe.json as a run writes it. Received: Expecting"),
        ("recipe.json", "[1, 2]", "recipe.json"),
        ("recipe.json", '{"data": {"dataset": "cifar10"}}', "'model'"),
        (
            "recipe.json",
            '{"network": {"model": "resnet20"}, "data": {"dataset": "cifar10"}, "schedule": {"epochs": 0}}',
            "`epochs`",
        ),
        (
            "recipe.json",
            '{"network": {"model": "resnet20"}, "data": {"dataset": "cifar10"}, "schedule": {"epochs": "3"}}',
            "`epochs` to be an integer. Received: '3'",
        ),
        ("recipe.json", '{"model": "resnet20", "dataset": "cifar10"}', "'model' of a recipe in the part 'network'"),
        ("recipe.json", '{"network": "resnet20"}', "the part 'network' of a recipe to be an object"),
        ("run.json", "[1]", "run.json"),
        ("evaluation.json", '{"images": 10}', "evaluation.json"),
        ("evaluation.json", '{"images": 9, "top1_error": NaN, "top5_error": 0, "loss": 1}', "top-1 error of nan"),
        ("history.csv", "epoch,seconds\n1,3\n2", "history.csv"),
        ("history.csv", "epoch,seconds\n1,soon\n", "'soon'"),
    ],
)
def test_a_damaged_run_is_named_with_the_reason_and_the_others_stay(
    tmp_path: Path, file: str, content: str, said: str
) -> None:
    write_run(tmp_path / "a")
    (write_run(tmp_path / "b", BASE.replace(seed=1), 0.5) / file).write_text(content)
    table = summarize_runs([tmp_path])
    assert lines(table)[0].startswith("| cifar10 resnet20, epochs=3 | 1 | 3 of 164 | 25.00 |")
    assert list(table.damaged) == [tmp_path / "b"]
    assert table.damaged[tmp_path / "b"].startswith(f"Expected {file} as a run writes it. Received: ")
    assert said in table.damaged[tmp_path / "b"]
    assert f"- {tmp_path / 'b'}: Expected" in str(table)


def test_a_run_of_an_older_version_has_the_defaults_of_newer_fields(tmp_path: Path) -> None:
    write_run(tmp_path / "new")
    old = write_run(tmp_path / "old", BASE.replace(seed=1), 0.35)
    with_fields(old, batch_norm=None, loss=None, stochastic_depth=None)
    assert "loss" not in json.loads((old / "recipe.json").read_text())["optimization"]
    (old / "run.json").unlink()
    assert lines(summarize_runs([tmp_path]))[0].startswith(
        "| cifar10 resnet20, epochs=3 | 2 | 3 of 164 | 30.00 ± 7.07 |"
    )


def test_a_field_of_another_version_is_named_and_sets_its_run_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    with_fields(write_run(tmp_path / "b", BASE.replace(seed=1)), lookahead=5)
    assert [line.split(" | ")[0] for line in lines(summarize_runs([tmp_path]))] == [
        "| cifar10 resnet20, epochs=3",
        "| cifar10 resnet20, epochs=3, lookahead (unknown)=5",
    ]
    assert read_run(tmp_path / "b").unknown == {"lookahead": 5}


def test_a_folder_of_images_is_its_place_and_a_tfds_set_is_not(tmp_path: Path) -> None:
    tuned = RECIPES["finetune"].replace(epochs=3)
    for seed, place in enumerate(("/data/flowers", "/data/birds")):
        write_run(tmp_path / f"f{seed}", tuned.replace(seed=seed), data_dir=place)
        write_run(tmp_path / f"c{seed}", BASE.replace(seed=seed), data_dir=place)
    assert [line.split(" | ")[:2] for line in lines(summarize_runs([tmp_path]))] == [
        ["| finetune resnet18, epochs=3, data_dir=birds", "1"],
        ["| finetune resnet18, epochs=3, data_dir=flowers", "1"],
        ["| cifar10 resnet20, epochs=3", "2"],
    ]


def test_a_second_run_of_a_seed_is_left_out_with_a_warning(tmp_path: Path) -> None:
    write_run(tmp_path / "a", error=0.2)
    write_run(tmp_path / "copy", error=0.4)
    write_run(tmp_path / "other", BASE.replace(seed=1), 0.3)
    table = summarize_runs([tmp_path])
    assert "| 2 | 3 of 164 | 25.00 ± 7.07 |" in lines(table)[0]
    (warning,) = table.warnings
    assert f"seed 0 is in {tmp_path / 'a'} and in {tmp_path / 'copy'}, which is ignored" in warning
    assert warning in str(table)


def test_other_numbers_of_test_images_are_shown_and_warned_of(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    other = RunFolder(write_run(tmp_path / "b", BASE.replace(seed=1)))
    other.finish(Evaluation(images=500, top1_error=0.3, top5_error=None, loss=1.0))
    table = summarize_runs([tmp_path])
    assert "| 500 or 10,000 |" in lines(table)[0]
    assert "not all runs were tested on the same number of images" in table.warnings[0]


def test_a_history_that_lacks_epochs_or_columns_has_no_time(tmp_path: Path) -> None:
    (write_run(tmp_path / "a") / "history.csv").write_text("epoch,seconds\n1,5\n2,5\n")
    finish_again(tmp_path / "a")
    assert lines(summarize_runs([tmp_path]))[0].endswith("| 10,000 | – | – |")
    (tmp_path / "a" / "history.csv").unlink()
    assert lines(summarize_runs([tmp_path]))[0].endswith("| 10,000 | – | – |")


def test_runs_are_found_at_any_depth_once_and_never_half_written(tmp_path: Path) -> None:
    deep = write_run(tmp_path / "x" / "y" / "deep")
    top = write_run(tmp_path / "top")
    write_run(tmp_path / "top" / ".aside-1")
    elsewhere = write_run(tmp_path.parent / f"{tmp_path.name}_elsewhere")
    (tmp_path / "z_link").symlink_to(elsewhere)
    (tmp_path / "x" / "loop").symlink_to(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    assert find_runs([tmp_path]) == [top, deep, tmp_path / "z_link"]
    assert {run.resolve() for run in find_runs(tmp_path.iterdir())} == {top, deep, elsewhere}
    assert len(find_runs(tmp_path.iterdir())) == 3
    assert find_runs([top, tmp_path]) == [top, deep, tmp_path / "z_link"]


def test_what_holds_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected folders of runs.*recipe\.json\. Received: .*" + tmp_path.name):
        find_runs([tmp_path])
    with pytest.raises(FileNotFoundError, match=r"Expected folders of runs\. Received: .*absent, which does not exist"):
        find_runs([tmp_path / "absent"])
    with pytest.raises(ValueError, match="Received: none"):
        find_runs([])


def test_the_program_prints_the_table_or_json_and_writes_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "runs" / "a", error=0.2)
    write_run(tmp_path / "runs" / "b", BASE.replace(seed=1), error=None, done=1)
    write_run(tmp_path / "runs" / "c", BASE.replace(seed=2), error=0.3)
    assert program.main([str(tmp_path / "runs"), "--csv", str(tmp_path / "runs.csv")]) == 0
    said = capsys.readouterr().out
    assert "| recipe | seeds | epochs | top-1 error, % |" in unpadded(said)
    assert "| 25.00 ± 7.07 |" in unpadded(said)
    assert "epoch 1 of 3" in said
    with (tmp_path / "runs.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [(row["seed"], row["progress"], row["top1_error"], row["seconds"]) for row in cells] == [
        ("0", "finished", "0.2", "60.0"),
        ("2", "finished", "0.3", "60.0"),
        ("1", "epoch 1 of 3", "", ""),
    ]
    assert program.main([str(tmp_path / "runs"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipes"][0]["top1_errors"] == [0.2, 0.3]
    assert found["recipes"][0]["versions"]["keras"] == [read_run(tmp_path / "runs" / "a").about["keras"]]
    assert found["unfinished"][0]["run"].endswith("b")


@pytest.mark.slow
def test_the_program_says_nothing_but_the_table(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    code = "import sys; from resnet_keras.cli.runs import main; raise SystemExit(main(sys.argv[1:]))"
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert unpadded(done.stdout).startswith("| recipe | seeds |")
    assert not done.stderr


def test_the_program_reports_bad_input_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert program.main([str(tmp_path / "absent")]) == 2
    assert "resnet runs: Expected folders of runs. Received: " in capsys.readouterr().err
    assert program.main([]) == 2
    assert "Received: runs, which does not exist" in capsys.readouterr().err


def test_runs_on_several_devices_are_rows_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "one", BASE.replace(seed=0), 0.1)
    write_run(tmp_path / "two", BASE.replace(seed=1), 0.2, replicas=2)
    names = [line.split("|")[1].strip() for line in lines(summarize_runs([tmp_path]))]
    assert sorted(names) == ["cifar10 resnet20, epochs=3", "cifar10 resnet20, epochs=3, replicas=2"]


def test_the_program_reads_the_folder_runs_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "runs" / "one")
    monkeypatch.chdir(tmp_path)
    assert program.main([]) == 0
    assert "cifar10 resnet20" in capsys.readouterr().out
