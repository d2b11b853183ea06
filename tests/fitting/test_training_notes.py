"""Notes on trainings that went wrong, and none on others."""

from __future__ import annotations

import pytest

from helpers import Make
from vae_anomaly import VAEDetector
from vae_anomaly.errors import TrainingWarning
from vae_anomaly.fitting import training_notes
from vae_anomaly.fitting.training_notes import COLLAPSED_KL, EPOCHS_TO_LEARN, notes_on_training
from vae_anomaly.history import EpochRecord


def history(elbos: list[float], kl: float = 3.0) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=i + 1,
            learning_rate=1e-3,
            reconstruction=elbo,
            kl=kl,
            validation_reconstruction=elbo + kl,
            validation_kl=kl,
        )
        for i, elbo in enumerate(elbos)
    ]


def test_a_training_that_went_well_has_no_note() -> None:
    assert notes_on_training(history([-50.0, -20.0, -18.0, -19.0, -25.0]), 6) == []
    assert notes_on_training(history([-5e9, -20.0, -18.0]), 6) == []  # however poor it was at first


@pytest.mark.parametrize("n", [EPOCHS_TO_LEARN - 1, EPOCHS_TO_LEARN])
def test_latents_that_carry_nothing_are_noted_once_they_had_time(n: int) -> None:
    notes = notes_on_training(history([-20.0] * n, kl=COLLAPSED_KL / 2), 6)
    assert [note.startswith("posterior collapse: the latents carry 0.0005 nats") for note in notes] == (
        [True] if n == EPOCHS_TO_LEARN else []
    )


def test_an_elbo_that_exploded_is_noted_with_its_epoch() -> None:
    (note,) = notes_on_training(history([-50.0, -20.0, -4e6, -30.0, -19.0]), 6)
    assert note.startswith("training was unstable: in epoch 3 the validation ELBO was -4e+06, after -20 before; ")
    assert "the weights are those of epoch 5: lower learning_rate" in note


def test_a_fit_warns(make_table: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_notes, "EPOCHS_TO_LEARN", 1)
    monkeypatch.setattr(training_notes, "COLLAPSED_KL", 10.0)
    with pytest.warns(TrainingWarning, match="posterior collapse"):
        VAEDetector(epochs=1).fit(make_table(60))
