"""The variational autoencoder: q(z|x), p(x|z), p(z) and the ELBO; pure torch, knows no files."""
