"""Definitions of the numbers on the page, in one or two sentences each; the page shows them where the numbers are."""

from __future__ import annotations

GLOSSARY: dict[str, tuple[str, str]] = {
    "anomaly_score": (
        "anomaly score",
        "How anomalous a sample is: higher is more anomalous. With the score elbo it is the KL term minus the "
        "reconstruction term, in nats. Under a likelihood that is a density, that is the negative of a lower bound on "
        "the sample's log-density. That of images, correlated_gaussian, is none: its score is an energy, which can be "
        "compared within one model and nowhere else. With smallest_p, the default of images, it is minus the logarithm "
        "of the harmonic mean of three p-values, which the smallest rules: of the ELBO, of the worst place, and of an "
        "ELBO that is too high.",
    ),
    "reconstruction": (
        "reconstruction term",
        "Expected log-density of the sample given its latent code, in nats, or the negative of an energy. It is low if "
        "the model cannot reconstruct the sample. Higher is more normal.",
    ),
    "kl": (
        "KL term",
        "How far the distribution of the sample's latent code is from the prior (the Kullback-Leibler divergence), in "
        "nats. It is high if the code is unlike the codes of normals. Higher is more anomalous.",
    ),
    "p_value": (
        "p-value",
        "Share of held-out normals, with the sample itself counted as one of them, that score at least as high. A new "
        "normal gets a value of at most t with probability at most t.",
    ),
    "threshold": (
        "threshold",
        "Samples with a higher anomaly score are flagged. The interval shows how far the threshold depends on which "
        "normals were held out: the threshold that all normals would give is in at least 95 % of such intervals. "
        "It is unbounded where too few normals score so high.",
    ),
    "expected_false_alarms": (
        "expected false alarms",
        "Share of new normals that will be above the threshold, estimated from the held-out normals, with an interval "
        "that covers at least 95 %, also where scores are equal; for one threshold, not the best of many.",
    ),
    "promised_false_alarms": (
        "promised false alarms",
        "Range for the share of false alarms among as many normals as there are here. If they are like the held-out "
        "normals, the share is in this range 95 % of the time.",
    ),
    "roc_auc": (
        "ROC-AUC",
        "Probability that an anomaly scores higher than a normal sample: 0.5 is chance, 1 is perfect. The 95 % "
        "interval is Clopper and Pearson's, of as many trials as DeLong's variance is worth.",
    ),
    "average_precision": (
        "average precision",
        "Mean precision over all recalls: the area under the precision-recall curve, as a sum of steps. Chance is the "
        "share of anomalies. The 95 % interval allows for one normal more, and one fewer, above all anomalies.",
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
    "precision": (
        "precision",
        "Share of the flagged samples that are anomalies. It depends on how common anomalies are in the data.",
    ),
    "precision_at": (
        "precision at that share",
        "Share of the flagged samples that would be anomalies if anomalies were as common as stated.",
    ),
    "f1_at": (
        "F1 at that share",
        "Harmonic mean of that precision and the share of anomalies found.",
    ),
    "cost_at": (
        "cost of 1,000 samples",
        "Expected cost of the anomalies that are not flagged and the normals that are, if anomalies are as common as "
        "stated.",
    ),
    "flagged": ("flagged", "Samples whose anomaly score is above the threshold."),
    "true_positives": ("found", "Anomalies that are flagged (true positives)."),
    "false_negatives": ("missed", "Anomalies that are not flagged (false negatives)."),
    "false_positives": ("false alarms", "Normal samples that are flagged (false positives)."),
    "true_negatives": ("correctly not flagged", "Normal samples that are not flagged (true negatives)."),
    "p_value_check": (
        "p-values of the normals",
        "Largest distance between the distribution of the normals' p-values here and the uniform distribution "
        "(Kolmogorov-Smirnov), and the probability of a distance so large if these normals are like the held-out ones. "
        "If the probability is small, they differ, and the promised false-alarm rate may not hold.",
    ),
    "held_out": (
        "held-out normals",
        "Normal samples that nothing was fitted on; of a table below 1,000 rows all of them, each left out of its own "
        "score. Thresholds and p-values are computed from them.",
    ),
    "n_effective": (
        "held-out normals, weighted",
        "As how many equal ones the held-out normals count (effective sample size), since each is weighted by how "
        "often samples like it come in the target that the threshold is for; and the ROC-AUC of the classifier that "
        "tells both apart, 0.5 where nothing has shifted.",
    ),
    "n_normal": ("normal samples", "Samples labelled normal."),
    "n_anomalous": ("anomalous samples", "Samples labelled anomalous."),
    "n_samples": ("samples", "All samples of this report, labelled or not."),
    "observed": (
        "observed",
        "The sample's value, in the feature's own units; of a category its level. A gap is called missing.",
    ),
    "expected": (
        "expected",
        "The value that the model expects for this sample, in the feature's own units; of a category the likeliest "
        "level.",
    ),
    "spread": (
        "expected spread",
        "Standard deviation that the model expects around the expected value; of a category the probability of the "
        "expected level, in per cent.",
    ),
    "excess": (
        "excess nats",
        "How much the feature adds to the anomaly score beyond what the model predicts: minus the log-density of the "
        "value, minus the entropy of the distribution that the model expects. About zero for a value like the expected "
        "ones.",
    ),
    "above_typical": (
        "compared with typical",
        "By how many nats this term makes the negative ELBO higher than it does for the median held-out normal.",
    ),
    "residual": (
        "residual",
        "Input minus what the model expects, pixel by pixel: red where the input is brighter than expected, blue "
        "where it is darker. All samples shown have the same scale.",
    ),
    "heat": (
        "heat",
        "How odd each place of an image is: minus the logarithm of the probability that the worst place of a normal "
        "image is as bad, in nats. The scale is the model's, so that a normal image stays as it is; the colour is "
        "the strongest at twice the threshold for places.",
    ),
}
