"""Images of cameras on the command line: one fit with --resize, and what every other command makes of files."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import fails, run
from vae_anomaly import FittedModel
from vae_anomaly.datasets import images_at_size
from vae_anomaly.errors import DataError

pytestmark = pytest.mark.usefixtures("own_folder")

QUICK = ["--epochs", "3", "--latent-dim", "4"]


def picture(seed: int, size: tuple[int, int] = (36, 40)) -> np.ndarray:
    """A brown texture."""
    rng = np.random.default_rng(seed)
    shade = rng.normal(size=(*size, 1)) * 20
    return np.clip(np.array([170, 120, 60]) + shade, 0, 255).astype(np.uint8)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture(scope="module")
def bottle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in MVTec's layout with a model of it, whose images are resized to 18 x 20 and cropped to 16 x 16."""
    root = tmp_path_factory.mktemp("mvtec")
    data = root / "bottle"
    for i in range(60):
        save(data / f"train/good/{i:03}.png", picture(i))
    for i in range(15):
        save(data / f"test/good/{i:03}.png", picture(100 + i, (72, 80)))
        spoilt = picture(200 + i)
        spoilt[10:24, 10:24] = 0
        save(data / f"test/hole/{i:03}.png", spoilt)
        save(data / f"ground_truth/hole/{i:03}_mask.png", (spoilt == 0).all(axis=2) * np.uint8(255))
    fit = ["fit", "--data", data, "--resize", "18x20", "--crop", "16x16", "--output", root / "m.vae"]
    result = run(*fit, *QUICK, "--json")
    assert result.exit_code == 0, result.output
    (root / "summary.json").write_text(result.stdout)
    return root


def scores_of(*words: object) -> pd.DataFrame:
    result = run("score", *words)
    assert result.exit_code == 0, result.output
    return pd.read_csv(io.StringIO(result.stdout))


def test_the_layout_says_what_to_train_on_and_what_to_test(bottle: Path) -> None:
    summary = json.loads((bottle / "summary.json").read_text())
    assert summary["data"]["normal"] == ["good"]
    assert summary["data"]["n_normal"] == 60
    assert summary["model"]["image_shape"] == [16, 16, 3]
    assert summary["test"]["roc_auc"]["n_normal"] == 15
    assert list(summary["test"]["per_group"]) == ["hole"]
    table = pd.read_csv(bottle / "m.scores.csv")
    assert set(table["file"]) == {f"test/{name}/{i:03}.png" for name in ("good", "hole") for i in range(15)}
    shown = run("inspect", bottle / "m.vae").stdout
    assert "images are resized to 18x20 and cropped to 16x16" in shown
    evaluated = run("evaluate", bottle / "bottle", "--model", bottle / "m.vae", "--json")
    assert "the 30 samples of its part test are taken, of 90" in evaluated.stderr
    assert json.loads(evaluated.stdout)["test"]["roc_auc"] == summary["test"]["roc_auc"]


def test_files_and_folders_come_to_the_size_of_the_model(bottle: Path) -> None:
    model, holes = bottle / "m.vae", bottle / "bottle/test/hole"
    folder = scores_of(holes, "--model", model)
    assert folder["file"].tolist() == [f"{i:03}.png" for i in range(15)]
    one = scores_of(holes / "004.png", "--model", model)
    assert one["file"].tolist() == ["004.png"]
    assert one["anomaly_score"].tolist() == folder["anomaly_score"].tolist()[4:5]
    several = scores_of(holes / "004.png", holes / "002.png", bottle / "bottle/test/good/004.png", "--model", model)
    assert several["anomaly_score"].tolist()[:2] == folder["anomaly_score"].tolist()[4:1:-2]
    assert several["file"].str.endswith(("hole/004.png", "hole/002.png", "good/004.png")).all()
    alone = np.asarray(Image.open(holes / "004.png").resize((20, 18), Image.Resampling.BILINEAR))[1:17, 2:18]
    loaded = FittedModel.load(model)
    assert -loaded.score_samples(loaded.rows(alone[None])) == pytest.approx(one["anomaly_score"].to_numpy(), abs=0)
    assert run("score", holes, "--model", model, "--output", "s.csv", "--resume").exit_code == 0
    assert pd.read_csv("s.csv")["anomaly_score"].tolist() == folder["anomaly_score"].tolist()


@pytest.fixture(scope="module")
def originals(bottle: Path) -> np.ndarray:
    """The images of the folder `hole`, as they are in its files."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted((bottle / "bottle/test/hole").iterdir())])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".zarr", "stdin"])
def test_arrays_of_images_come_to_the_size_of_the_model_as_files_do(
    bottle: Path, originals: np.ndarray, suffix: str
) -> None:
    model, wanted = bottle / "m.vae", scores_of(bottle / "bottle/test/hole", "--model", bottle / "m.vae")
    np.save("X.npy", originals)
    np.savez("X.npz", X=originals)
    name, given = f"X{suffix}", None
    if suffix == ".zarr":
        zarr = pytest.importorskip("zarr")
        zarr.create_array(name, data=originals, chunks=(4, 36, 40, 3))
    elif suffix == "stdin":
        name, given = "-", Path("X.npy").read_bytes()
    result = run("score", name, "--model", model, input=given)
    assert result.exit_code == 0, result.output
    assert pd.read_csv(io.StringIO(result.stdout)).equals(wanted.drop(columns="file"))


def test_arrays_of_the_size_of_the_model_are_resized_and_cropped_as_files_of_that_size(bottle: Path) -> None:
    X = np.stack([picture(i, (16, 16)) for i in range(4)])
    np.save("X.npy", X)
    for i, image in enumerate(X):
        save(Path(f"X/{i}.png"), image)
    model = ("--model", bottle / "m.vae")
    assert scores_of("X.npy", *model).equals(scores_of("X", *model).drop(columns="file"))


def test_a_fit_of_an_array_is_that_of_its_files(bottle: Path, originals: np.ndarray) -> None:
    np.save("X.npy", originals)
    fit = ["fit", "--resize", "9x10", "--crop", "8x8", "--epochs", "1", "--latent-dim", "2", "--no-report", "--data"]
    for data, model in ((bottle / "bottle/test/hole", "folder.vae"), ("X.npy", "array.vae")):
        result = run(*fit, data, "--output", model)
        assert result.exit_code == 0, result.output
    folder, array = FittedModel.load("folder.vae"), FittedModel.load("array.vae")
    assert folder.images == array.images
    assert array.images is not None
    assert (array.images.resize, array.images.crop) == ((9, 10), (8, 8))
    assert scores_of("X.npy", "--model", "array.vae").equals(scores_of("X.npy", "--model", "folder.vae"))
    pytest.importorskip("pyarrow")
    result = run("score", "X.npy", "--model", "array.vae", "--engine", "processes", "--workers", "1", "--output", "s")
    assert result.exit_code == 0, result.output
    in_parts = pd.concat(map(pd.read_parquet, sorted(Path("s").glob("part-*.parquet"))))
    alone = scores_of("X.npy", "--model", "array.vae")
    assert in_parts["anomaly_score"].tolist() == alone["anomaly_score"].tolist()
    assert json.loads(run("explain", "array.vae", "X.npy", "--row", "3", "--json").stdout)["row"] == 3


def test_compare_and_review_bring_images_to_the_size_of_each_model(bottle: Path, originals: np.ndarray) -> None:
    np.save("X.npy", originals)
    np.savez("L.npz", X=originals, y=np.arange(15) % 2)
    fit = ("fit", "--data", "X.npy", "--resize", "8x8", "--epochs", "1", "--no-report", "--output", "small.vae")
    assert run(*fit).exit_code == 0
    found = [
        json.loads(run("compare", *models, "--data", "L.npz", "--all-rows", "--json").stdout)
        for models in ((bottle / "m.vae", "small.vae"), ("small.vae", bottle / "m.vae"))
    ]
    assert found[0]["a"] == found[1]["b"]
    assert found[0]["b"] == found[1]["a"]
    assert run("score", "X.npy", "--model", bottle / "m.vae", "--output", "s.csv").exit_code == 0
    result = run("review", "s.csv", "--data", "X.npy", "--model", bottle / "m.vae", "--output", "r.csv")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    reviewed = pd.read_csv("r.csv")
    own = images_at_size(originals, resize=(18, 20), crop=(16, 16)).reshape(15, -1)[reviewed["row"]]
    np.testing.assert_array_equal(reviewed[[str(place) for place in range(own.shape[1])]], own)


def test_an_array_of_another_size_says_what_to_do(bottle: Path, originals: np.ndarray) -> None:
    loaded = FittedModel.load(bottle / "m.vae")
    with pytest.raises(
        DataError, match=r"by vae_anomaly.datasets.images_at_size\(X, resize=\(18, 20\), crop=\(16, 16\)\)"
    ):
        loaded.rows(originals)
    assert loaded.rows(images_at_size(originals, resize=(18, 20), crop=(16, 16))).shape == (15, 16 * 16 * 3)
    with pytest.raises(DataError, match=r"got images of shape \(36, 40\)$"):  # of other channels, which no size mends
        loaded.rows(originals[..., 0])
    assert loaded.images is not None
    loaded.images = replace(loaded.images, resize=None, crop=None)
    hint = r"resize=\(16, 16\)\) does, or fit with --resize 16x16, which commands then do to all images that they read"
    with pytest.raises(DataError, match=hint):
        loaded.rows(originals)


def test_every_other_command_takes_them_too(bottle: Path) -> None:
    model, test = bottle / "m.vae", bottle / "bottle/test"
    explained = run("explain", model, test / "hole/004.png", "--json")
    assert json.loads(explained.stdout)["file"] == "004.png"
    assert json.loads(explained.stdout)["row"] == 0
    assert "say which with --row" in fails(2, "explain", model, test / "hole")
    for words in (
        ("report", model, test, "--output", "page"),
        ("calibrate", model, "--data", test, "--normal", "good", "--rate", "0.1", "--output", "c.vae"),
        ("compare", model, model, "--data", test, "--normal", "good"),
    ):
        result = run(*words)
        assert result.exit_code == 0, result.output
    assert "hole/000.png" in Path("page/scores.csv").read_text()
    assert FittedModel.load("c.vae").images == FittedModel.load(model).images


def test_images_of_another_form_are_noted_once(bottle: Path) -> None:
    model, new = bottle / "m.vae", Path("new")
    for i in range(5):
        save(new / f"{i}.png", picture(300 + i)[:, :, ::-1])
    result = run("score", new, "--model", model)
    assert result.stderr.count("note: ") == 1
    assert "note: new: it seems that red and blue are exchanged (BGR for RGB)" in result.stderr
    assert run("report", model, new, "--output", "page").exit_code == 0
    assert "red and blue are exchanged" in Path("page/report.html").read_text()
    assert "note:" not in run("score", bottle / "bottle/test/hole", "--model", model).stderr
    np.save("X.npy", np.stack([picture(i, (16, 16)) for i in range(5)]) / 255)
    assert "trained on 0..255, got 0..1; multiply by 255" in run("score", "X.npy", "--model", model).stderr


def test_what_does_not_fit_is_refused_with_what_to_do(bottle: Path) -> None:
    train, model = bottle / "bottle/train/good", bottle / "m.vae"
    np.save("X.npy", np.zeros((5, 256)))
    Path("X.csv").write_text("a,b\n" + "1,2\n" * 5)
    for name in ("X.npy", "X.csv"):
        refusal = fails(1, "fit", "--data", name, "--resize", "8x8")
        assert f"{name}: holds rows, which have no height and width: --resize 8x8 is for image files and" in refusal
    assert "--resize and --crop go with --data" in fails(
        2, "fit", "--dataset", "digits", "--normal", "0", "--crop", "4x4"
    )
    assert "'8' is not a height and a width" in fails(2, "fit", "--data", train, "--resize", "8")
    save(Path("sizes/a.png"), picture(0))
    save(Path("sizes/b.png"), picture(1, (30, 30)))
    assert "2 sizes (height x width), 1 of 36x40, 1 of 30x30" in fails(1, "fit", "--data", "sizes")
    assert "only image files can be given several at a time" in fails(2, "score", train, train, "--model", model)
    Path("sizes/c.png").write_bytes(b"x")
    assert "c.png cannot be read as an image" in fails(1, "score", "sizes", "--model", model)
    result = run("score", "sizes", "--model", model, "--skip-unreadable")
    assert result.exit_code == 0
    assert "left out 1 of 3 files that cannot be read: sizes/c.png" in result.stderr
    for name in ("train/good/0", "train/good/1", "train/good/2", "test/good/0", "test/hole/0"):
        save(Path(f"masked/{name}.png"), picture(0))
    save(Path("masked/ground_truth/hole/0_mask.png"), np.zeros((7, 7), np.uint8))
    refusal = fails(1, "fit", "--data", "masked", "--output", "masked.vae")
    assert "0_mask.png is 7x7, but its image is 36x40" in refusal
    assert not Path("masked.vae").exists()  # before the training
    save(Path("defects/crack/a.png"), picture(0))
    save(Path("defects/scratch/a.png"), picture(1))
    hint = fails(1, "fit", "--data", "defects")
    assert "name the normal ones, with --normal" in hint
    assert "--normal crack" not in hint
