"""What the numbers of a report are, in one or two sentences each: the page shows them where the numbers stand."""

from __future__ import annotations

GLOSSARY: dict[str, tuple[str, str]] = {
    "anomaly_score": (
        "anomaly score",
        "How anomalous a sample is: higher is more anomalous. With the score elbo it is the KL term minus the "
        "reconstruction term, the negative of a lower bound on the sample's log-density, in nats.",
    ),
    "reconstruction": (
        "reconstruction term",
        "Expected log-density of the sample given its latent code, in nats: low where the model cannot draw the "
        "sample. Higher is more normal.",
    ),
    "kl": (
        "KL term",
        "How far the sample's latent code lies from where those of normals lie, in nats (a Kullback-Leibler "
        "divergence). Higher is more anomalous.",
    ),
    "p_value": (
        "p-value",
        "Share of held-out normals, the sample itself counted among them, that score at least as high. A new normal "
        "gets a value of at most t with probability at most t.",
    ),
    "threshold": (
        "threshold",
        "Anomaly score above which a sample is flagged, with the interval in which it would lie, 19 times in 20, for "
        "other held-out normals.",
    ),
    "expected_false_alarms": (
        "expected false alarms",
        "Share of new normals to expect above the threshold, from the normals that were held out of the training, with "
        "its exact 95 % interval.",
    ),
    "promised_false_alarms": (
        "promised false alarms",
        "Range in which the share of false alarms among as many normals as here lies, 19 times in 20, if they are like "
        "the held-out ones.",
    ),
    "roc_auc": (
        "ROC-AUC",
        "Probability that an anomaly scores higher than a normal sample: 0.5 is chance, 1 is perfect. The 95 % "
        "interval is DeLong's.",
    ),
    "average_precision": (
        "average precision",
        "Mean precision over all recalls: area under the precision-recall curve as a sum of steps. Chance is the share "
        "of anomalies. The 95 % interval is a bootstrap's.",
    ),
    "fpr_at_95_tpr": (
        "false alarms at 95 % found",
        "Smallest share of normals flagged by a threshold that finds 95 % of the anomalies.",
    ),
    "tpr_at_1_fpr": (
        "found at 1 % false alarms",
        "Largest share of anomalies found by a threshold that flags at most 1 % of the normals.",
    ),
    "detection_rate": ("anomalies found", "Share of the anomalies that are flagged, with its exact 95 % interval."),
    "false_alarm_rate": ("false alarms", "Share of the normal samples that are flagged, with its exact 95 % interval."),
    "precision": ("precision", "Share of the flagged samples that are anomalies. It depends on how many there are."),
    "flagged": ("flagged", "Samples whose anomaly score lies above the threshold."),
    "true_positives": ("found", "Anomalies that are flagged (true positives)."),
    "false_negatives": ("missed", "Anomalies that are not flagged (false negatives)."),
    "false_positives": ("false alarms", "Normal samples that are flagged (false positives)."),
    "true_negatives": ("rightly passed", "Normal samples that are not flagged (true negatives)."),
    "p_value_check": (
        "p-values of the normals",
        "Largest distance between the distribution of the normals' p-values here and the uniform one (Kolmogorov-"
        "Smirnov), and the probability of one so large if they are like the held-out normals. A small probability says "
        "that they are not, and that the promised false-alarm rate may not hold.",
    ),
    "held_out": (
        "held-out normals",
        "Normal samples that nothing was fitted on: thresholds and p-values rest on them.",
    ),
    "n_normal": ("normal samples", "Samples labelled normal."),
    "n_anomalous": ("anomalous samples", "Samples labelled anomalous."),
    "n_samples": ("samples", "All samples of this report, labelled or not."),
    "observed": ("observed", "The sample's value, in the feature's own units."),
    "expected": ("expected", "What the model expects for this sample, in the feature's own units."),
    "spread": ("expected spread", "Standard deviation that the model expects around the expected value."),
    "excess": (
        "excess nats",
        "What the feature adds to the anomaly score beyond what the model predicts that it will: minus its "
        "log-density, less the entropy of what is expected. About zero for a value like the expected ones.",
    ),
    "above_typical": (
        "against typical",
        "By how many nats this term makes the anomaly score higher than it does for the median held-out normal.",
    ),
    "residual": (
        "residual",
        "Input minus what the model expects, pixel by pixel: red where the input is brighter than expected, blue "
        "where it is darker, on one scale for all samples shown.",
    ),
}
