"""``vae-anomaly score --stream``: the rules' own decisions, whatever the chunks, and one stream over many files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import fails, run
from vae_anomaly.calibration.adaptive import AdaptiveThreshold
from vae_anomaly.calibration.online_fdr import OnlineFDR
from vae_anomaly.cli import options, score_stream
from vae_anomaly.fitted_model import FittedModel
from vae_anomaly.storage.stream_table import digest_of

FDR = ("--stream", "--fdr", "0.5")
ADAPTIVE = ("--stream", "--adaptive", "0.2")


class Killed(BaseException):
    """What no handler of errors catches."""


@pytest.fixture
def files(own_folder: Path, table_model: Path, make_table, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows of three days, and of the first two in one file, with odd ones among them; seven are scored at a time."""
    Path("m.vae").symlink_to(table_model)
    monkeypatch.setattr(score_stream, "RESUMABLE_CHUNK_ROWS", 7)
    rng = np.random.default_rng(0)
    days = [np.where(rng.random((40, 1)) < 0.4, 20, 1) * make_table(40, seed=day) for day in (1, 2, 3)]
    for day, X in enumerate(days, 1):
        np.save(f"day{day}.npy", X)
    np.save("both.npy", np.vstack(days[:2]))
    return own_folder


def score(*arguments: str) -> pd.DataFrame:
    result = run("score", *arguments, "--model", "m.vae")
    assert result.exit_code == 0, result.output
    output = arguments[arguments.index("--output") + 1] if "--output" in arguments else io.StringIO(result.stdout)
    return pd.read_csv(output)


@pytest.mark.parametrize("rule", [FDR, ADAPTIVE], ids=["fdr", "adaptive"])
def test_rows_are_decided_by_the_rule_one_after_the_other(
    files: Path, rule: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FittedModel.load("m.vae")
    scores = score("both.npy", *rule)
    normals = -model.calibration_scores
    if rule == FDR:
        decisions = OnlineFDR(0.5, n_normals=len(normals)).update(scores["p_value"])
    else:
        decisions = AdaptiveThreshold(0.2, normals).update(scores["anomaly_score"])
        np.testing.assert_array_equal(scores["recent_p_value"], decisions.p_values)
    np.testing.assert_array_equal(scores["decision"], decisions.flagged)
    np.testing.assert_array_equal(scores["level"], decisions.levels)
    assert 5 < decisions.flagged.sum() < 75
    monkeypatch.setattr(options, "CHUNK_BYTES", 8 * 6 * 7)
    pd.testing.assert_frame_equal(score("both.npy", *rule), scores)
    result = run("score", "-", "--model", "m.vae", *rule, input=Path("both.npy").read_bytes())
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(result.stdout)), scores)
    plain = score("both.npy").drop(columns="decision")
    pd.testing.assert_frame_equal(scores[plain.columns], plain)


@pytest.mark.parametrize("rule", [FDR, ADAPTIVE], ids=["fdr", "adaptive"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_the_next_file_goes_on_where_the_last_one_ended(files: Path, rule: tuple[str, ...], suffix: str) -> None:
    whole = score("both.npy", *rule)
    parts = []
    for day in ("day1", "day2"):
        output = f"{day}.{suffix}"
        result = run("score", f"{day}.npy", "--model", "m.vae", *rule, "--state", "s.json", "--output", output)
        assert result.exit_code == 0, result.output
        parts.append(pd.read_csv(output) if suffix == "csv" else pd.read_json(output, lines=True))
    np.testing.assert_array_equal(pd.concat(parts)["decision"], whole["decision"])
    assert parts[1]["row"].tolist() == list(range(40))
    assert sorted(path.name for path in files.glob("*s.json*")) == ["s.json"]


@pytest.mark.parametrize("rule", [FDR, ADAPTIVE], ids=["fdr", "adaptive"])
def test_cut_at_any_chunk_it_goes_on_to_the_same_bytes(
    files: Path, rule: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    score("day1.npy", *rule, "--state", "s.json", "--output", "a.csv")
    Path("kept.json").write_bytes(Path("s.json").read_bytes())
    score("day2.npy", *rule, "--state", "kept.json", "--output", "whole.csv")
    words = ("score", "day2.npy", "--model", "m.vae", *rule, "--state", "s.json", "--output", "s.csv")
    real = FittedModel.score_table_of
    n_killed = 0
    while n_killed < 12:
        left = iter(range(2))

        def cut(model: FittedModel, X: np.ndarray, left=left) -> object:
            if next(left, None) is None:
                raise Killed
            return real(model, X)

        with monkeypatch.context() as patch:
            patch.setattr(FittedModel, "score_table_of", cut)
            try:
                assert run(*words).exit_code == 0
            except Killed:
                n_killed += 1
                with Path("s.csv.partial").open("ab") as file:
                    file.write(b"7,0.3,to")  # what a kill in the middle of a chunk leaves
            else:
                break
    assert n_killed == 2
    assert Path("s.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert json.loads(Path("s.json").read_text())["rule"] == json.loads(Path("kept.json").read_text())["rule"]
    before = Path("s.json").read_bytes()
    again = run(*words, "--fail-on-anomaly")
    assert again.exit_code == 3
    assert "note: s.json counts all 40 rows of day2.npy already: s.csv\n" in again.stderr
    assert Path("s.json").read_bytes() == before


def test_another_model_score_rule_or_rate_is_refused(files: Path) -> None:
    words = ["score", "day1.npy", "--model", "m.vae", *FDR, "--state", "s.json", "--output", "a.csv"]
    assert run(*words).exit_code == 0
    assert run("calibrate", "m.vae", "--rate", "0.3", "--output", "other.vae").exit_code == 0
    words[1], words[-1] = "day2.npy", "b.csv"
    before = Path("s.json").read_bytes()
    for change, what in (
        ({"m.vae": "other.vae"}, "model"),
        ({"0.5": "0.4"}, "fdr (0.5 there, 0.4 here)"),
        ({"--fdr": "--adaptive"}, "adaptive (None there, 0.5 here), fdr (0.5 there, None here)"),
    ):
        message = fails(1, *(change.get(word, word) for word in words))
        assert message == (
            f"Error: s.json belongs to another run, which differs in {what}: give another --state, which starts a "
            "stream of its own"
        )
    assert "differs in score ('elbo' there, 'kl' here)" in fails(1, *words, "--score", "kl")
    assert Path("s.json").read_bytes() == before


def test_a_state_that_no_stream_has_is_refused(files: Path) -> None:
    words = ["score", "day1.npy", "--model", "m.vae", *FDR, "--state", "s.json", "--output", "a.csv"]
    assert run(*words).exit_code == 0
    good = json.loads(Path("s.json").read_text())
    del good["sha256"]
    words[1], words[-1] = "day2.npy", "b.csv"
    for rule in ({}, {"rows": 1}, good["rule"] | {"budgets": [[10**9, 1]]}, good["rule"] | {"discoveries": 41}):
        state = good | {"rule": rule}
        Path("s.json").write_text(json.dumps(state | {"sha256": digest_of(state)}))
        message = fails(1, *words)
        assert message.startswith("Error: s.json: the state's ")
        assert message.endswith(": give another --state, which starts a stream of its own")
        assert not list(files.glob("b.csv*"))
    Path("s.json").write_text("{}")
    assert "s.json: not the state of a stream, or damaged" in fails(1, *words)


@pytest.mark.filterwarnings("ignore:.*columns have no names")
def test_a_bad_row_in_the_middle_can_be_mended(files: Path) -> None:
    X = np.load("day1.npy")
    pd.DataFrame(X).to_csv("day.csv", index=False)
    Path("bad.csv").write_text(Path("day.csv").read_text().rstrip() + "\n1,2,x,4,5,6\n")
    words = ("--model", "m.vae", *FDR, "--state", "s.json", "--output", "s.csv")
    assert "row 40" in fails(1, "score", "bad.csv", *words)
    message = fails(1, "score", "day.csv", *words)
    assert "run its command again first, on the same data, or remove" in message
    Path("s.csv.partial").unlink()
    assert run("score", "day.csv", *words).exit_code == 0
    rule = json.loads(Path("s.json").read_text())["rule"]
    assert rule["rows"] == 40
    np.testing.assert_array_equal(pd.read_csv("s.csv")["decision"], score("day1.npy", *FDR)["decision"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--stream", "--stream needs either --fdr or --adaptive"),
        ("--stream --fdr 0.1 --adaptive 0.1", "--stream needs either --fdr or --adaptive"),
        ("--adaptive 0.1", "--adaptive and --state go with --stream"),
        ("--fdr 0.1 --state s.json", "--adaptive and --state go with --stream"),
        ("--stream --fdr 0.1 --dependence arbitrary", "--stream --fdr rests on samples independent of each other"),
        ("--stream --fdr 0.1 --resume --output s.csv", "--stream goes on from --state: leave out --resume"),
        ("--stream --fdr 0.1 --state s.json", "--state needs --output and a file or folder"),
        ("--stream --fdr 0.1 --engine processes --output s", "takes no --fdr, --stream or --resume"),
        ("--stream --adaptive 0.1 --engine processes --output s", "takes no --fdr, --stream or --resume"),
    ],
)
def test_options_that_do_not_go_together_are_refused(files: Path, words: str, message: str) -> None:
    assert message in fails(2, "score", "day1.npy", "--model", "m.vae", *words.split())


def test_a_stream_from_a_pipe_has_no_state(files: Path) -> None:
    words = ("--model", "m.vae", *FDR, "--state", "s.json", "--output", "s.csv")
    assert "--state needs --output and a file or folder" in fails(2, "score", "-", *words, input=b"")


def test_coarse_p_values_are_named_and_so_is_the_end_of_a_stream(files: Path) -> None:
    n = len(FittedModel.load("m.vae").calibration_scores)
    none = run("score", "day1.npy", "--model", "m.vae", "--stream", "--fdr", "0.001")
    assert f"warning: no row can be flagged at --fdr 0.001, since {n} held-out normals give no p-value" in none.stderr
    assert not pd.read_csv(io.StringIO(none.stdout))["decision"].any()
    np.save("quiet.npy", np.tile(np.load("day1.npy")[:1] * 0, (2000, 1)))
    quiet = run("score", "quiet.npy", "--model", "m.vae", *FDR)
    rule = OnlineFDR(0.5, n_normals=n)
    assert f"so after about {2 * rule.rows_of_a_budget} normals in a row no row can be flagged any more" in quiet.stderr
    assert "warning: no row can be flagged any more: 0 of 2,000 were" in quiet.stderr


def test_a_model_with_delta_has_p_values_that_need_no_larger_ones(files: Path) -> None:
    assert run("calibrate", "m.vae", "--rate", "0.3", "--delta", "0.1", "--output", "delta.vae").exit_code == 0
    result = run("score", "both.npy", "--model", "delta.vae", *FDR)
    assert result.exit_code == 0, result.output
    scores = pd.read_csv(io.StringIO(result.stdout))
    n = len(FittedModel.load("delta.vae").calibration_scores)
    decisions = OnlineFDR(0.5, n_normals=n, delta=0.1).update(scores["p_value"])
    np.testing.assert_array_equal(scores["level"], decisions.levels)


def test_a_column_of_the_data_keeps_out_of_the_way(own_folder: Path, make_table) -> None:
    pd.DataFrame(make_table(60), columns=list("abcdef")).assign(level=range(60)).to_csv("day.csv", index=False)
    words = ("--epochs", "2", "--no-report", "--identifier", "level", "--output", "m.vae")
    assert run("fit", "--data", "day.csv", *words).exit_code == 0
    scores = score("day.csv", *FDR)
    assert scores["level (in the data)"].tolist() == list(range(60))
    assert scores["level"].max() <= 0.5
