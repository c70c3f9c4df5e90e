"""`python -m avar_eval` is `avar-eval`."""

from avar_eval.cli import main

if __name__ == "__main__":
    main()
