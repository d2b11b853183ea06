r"""The contract of a likelihood :math:`p(x|z)`: one object, used by training and by scoring alike.

A likelihood reads a decoder's output ``decoded``, ``(N, D)``, as its parameters. Its laws, in nats:

1. :math:`\int \exp(\mathtt{log\_prob}) \, dx = 1` over its support, unless it is registered with ``normalised=False``.
   Then ``-log_prob`` is an *energy* in nats: energies of one model can be compared, and the ELBO made of them bounds no
   log p(x). ``as_density`` gives a likelihood that does integrate to one.
2. ``bind(x)(decoded)`` is ``log_prob(x, decoded)``; the two parts of ``bind_means(decoded)(x)`` are together
   ``log_prob_of_pairs(x, decoded)``.
3. The rows of ``log_prob_of_features`` sum to ``log_prob``. What belongs to no single feature, such as a determinant,
   is spread evenly over all of them.
4. ``mean`` and ``variance_of_features`` are the first two moments of the rows that it draws, and
   ``entropy_of_features`` is the mean of ``-log_prob_of_features`` over these rows.
5. A row's values depend on no other row.
6. ``learn`` with weight 1 and ``fit_after_training`` move only its buffers, and those in ``positive_buffers`` stay
   above zero. ``learn`` moves them in place and depends on its arguments and them alone: a GPU repeats a training step
   from a recording (`vae_anomaly.fitting.captured_step`), in which a counter of Python's would stand still.

What has to be known before torch is imported is in its entry in the registry, and nowhere else:

- ``support``: the closed interval that the data must lie in, if it is not the real line;
- ``normalised=False``: it is an energy, as law 1 says;
- ``gaussian``: its log-density falls with a squared distance, and it has the two methods that average over many decoded
  means at once, which exemplars as a prior need;
- ``needs_images``: it is for images only;
- ``brought_by``: the architecture that brings it, so that a user cannot choose it by name;
- ``stands_for``: the name by which a user may still ask for it with that architecture;
- ``prior_fits``: by prior, the key of `vae_anomaly.registry.PRIOR_FITS` that fits it, where it is not the prior's own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Self

from torch import Tensor, nn

from vae_anomaly.columns import Columns
from vae_anomaly.model.pairs import weighted_moments
from vae_anomaly.registry import LIKELIHOODS


class Likelihood(nn.Module):
    """A distribution of rows given what a decoder made of latents; the module's docstring has its laws."""

    positive_buffers: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def for_samples(cls, image_shape: tuple[int, ...] | None, columns: Columns | None = None) -> Self:
        """The likelihood, nothing fitted yet.

        Parameters
        ----------
        image_shape
            Height, width and channels of images; None for other rows.
        columns
            What the columns are, of a table that has more than plain numbers.
        """
        return cls()

    @property
    def support(self) -> tuple[float, float] | None:
        """The closed interval that the data must lie in, as the registry has it; None: the real line."""
        support: tuple[float, float] | None = LIKELIHOODS.entry(LIKELIHOODS.name_of(type(self))).facts.get("support")
        return support

    @property
    def normalised(self) -> bool:
        """Whether the exponential of ``log_prob`` integrates to one, as the registry has it."""
        return bool(LIKELIHOODS.entry(LIKELIHOODS.name_of(type(self))).facts.get("normalised", True))

    def as_density(self) -> Likelihood:
        """A likelihood for the same decoder's output that integrates to one: itself, if it is normalised."""
        return self

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Log-density of each row, ``(N,)``, in nats; a negative energy, if the likelihood is not normalised."""
        return self.log_prob_of_features(x, decoded).sum(dim=-1)

    def bind(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """``log_prob`` of fixed rows as a function of the decoder's output: work on x alone is done once."""
        return partial(self.log_prob, x)

    def log_prob_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Each feature's share of the log-density, ``(N, D)``, in nats."""
        raise NotImplementedError

    def mean(self, decoded: Tensor) -> Tensor:
        """Expected value of each feature, ``(N, D)``."""
        return decoded

    def variance_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Variance of each feature around its mean, ``(N, D)`` float64."""
        raise NotImplementedError

    def entropy_of_features(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Mean of ``-log_prob_of_features`` over rows that the likelihood itself draws, ``(N, D)``, in nats.

        This default is for log-densities that are linear in each feature: their mean is their value at the mean.
        """
        return -self.log_prob_of_features(self.mean(decoded), decoded)

    def log_prob_of_pairs(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Log-density of rows ``(N, D)`` under each of n decoded means ``(n, D)``: ``(N, n)`` float64, in nats.

        Raises
        ------
        TypeError
            If the likelihood is not Gaussian.
        """
        of_pairs, of_rows = self.bind_means(decoded)(x)
        return of_pairs + of_rows[:, None]

    def bind_means(self, decoded: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """``log_prob_of_pairs`` of fixed means as a function of rows: work on the means alone is done once.

        It gives what may differ between the means, ``(N, n)`` float64 and not used elsewhere, and what is to be added
        for all means alike, ``(N,)`` float64, which is often nearly as large, and of the other sign.

        Raises
        ------
        TypeError
            If the likelihood is not Gaussian.
        """
        raise TypeError(f"exemplars need a Gaussian likelihood, not {type(self).__name__}")

    def widened(self, decoded: Tensor, spread: Tensor) -> tuple[Self, Tensor]:
        """White noise with ``spread`` times the variance, and n decoded means ``(n, D)`` that belong to it.

        Raises
        ------
        TypeError
            If the noise is not white.
        """
        raise TypeError(f"small sets of exemplars need white noise, not {type(self).__name__}")

    def mean_log_prob_of_features(self, x: Tensor, decoded: Tensor, weights: Tensor) -> Tensor:
        """``log_prob_of_features`` averaged over n decoded means ``(n, D)`` by ``weights`` ``(N, n)``: ``(N, D)``.

        In double precision.

        Raises
        ------
        TypeError
            If the likelihood is not Gaussian.
        """
        raise TypeError(f"exemplars need a Gaussian likelihood, not {type(self).__name__}")

    def mixture_moments(self, x: Tensor, decoded: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and entropy of each feature, ``(N, D)`` float64, averaged over n decoded means.

        Parameters
        ----------
        x
            Scaled rows ``(N, D)``.
        decoded
            ``(n, D)``.
        weights
            ``(N, n)``, which sum to one in each row.
        """
        mean, variance = weighted_moments(decoded, weights)
        return mean, variance + self.variance_of_features(x, mean), self.entropy_of_features(x, mean).double()

    @property
    def exemplar_parameters(self) -> int | None:
        """Numbers that describe p(x|z) for one exemplar; None: one a feature, as a decoder gives them."""
        return None

    @property
    def shared_variance(self) -> Tensor | None:
        """The buffer ``()`` with the one variance of white noise; None if the noise has more parameters than that."""
        return None

    def training_log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """What training maximises, ``(N,)``, in nats: the log-density, unless a subclass differs."""
        return self.log_prob(x, decoded)

    def learn(self, x: Tensor, decoded: Tensor, weight: float | Tensor) -> Tensor:
        """Move the buffers towards the best for this batch by ``weight`` in (0, 1]; return ``training_log_prob``.

        On a GPU the weight is a tensor ``()`` there.
        """
        return self.training_log_prob(x, decoded)

    def fit_after_training(self, x: Tensor, decoded: Tensor, codes: Tensor) -> None:
        """Fit the buffers once the networks are trained.

        Parameters
        ----------
        x, decoded
            Scaled rows and the decoder's output for one draw of their latents, ``(N, D)``.
        codes
            Latent means in units of the posterior's spread, ``(N, latent_dim)``.
        """

    def rescale_noise(self, x: Tensor, before: Tensor, after: Tensor) -> None:
        """Adapt to a new posterior spread: multiply the variance by the change of the mean squared residual of x.

        Parameters
        ----------
        x
            Scaled rows ``(N, D)``.
        before, after
            The decoder's output for latents drawn with the old and the new spread, ``(N, D)``.
        """
