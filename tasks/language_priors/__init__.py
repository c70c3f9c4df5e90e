"""language_priors: to be written."""
