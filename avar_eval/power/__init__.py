"""`avar-eval power`: what a comparison on a benchmark can find, and which of the paper's differences are told apart."""
