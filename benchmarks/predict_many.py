"""Pictures per second and memory of a long `langhops predict`, and what a killed one has lost once it is run again.

The pictures are cut out of those of imgs/, each in another place and of another size. Memory is the most that the
process has held so far, which must not grow with the pictures.

Run: python benchmarks/predict_many.py [--pictures 1000] [--batch-size 1] [--device cpu] [--folder KEPT]
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from langhops_cli.prediction.export import read_predictions
from langhops_cli.prediction.job.record import RECORD
from langhops_cli.prediction.results import Prediction

REPOSITORY = Path(__file__).resolve().parents[1]
SHARES = (0.1, 0.5, 1.0)
SIDES = 240, 640
PAUSE = 0.2


def main() -> None:
    """Make pictures, predict them, predict them again with a kill in the middle, compare."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pictures", type=int, default=1000)
    options.add_argument("--vocab", default="face:hair,skin,eye*2,eyebrow*2,nose,neck; facade:window*8; car:wheel*3")
    options.add_argument("--checkpoint")
    options.add_argument("--device", default="auto")
    options.add_argument("--min-score", type=float)
    options.add_argument("--batch-size", type=int)
    options.add_argument("--workers", type=int)
    options.add_argument("--folder", type=Path, help="where pictures and results stay; else they are removed")
    given = options.parse_args()
    with nullcontext(given.folder) if given.folder else TemporaryDirectory() as place:
        folder = Path(place)
        pictures = make_pictures(folder / "pictures", given.pictures)
        words = ["predict", str(pictures), "--vocab", given.vocab, "--device", given.device]
        for name in ("checkpoint", "min_score", "batch_size", "workers"):
            if getattr(given, name) is not None:
                words += ["--" + name.replace("_", "-"), str(getattr(given, name))]
        whole, killed = folder / "whole", folder / "killed"
        predict(words, whole, given.pictures)
        end_half_way(words, killed, given.pictures)
        predict(words, killed, given.pictures)
        say(compare(whole / RECORD, killed / RECORD))


def make_pictures(folder: Path, number: int) -> Path:
    """Cut pictures out of those of imgs/; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [Image.open(path).convert("RGB") for path in sorted((REPOSITORY / "imgs").glob("*.jpg"))]
    rng = random.Random(0)
    for index in range(number):
        source = sources[index % len(sources)]
        width, height = (round(side * rng.uniform(0.5, 1)) for side in source.size)
        left, top = rng.randint(0, source.width - width), rng.randint(0, source.height - height)
        side = rng.randint(*SIDES)
        path = folder / f"{index:06d}.jpg"
        if not path.exists():
            cut = source.crop((left, top, left + width, top + height))
            cut.thumbnail((side, side))
            cut.save(path, quality=90)
    return folder


def start(words: Sequence[str], out: Path) -> subprocess.Popen[bytes]:
    """Start the command; what it prints goes into files beside its results."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "langhops_cli", *words, "--out", str(out)]
    paths = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    with out.with_suffix(".stdout").open("wb") as printed, out.with_suffix(".stderr").open("ab") as told:
        return subprocess.Popen(command, stdout=printed, stderr=told, env={**os.environ, "PYTHONPATH": paths})


def predict(words: Sequence[str], out: Path, number: int) -> None:
    """Run the command to its end; print its rate and its memory."""
    begun = time.monotonic()
    process = start(words, out)
    before = done = lines(out)
    first = None
    peaks: dict[float, int] = {}
    while process.poll() is None:
        done = lines(out)
        if first is None and done > before:
            first = time.monotonic(), done
        for share in SHARES:
            reached = done >= share * number > before
            if reached and share not in peaks and (peak := peak_memory(process.pid)):
                peaks[share] = peak
                if share == SHARES[-1] and first is not None and done > first[1]:
                    rate = (done - first[1]) / (time.monotonic() - first[0])
                    say(f"{done - before} pictures, {rate:.2f} a second once the first was done")
        time.sleep(PAUSE)
    if process.returncode:
        last = out.with_suffix(".stderr").read_text(encoding="utf-8").splitlines()[-1:]
        raise SystemExit(f"{out}: exit code {process.returncode}: {''.join(last)}")
    told = ", ".join(f"{peak / 1024:.0f} MiB at {share:.0%}" for share, peak in sorted(peaks.items()))
    say(f"memory at its peak: {told}; {time.monotonic() - begun:.1f} seconds from start to end")


def end_half_way(words: Sequence[str], out: Path, number: int) -> None:
    """Run the command until half of the pictures are done, and kill it."""
    process = start(words, out)
    while lines(out) < number // 2:
        if process.poll() is not None:
            raise SystemExit(f"{out}: ended by itself, with exit code {process.returncode}")
        time.sleep(PAUSE)
    process.send_signal(signal.SIGKILL)
    process.wait()
    say(f"killed with {lines(out)} of {number} pictures done")


def lines(out: Path) -> int:
    """Pictures in the record."""
    record = out / RECORD
    if not record.exists():
        return 0
    with record.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def peak_memory(process: int) -> int:
    """The most memory that a process has held, in KiB; 0 for one that is gone."""
    try:
        text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s*(\d+)", text)
    return int(found[1]) if found else 0


def compare(one: Path, other: Path) -> str:
    """Say whether two records hold the same."""
    if one.read_bytes() == other.read_bytes():
        return "the record of the run that was killed is equal, byte for byte, to that of the one that was not"
    first, second = ({found.picture: found for found in read_predictions(path)} for path in (one, other))
    lost, more = first.keys() - second.keys(), second.keys() - first.keys()
    differing = [name for name in first.keys() & second.keys() if not equal(first[name], second[name])]
    return f"{len(lost)} pictures lost, {len(more)} too many, {len(differing)} with other instances"


def equal(one: Prediction, other: Prediction) -> bool:
    """Whether two predictions name the same things in the same places, up to the rounding of other batches."""
    return [found.path for found in one] == [found.path for found in other] and all(
        (a.mask & b.mask).sum() >= 0.9 * (a.mask | b.mask).sum() for a, b in zip(one, other, strict=True)
    )


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
