"""Run folders: what is written, and what is read back."""

import json
from pathlib import Path

import pytest

from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.runs.folder import RunFolder, dataset_of, name_of_source


@pytest.mark.parametrize("name", ["digits", "imagenet", "cifar10"])
def test_a_recipe_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    recipe = RECIPES[name].replace(seed=7)
    folder = RunFolder(tmp_path)
    folder.begin(recipe, {"data_dir": "data", "replicas": 1})
    assert folder.recipe() == recipe
    folder.begin(recipe, {"data_dir": "data", "replicas": 1})  # the same again is welcome
    assert dataset_of(tmp_path, None, None) == (recipe.data.dataset, "data")
    assert dataset_of(tmp_path, None, "elsewhere") == (recipe.data.dataset, "elsewhere")
    assert dataset_of(tmp_path, "cifar100", "elsewhere") == ("cifar100", "elsewhere")


def test_a_file_does_not_tell_its_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected a data set to use with a file.*model\.keras"):
        dataset_of(tmp_path / "model.keras", None, None)


def test_sources_of_different_names_name_what_is_made_of_them_differently(tmp_path: Path) -> None:
    for folder in ("cifar10_lr0.1", "cifar10_lr0.05", "seed0", "hub", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.keras").touch()
    (tmp_path / "seed0" / "recipe.json").touch()
    (tmp_path / "hub" / "config.json").touch()
    for other in (
        "resnet50.a1_in1k.safetensors",
        "x.weights.h5",
        "x.pth.tar",
        "model.safetensors.index.json",
        ".keras",
    ):
        (tmp_path / "other" / other).touch()
    (tmp_path / "latest").symlink_to(tmp_path / "seed0")
    (tmp_path / "hub" / "model.safetensors").symlink_to(tmp_path / "other" / "x.pth.tar")
    expected = {
        "cifar10_lr0.1": "cifar10_lr0.1",
        "cifar10_lr0.05": "cifar10_lr0.05",
        "seed0": "seed0",
        "seed0/model.keras": "seed0",
        "latest/model.keras": "seed0",
        "hub/model.safetensors": "hub",
        "other/model.keras": "model",
        "other/resnet50.a1_in1k.safetensors": "resnet50.a1_in1k",
        "other/x.weights.h5": "x",
        "other/x.pth.tar": "x",
        "other/model.safetensors.index.json": "model",
        "other/.keras": ".keras",
    }
    assert {name: name_of_source(tmp_path / name) for name in expected} == expected
    for name, last in (("hf://timm/resnet50.a1_in1k", "resnet50.a1_in1k"), ("resnet20_digits", "resnet20_digits")):
        assert name_of_source(name) == last


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Expected the folder of a run\. Received: .*without recipe\.json"):
        RunFolder(tmp_path).recipe()


def test_a_history_draws_and_lists_epochs_with_and_without_validation(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    history = [
        {"epoch": 1, "loss": 2.0, "accuracy": 0.2},
        {"epoch": 2, "loss": 1.0, "accuracy": 0.5, "val_loss": 1.5, "val_accuracy": 0.4},
    ]
    folder.write_history(history)
    folder.write_curves(history)
    assert (tmp_path / "history.csv").read_text().splitlines() == [
        "epoch,loss,accuracy,val_loss,val_accuracy",
        "1,2.0,0.2,,",
        "2,1.0,0.5,1.5,0.4",
    ]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_title_of_curves_names_run_network_and_last_error(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "fast")
    assert folder._title([]) == "fast"
    folder.begin(RECIPES["cifar10"].replace(model="resnet56"), {})
    assert folder._title([{"epoch": 1, "accuracy": 0.5}]) == "fast, resnet56"
    tested = [{"epoch": 1, "val_accuracy": 0.8}, {"epoch": 2, "val_accuracy": 0.91234}, {"epoch": 3}]
    assert folder._title(tested) == "fast, resnet56, test error 8.77% after epoch 2"
    (tmp_path / "fast" / "data.json").write_text('{"train": {}, "test": {}, "validation": {}}')
    assert folder._title(tested) == "fast, resnet56, validation error 8.77% after epoch 2"
    (tmp_path / "fast" / "recipe.json").write_text('{"filters": 64}')  # a program's own settings
    assert folder._title([]) == "fast"


def test_a_finished_run_records_its_training_time(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(RECIPES["digits"], {"data_dir": None})
    begun = folder.data()
    folder.finish(Evaluation(images=10, top1_error=0.1, top5_error=None, loss=1.0), 12.345)
    found = folder.data()
    assert list(found.pop("sha256")) == ["evaluation.json"]
    assert found == {**begun, "training_seconds": 12.35}


def test_a_run_of_before_a_field_was_there_is_the_same_by_its_default(tmp_path: Path) -> None:
    recipe = RECIPES["digits"]
    folder = RunFolder(tmp_path)
    folder.begin(recipe, {})
    (tmp_path / "model.keras").write_bytes(b"")
    file = tmp_path / "recipe.json"
    content = json.loads(file.read_text())
    del content["optimization"]["ema"]
    file.write_text(json.dumps(content))
    assert folder.check(recipe)
    with pytest.raises(ValueError, match=r"ema=0.9 \(begun with 0.0\)"):
        folder.check(recipe.replace(ema=0.9))


def test_a_recipe_may_change_until_a_run_has_come_somewhere(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(RECIPES["digits"], {})
    folder.begin(RECIPES["digits"].replace(accumulate=2), {})
    assert folder.recipe().optimization.accumulate == 2
    (tmp_path / "checkpoints" / "step_000000001").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"accumulate=1 \(begun with 2\)"):
        folder.begin(RECIPES["digits"], {})


DAMAGED = ["", "{", "[]", "3", '"text"', "null", '{"network": 3}', '{"a": [', "[" * 100_000, "\ufeff{}"]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_recipe_is_named_in_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(ValueError, match="^Expected") as raised:
        RunFolder(tmp_path).recipe()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content", [*DAMAGED, "{}", '{"images": 1}', '{"images": 1, "top1_error": "x", "top5_error": null, "loss": []}']
)
def test_a_damaged_result_is_named_in_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.keras").touch()
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(ValueError, match="^Expected .*evaluation.json"):
        RunFolder(tmp_path).evaluation()


@pytest.mark.parametrize("content", DAMAGED[:6])
def test_a_damaged_description_of_a_run_is_named_in_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match="^Expected .*run.json"):
        RunFolder(tmp_path).data()


@pytest.mark.parametrize("name", ["tensorboard", "checkpoints"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(NotADirectoryError, match=f"Expected a folder, or nothing yet. Received: .*{name}, a file"):
        RunFolder(tmp_path).begin(RECIPES["digits"], {})
