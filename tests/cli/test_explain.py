"""``vae-anomaly explain``, by the files it makes and the messages it gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers import Make, fails, run
from vae_anomaly import VAEDetector
from vae_anomaly.cli import options
from vae_anomaly.storage.safe_reading import printable

NAMES = ["height", "a very long name of a column that no table has room for", "$x_1$", "red\x1b[31m", "\u202eabc", "f"]


pytestmark = pytest.mark.usefixtures("own_folder")


def explain(*arguments: object, **kwargs: Any) -> str:
    """What the command prints."""
    result = run("explain", *arguments, **kwargs)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, make_table: Make, make_images: Make) -> dict[str, Path]:
    """A table with names, images, and a table with the normal prior; one model each."""
    folder = tmp_path_factory.mktemp("models")
    table = pd.DataFrame(make_table(200), columns=NAMES)
    detectors = {
        "table": VAEDetector(epochs=3).fit(table),
        "images": VAEDetector(epochs=3).fit(make_images(60)),
        "normal": VAEDetector(epochs=3, prior="normal").fit(table.to_numpy()),
    }
    for name, detector in detectors.items():
        detector.save(folder / f"{name}.vae")
    return {name: folder / f"{name}.vae" for name in detectors}


@pytest.fixture
def table_csv(make_table: Make) -> Path:
    frame = pd.DataFrame(make_table(30, seed=1), columns=NAMES)
    frame.iloc[17, 2] += 40
    frame.assign(label=[f"kind {i}" for i in range(30)]).to_csv("t.csv", index=False)
    return Path("t.csv")


def test_json_is_what_the_library_says(models: dict[str, Path], table_csv: Path) -> None:
    evidence = json.loads(explain(models["table"], table_csv, "--row", 17, "--label-column", "label", "--json"))
    detector = VAEDetector.load(models["table"])
    frame = pd.read_csv(table_csv).drop(columns="label")
    parts, terms = detector.explain(frame), detector.elbo_terms(frame)
    for name in ("reconstruction", "expected", "spread", "excess"):
        np.testing.assert_array_equal(evidence["features"][name], getattr(parts, name)[17])
    assert evidence["features"]["name"] == NAMES
    np.testing.assert_array_equal(evidence["features"]["observed"], frame.to_numpy()[17])
    np.testing.assert_array_equal(evidence["exemplars"], parts.kl[17])
    assert evidence["reconstruction"]["value"] == terms.reconstruction[17]
    held_out = -detector.held_out_scores_["kl"]
    assert evidence["kl"]["held_out_median"] == np.median(held_out)
    assert evidence["kl"]["held_out_below"] == np.mean(held_out < terms.kl[17])
    assert evidence["anomaly_score"] == -detector.score_samples(frame)[17]
    assert evidence["p_value"] == detector.p_values(frame)[17]
    assert (evidence["decision"], evidence["label"], evidence["row"], evidence["file"]) == (1, "kind 17", 17, None)


def test_text_names_the_feature_at_fault(models: dict[str, Path], table_csv: Path) -> None:
    text = explain(models["table"], table_csv, "--row", 17, "--label-column", "label", "--top", 2)
    lines = text.splitlines()
    assert lines[0] == "sample     row 17 of t.csv, label kind 17"
    assert lines[1].startswith("score      anomaly, anomaly score ")
    assert "p-value" in lines[2]
    assert "reconstruction -" in lines[3]
    assert "200 held-out normals lie below" in lines[3]
    table = lines.index("features   nats beyond what the model predicts, the 2 worst of 6")
    assert lines[table + 2].split()[0] == "$x_1$"
    assert "±" in lines[table + 2]
    assert lines[table + 4].startswith("exemplars  nats of the KL term")
    assert lines[-1] == f"figure     vae-anomaly explain {models['table']} t.csv --row 17 --output row-17.png"


def test_terminals_are_shown_no_control_characters(models: dict[str, Path], table_csv: Path) -> None:
    text = explain(models["table"], table_csv, "--row", 3, "--label-column", "label")
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "red\\x1b[31m" in text
    assert "\\u202eabc" in text
    assert "a very long name of a column that no ta…" in text
    assert printable("a\nb\x00\u2028\U000e0001\ud800ä名") == "a\\nb\\x00\\u2028\\U000e0001\\ud800ä名"


def test_images_from_a_folder(models: dict[str, Path], make_images: Make) -> None:
    from PIL import Image

    Path("new\x1b").mkdir()
    for i, image in enumerate(make_images(5, seed=1)):
        Image.fromarray(image).save(f"new\x1b/{i}.png")
    evidence = explain(models["images"], "new\x1b", "--row", 4, "--output", "why.png")
    assert evidence.startswith("sample     row 4 of new\\x1b, 4.png\n")
    assert "pixels     nats more than the best pixel, the 10 worst of 72" in evidence
    assert "±" not in evidence
    assert "latents    nats of the KL term" in evidence
    assert evidence.endswith("wrote      why.png\n")
    assert Path("why.png").read_bytes().startswith(b"\x89PNG")
    whole = json.loads(explain(models["images"], "new\x1b", "--row", 4, "--json"))
    assert json.loads(explain(models["images"], "new\x1b", "--file", "4.png", "--json")) == whole
    assert "has no file '7.png' among its 5 samples" in fails(
        1, "explain", models["images"], "new\x1b", "--file", "7.png"
    )
    assert "both say which" in fails(2, "explain", models["images"], "new\x1b", "--file", "4.png", "--row", 4)
    assert np.shape(whole["signs"]["heat"]) == (9, 8)
    assert whole["features"]["name"][9] == "1, 1"
    assert whole["image_shape"] == [9, 8, 1]
    worst = int(np.argmax(whole["features"]["excess"]))
    first = evidence.splitlines()[9].split()
    assert [int(first[0].rstrip(",")), int(first[1])] == [worst // 8, worst % 8]
    assert float(first[-1]) == pytest.approx(np.ptp(whole["features"]["excess"]), abs=1e-3)


@pytest.mark.parametrize("kind", ["table", "images"])
@pytest.mark.parametrize("suffix", ["png", "svg", "json", "txt"])
def test_every_format_is_written_whole(
    models: dict[str, Path], table_csv: Path, make_images: Make, kind: str, suffix: str
) -> None:
    np.save("i.npy", make_images(5, seed=1))
    data = [table_csv, "--label-column", "label"] if kind == "table" else ["i.npy"]
    arguments = [models[kind], *data, "--row", 2]
    text = explain(*arguments, "--output", f"why.{suffix}")
    content = Path(f"why.{suffix}").read_bytes()
    assert content.startswith({"png": b"\x89PNG", "svg": b"<?xml", "json": b"{", "txt": b"sample "}[suffix])
    if suffix == "json":
        assert content.decode() == explain(*arguments, "--json")
    if suffix == "txt":
        assert text.startswith(content.decode())
    explain(*arguments, "--output", f"again.{suffix}")
    assert Path(f"again.{suffix}").read_bytes() == content
    assert sorted(path.name for path in Path().glob("*why*")) == [f"why.{suffix}"]


def test_another_score_and_prior_and_standard_input(models: dict[str, Path], make_table: Make) -> None:
    np.save("X.npy", make_table(3000, seed=1))
    evidence = json.loads(explain(models["normal"], "X.npy", "--row", 2999, "--score", "typicality", "--json"))
    detector = VAEDetector.load(models["normal"]).set_params(score_name="typicality")
    X = np.load("X.npy")[2999:]
    assert evidence["anomaly_score"] == -detector.score_samples(X)[0]
    assert evidence["threshold"] == detector.calibration_.threshold
    np.testing.assert_array_equal(evidence["latents"], detector.explain(X).kl[0])
    assert evidence["features"]["name"] == [f"feature {i}" for i in range(6)]
    again = explain(models["normal"], "-", "--row", 2999, "--score", "typicality", input=Path("X.npy").read_bytes())
    assert "row 2999 of standard input" in again
    assert "figure " not in again


def test_rows_are_found_in_any_chunk(
    models: dict[str, Path], make_table: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("X.npy", make_table(50, seed=1))
    whole = [explain(models["normal"], "X.npy", "--row", row, "--json") for row in (0, 6, 7, 49)]
    monkeypatch.setattr(options, "CHUNK_BYTES", 8 * 6 * 7)
    assert [explain(models["normal"], "X.npy", "--row", row, "--json") for row in (0, 6, 7, 49)] == whole


def test_mistakes_get_one_message(models: dict[str, Path], make_table: Make, own_folder: Path) -> None:
    np.save("X.npy", make_table(20))
    np.save("wide.npy", np.zeros((5, 9)))
    model = models["normal"]
    assert fails(1, "explain", model, "X.npy", "--row", 20) == (
        "Error: X.npy has 20 samples, numbered 0 to 19: there is no row 20"
    )
    assert "-1 is not in the range x>=0" in fails(2, "explain", model, "X.npy", "--row", "-1")
    assert "more than one sample: say which with --row" in fails(2, "explain", model, "X.npy")
    assert "why.pdf is neither .png, .svg, .json nor .txt" in fails(
        2, "explain", model, "X.npy", "--row", 0, "--output", "why.pdf"
    )
    assert "'missing.vae' does not exist" in fails(2, "explain", "missing.vae", "X.npy", "--row", 0)
    assert "9 features, but VAEDetector is expecting 6" in fails(1, "explain", model, "wide.npy", "--row", 0)
    assert "there is no folder nowhere" in fails(
        1, "explain", model, "X.npy", "--row", 0, "--output", "nowhere/why.png"
    )
    assert "is not a model file" in fails(1, "explain", "X.npy", "X.npy", "--row", 0)
    assert sorted(path.name for path in own_folder.iterdir()) == ["X.npy", "wide.npy"]
