"""How published evaluations ask, each a YAML file: prompts, pixels, decoding, token limit, verdict, and its source."""
