"""What the history of a training shows to be wrong with it, in a line each: the model may be poor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from vae_anomaly.history import EpochRecord, best_epoch, validation_elbo

COLLAPSED_KL = 1e-3  # nats a sample, of all latents together
EPOCHS_TO_LEARN = 30  # before which latents may carry nothing yet
EXPLODED = 10.0  # nats a feature below the best so far; a Gaussian's ELBO is then that of residuals 4 times as large


def notes_on_training(history: Sequence[EpochRecord], n_features: int) -> list[str]:
    """What to warn of: latents that carry nothing, and a validation ELBO that exploded on the way."""
    notes, best = [], best_epoch(history)
    kl = history[best - 1]["validation_kl"]
    if len(history) >= EPOCHS_TO_LEARN and kl < COLLAPSED_KL:
        notes.append(
            f"posterior collapse: the latents carry {kl:.1g} nats a sample, so all samples are reconstructed alike and "
            "scored by their distance from the mean; if they have structure, try more epochs, a higher "
            "learning_rate or a smaller input_noise"
        )
    elbos = [validation_elbo(record) for record in history]
    falls = [highest - elbo for highest, elbo in zip(accumulate(elbos, max), elbos, strict=True)]
    epoch = max(range(len(falls)), key=falls.__getitem__)
    if falls[epoch] > EXPLODED * n_features:
        notes.append(
            f"training was unstable: in epoch {epoch + 1} the validation ELBO was {elbos[epoch]:.4g}, after "
            f"{elbos[epoch] + falls[epoch]:.4g} before; the weights are those of epoch {best}: lower learning_rate, or "
            "look for extreme values in the data"
        )
    return notes
