"""dots: how many dots there are; a benchmark outside of the package, three rows of it drawn here.

python examples/dots_benchmark/draw.py DATA_DIR
avar-eval --include-path examples/dots_benchmark --data-dir DATA_DIR --model avar-tiny --tasks dots
"""
