"""What ``vae-anomaly fit`` prints: the data, the model, how the training went, and the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vae_anomaly.calibration.result import BY_FOLDS
from vae_anomaly.cli.column_text import column_lines
from vae_anomaly.cli.evaluate import describe_evaluation
from vae_anomaly.cli.text import alignment_line, comma_separated, describe_calibration, terminal_text, titled
from vae_anomaly.history import best_epoch, validation_elbo
from vae_anomaly.registry import LIKELIHOODS

if TYPE_CHECKING:
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.storage.rows import Rows


def describe_data(name: str, training: Rows, normal: tuple[str, ...] | None) -> dict[str, Any]:
    """What the model was trained on, as the model file keeps it."""
    about = {
        "name": name,
        "source": training.source,
        "normal": None if normal is None else list(normal),
        "n_normal": len(training),
    }
    return about | ({} if training.in_memory else {"on_disk": True})


def describe_model(detector: VAEDetector, seconds: float) -> dict[str, Any]:
    """The model that was trained in so many seconds, and its best epoch."""
    from vae_anomaly.fitted_rows import PARTS

    history, fitted_on = detector.history_, detector.model_.fitted_on
    groups = None if fitted_on is None else fitted_on.n_groups
    best = history[best_epoch(history) - 1]
    return {
        "architecture": detector.architecture_,
        "likelihood": detector.likelihood_,
        "prior": detector.prior_,
        "score": detector.model_.score,
        "architecture_chosen_because": detector.metadata_.get("architecture"),
        "alignment": detector.model_.parameters["alignment"],
        "aligned_because": detector.metadata_.get("alignment"),
        "n_odd_images_left_out": detector.metadata_.get("n_odd_images_left_out", 0),
        "latent_dim": detector.noise_.shape[-1],
        "n_places": detector.vae_.encoder.n_places,
        "n_parameters": sum(weight.numel() for weight in detector.vae_.parameters()),
        "n_features": detector.n_features_in_,
        "image_shape": detector.image_shape_,
        "validation_fraction": detector.validation_fraction,
        "calibration_fraction": detector.calibration_fraction,
        "time_ordered": detector.time_ordered,
        "n_groups": None if groups is None else dict(zip(PARTS, groups, strict=True)),
        "seed": detector.random_state,
        "device": str(detector.vae_.scaling.loc.device),
        "precision": detector.precision_,
        "seconds": round(seconds, 2),
        "epochs": len(history),
        "best_epoch": best["epoch"],
        "validation_elbo": validation_elbo(best),
        "validation_reconstruction": best["validation_reconstruction"],
        "validation_kl": best["validation_kl"],
    }


def summary_text(summary: dict[str, Any]) -> str:
    """The summary of a fit as text."""
    lines = [
        *titled("data", data_lines(summary["data"], summary["model"], summary["threshold"])),
        *titled("columns", column_lines(summary["columns"])),
        *titled("model", model_lines(summary["model"])),
        *titled("training", training_lines(summary["model"])),
        *titled("threshold", describe_calibration(summary["threshold"])),
    ]
    if summary["model"]["score"] != "elbo":
        lines += titled("score", [summary["model"]["score"]])
    if summary["test"] is not None:
        lines += titled("test", describe_evaluation(summary["test"]))
    lines += titled("wrote", [", ".join(summary["files"].values())])
    return terminal_text(*lines)


def data_lines(data: dict[str, Any], model: dict[str, Any], threshold: dict[str, Any]) -> list[str]:
    images = model["image_shape"]
    shape = " x ".join(map(str, images)) + " images" if images else f"{model['n_features']} features"
    normal = f", normal: {comma_separated(data['normal'])}" if data["normal"] else ""
    limit = ", at most 20,000 samples or 32 MiB each, the rest read from disk" if data.get("on_disk") else ""
    by_part = f", {model['calibration_fraction']:.0%} to set the threshold"
    setting = "; all set the threshold, by folds" if threshold["basis"] == BY_FOLDS else by_part
    return [
        f"{data['source']}{normal}",
        f"{data['n_normal']:,} normal samples, {shape}; {model['validation_fraction']:.0%} held out to stop the "
        f"training{setting}{limit}",
        *division_lines(model),
    ]


def division_lines(model: dict[str, Any]) -> list[str]:
    """How rows were held out, where that is not at random and each alone."""
    groups = model["n_groups"]
    lines = ["in order of time: the first trained it, the last set the threshold"] if model["time_ordered"] else []
    if groups is not None:
        lines.append(
            f"whole groups: {groups['training']:,} trained it, {groups['validation']:,} stopped the training, "
            f"{groups['calibration']:,} set the threshold; what is promised of a new sample is promised of a new group"
        )
    return lines


def model_lines(model: dict[str, Any]) -> list[str]:
    n_places = model["n_places"]
    at_places = "" if n_places == 1 else f" at {n_places:,} places"
    lines = [
        f"{model['architecture']}, {model['likelihood']} likelihood, {model['prior']} prior, "
        f"{model['latent_dim'] // n_places} latents{at_places}, {model['n_parameters']:,} weights"
    ]
    if model["architecture_chosen_because"]:
        lines.append(f"{model['architecture']}, since {model['architecture_chosen_because']}")
    if model["alignment"] == "camera":
        lines.append(alignment_line(model["aligned_because"]))
    if model["n_odd_images_left_out"]:
        lines.append(f"fitted without {model['n_odd_images_left_out']:,} images that are unlike most others")
    if not LIKELIHOODS.entry(model["likelihood"]).facts.get("normalised", True):
        lines.append("the negative ELBO is an energy, to be compared within this model; log_density bounds log p(x)")
    return lines


def training_lines(model: dict[str, Any]) -> list[str]:
    of_what = "" if model["n_places"] == 1 else " of a patch"
    products = " with bfloat16 products" if model["precision"] == "bfloat16" else ""
    return [
        f"{model['epochs']} epochs in {model['seconds']:.1f} s on {model['device']}{products}, "
        f"best epoch {model['best_epoch']}, seed {model['seed']}",
        f"validation ELBO{of_what} in training {model['validation_elbo']:.1f} nats = reconstruction "
        f"{model['validation_reconstruction']:.1f} - KL {model['validation_kl']:.1f}",
    ]
