"""A Triton backend that compiles nothing: with TRITON_INTERPRET=1, vLLM's V2 runner works on a machine without GPU.

vLLM turns Triton, and with it the V2 runner, off where no backend for its platform is installed; on CPUs it asks for
one called `cpu`. Kernels run in Triton's interpreter, so nothing of a backend is ever called.
"""
