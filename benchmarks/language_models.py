"""Parameters, memory and time of the mini model with each language model, for one picture, with random weights.

    python benchmarks/language_models.py [NAME ...] [--device cpu] [--threads 2] [--repeats 3]

Nothing is fetched: every language model is built from its published numbers. Each row is measured in a process of its
own, with the same random picture and names: 10 objects of 4 parts, so 40 part queries behind 100 image tokens.
PaliGemma 2 stands here as its language model alone, Gemma 2 2B in bf16, without its image tower. Peak memory is what
building and running the whole model added. On a CPU the seconds are those spent computing, summed over the threads,
which other work on the machine changes little; on a GPU they are those that passed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from langhops_cli.model.configuration import LANGUAGE_MODELS, BaseModelConfig, ModelConfig

GEMMA = "gemma2-2b"
NAMES = (*(name for name in LANGUAGE_MODELS if name != "paligemma2-3b"), GEMMA)
VOCABULARY = "cat:head,ear,eye,tail"
HEIGHT, WIDTH = 320, 480
MIB = 2**20


def config_of(name: str) -> ModelConfig:
    """The mini preset with another language model."""
    mini = ModelConfig.preset("mini")
    if name == GEMMA:
        base = BaseModelConfig("language", "google/gemma-2-2b")
        return replace(mini, refiner=replace(mini.refiner, base=base, softcap=50.0, precision="bf16"))
    named = LANGUAGE_MODELS[name]
    base = BaseModelConfig(**named["base"])
    return replace(mini, refiner=replace(mini.refiner, base=base, softcap=named["softcap"]))


def measure(name: str, *, device: str, threads: int, repeats: int) -> dict[str, float | str]:
    """Build a model, run it, and say what it cost."""
    import numpy as np
    import torch

    from langhops_cli.checkpoint.skeleton import build_skeleton
    from langhops_cli.data.canvas import to_canvas
    from langhops_cli.model.structures import VocabularyBatch
    from langhops_cli.vocabulary import parse_vocabulary

    torch.set_num_threads(threads)
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pictures = to_canvas([pixels]).to(device)
    vocabulary = VocabularyBatch.of([parse_vocabulary(VOCABULARY)]).to(device)
    before = peak(device)
    torch.manual_seed(0)
    model = build_skeleton(config_of(name), device=device).eval()
    branch = model.part_branch
    assert branch is not None
    language = branch.refiner.language_model
    times: dict[str, list[float]] = {"refiner": [], "whole": []}
    waiting: list[float] = []
    branch.refiner.register_forward_pre_hook(lambda *_: waiting.append(now(device)))
    branch.refiner.register_forward_hook(lambda *_: times["refiner"].append(now(device) - waiting.pop()))
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = now(device)
            model(pictures, vocabulary)
            times["whole"].append(now(device) - start)
    parameters = list(language.parameters())
    return {
        "name": name,
        "type": str(language.dtype).removeprefix("torch."),
        "parameters": sum(item.numel() for item in parameters) / 1e6,
        "weights": sum(item.numel() * item.element_size() for item in parameters) / MIB,
        "peak": (peak(device) - before) / MIB,
        **{what: median(values[1:]) for what, values in times.items()},  # the first call also embeds the names
    }


def now(device: str) -> float:
    """Seconds of computing on a CPU; of a GPU those that passed, once it has done what it was told."""
    if device == "cpu":
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def peak(device: str) -> float:
    """The most bytes that this process has held so far."""
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure each language model in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all when left out")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"{', '.join(sorted(unknown))}: known are {', '.join(NAMES)}")
    shared = {"device": options.device, "threads": options.threads, "repeats": options.repeats}
    if options.one:
        sys.stdout.write(json.dumps(measure(options.one, **shared)))
        return
    titles = ("language model", "type", "parameters", "weights", "peak memory", "refiner", "whole picture")
    sys.stdout.write("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|\n")
    for name in options.names or NAMES:
        flags = [word for key, value in shared.items() for word in (f"--{key}", str(value))]
        command = [sys.executable, str(Path(__file__).resolve()), "--one", name, *flags]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        sys.stdout.write(
            f"| {row['name']} | {row['type']} | {row['parameters']:.1f} M | {row['weights']:,.0f} MiB | "
            f"{row['peak']:,.0f} MiB | {row['refiner']:.2f} s | {row['whole']:.2f} s |\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
