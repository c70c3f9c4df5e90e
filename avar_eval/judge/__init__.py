"""A judge model's verdict on responses, beside those of the rules: optional, through any OpenAI-compatible endpoint.

`model` says which judge, `prompts` what it is asked, `client` asks it with bounded patience, `replies` keeps what
it said, `verdict` makes outcomes of that.
"""
