"""Diagnosis over models: `avar-eval profile`, where each of them looks, and `avar-eval correlate`, VAS and accuracy."""
