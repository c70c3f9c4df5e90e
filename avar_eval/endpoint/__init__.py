"""A server that speaks OpenAI's chat completions, asked by the api backend and by the judge: nothing of it is trusted.

`url` says which places may be named, `exchange` sends one request and bounds the reply in time and size, `reply` reads
it, `failure` sorts what may go wrong by what is to be done, `parameters` learns which of them a server takes otherwise.
"""
