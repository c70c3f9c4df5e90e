"""How strict verdicts agree with published ones on R1-style outputs: `python tests/benchmarks/r1_agreement.py FILE…`.

A line of a file holds `response`, `answer`, `verdict` (published) and perhaps `extraction` (the published parser's).
Prints the agreement and every line that differs; those of the runs that we know are explained in avar_eval.answers.
"""

import argparse
import json
from pathlib import Path

from avar_eval.answers import judge_answer


def main() -> None:
    """The command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    for path in parser.parse_args().files:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n")]
        differing = 0
        for line in lines:
            judgement = judge_answer(line["response"], answer=str(line["answer"]), kind="expression")
            if judgement.correct != bool(line["verdict"]):
                differing += 1
                published = f"published {line['verdict']} of {line.get('extraction')!r}"
                strict = f"strict {judgement.correct} of {judgement.extracted!r} ({judgement.state})"
                print(f"{line['id']}: gold {line['answer']!r}, {published}, {strict}")
        print(f"{path.stem}: the same verdict on {len(lines) - differing} of {len(lines)}")


if __name__ == "__main__":
    main()
