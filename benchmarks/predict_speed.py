"""Seconds of model time for one photograph of 640 pixels, start-up left out.

Run: python benchmarks/predict_speed.py PHOTOGRAPH [--vocab 'cat:head,ear,tail'] [--checkpoint FOLDER] [--threads 2]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from langhops_cli.data.pictures import read_picture
from langhops_cli.prediction.predictor import Predictor

SIDE = 640


def main() -> None:
    """Load, warm up, time, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("photograph", type=Path)
    options.add_argument("--vocab", default="cat:head,ear,eye,tail; person:hair,hand; car:wheel*4,door; cup:handle")
    options.add_argument("--checkpoint", type=Path)
    options.add_argument("--device", default="cpu")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--repeats", type=int, default=10)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    predictor = Predictor.from_pretrained(given.checkpoint, device=given.device)
    image = read_picture(given.photograph)
    scale = SIDE / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)))

    def predict() -> float:
        start = time.perf_counter()
        predictor.predict(image, given.vocab, min_score=0.05)
        return time.perf_counter() - start

    first = predict()  # embeds the names, which later calls remember
    times = sorted(predict() for _ in range(given.repeats))
    sys.stdout.write(
        f"{image.width} x {image.height} pixels, {predictor.device}, {torch.get_num_threads()} threads: "
        f"median {median(times):.3f} s, fastest {times[0]:.3f}, slowest {times[-1]:.3f} of {len(times)}; "
        f"first call {first:.3f} s\n"
    )


if __name__ == "__main__":
    main()
