"""How well `ask` chooses names: the questions of tests/hierarchy/questions.yaml, with and without a language model.

    python benchmarks/ask_accuracy.py [--language-model FOLDER_OR_FILE] [--group report]

Prints over the questions of a group how often the best name is right, how many of the names chosen are right, how many
of those wanted were found, and how often both are so without a fault.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from langhops_cli.hierarchy.ask import Answer, ask
from langhops_cli.hierarchy.likelihood import PartLikelihood
from langhops_cli.hierarchy.similarity import NameEmbeddings
from langhops_cli.vocabulary import parse_vocabulary

QUESTIONS = Path(__file__).resolve().parent.parent / "tests/hierarchy/questions.yaml"


def marks(item: Mapping[str, Any], answer: Answer) -> tuple[float, float, float, float]:
    """Best name right, share of the chosen that is right, share of the wanted that is found, all right: 0..1 each."""
    right = [str(choice) in item["answer"] for choice in answer.chosen]
    covered = {" ".join(choice.path[:end]) for choice in answer.chosen for end in range(1, len(choice.path) + 1)}
    found = [name in covered for name in item.get("need", item["answer"])]
    return float(right[0]), float(np.mean(right)), float(np.mean(found)), float(all(right) and all(found))


def main() -> None:
    """Ask all questions of a group and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language-model", help="a causal one: folder, GGUF file or Hub id")
    parser.add_argument("--group", default="report", choices=("choose", "report"))
    options = parser.parse_args()
    model = PartLikelihood.from_pretrained(options.language_model) if options.language_model else None
    embeddings = NameEmbeddings()
    embeddings(["ready"])
    start = time.monotonic()
    rows = []
    for item in yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))[options.group]:
        answer = ask(item["ask"], parse_vocabulary(item["vocab"]), model, embeddings=embeddings)
        rows.append(marks(item, answer))
        if rows[-1][3] < 1:
            sys.stdout.write(f"{item['ask']}  {item['vocab']}: {', '.join(map(str, answer.chosen))}\n")
    best, precision, recall, whole = 100 * np.mean(rows, axis=0)
    each = (time.monotonic() - start) / len(rows)
    sys.stdout.write(
        f"{len(rows)} questions: best name right {best:.0f} %, chosen right {precision:.0f} %, "
        f"wanted found {recall:.0f} %, all right {whole:.0f} %; {each:.2f} s a question\n"
    )


if __name__ == "__main__":
    main()
