"""Every checkpoint of a training is scored: which are complete (`complete`), and scoring them (`scoring`, `watch`)."""
