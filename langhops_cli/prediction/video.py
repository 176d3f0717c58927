"""Videos: the frames of one, upright and numbered, and pictures put together to one that browsers play."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from langhops_cli.checkpoint.files import write_whole
from langhops_cli.errors import DATA, ENVIRONMENT, UserError

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".ogv"}
    | {".3gp"}
)
USUAL_FPS = 25.0
"""Frames a second where a file does not say."""
SLACK_SHARE, SLACK_SECONDS = 0.05, 1.0
"""So much earlier than it claims a video may end and still count as whole."""

_TICKS = 90_000
"""Ticks a second in a file that is written: every usual frame rate is a whole number of them, or very nearly."""
_UPRIGHT = {
    # turned about the main diagonal, then mirrored left to right, then upside down
    (False, True, False): Image.Transpose.FLIP_LEFT_RIGHT,
    (False, False, True): Image.Transpose.FLIP_TOP_BOTTOM,
    (False, True, True): Image.Transpose.ROTATE_180,
    (True, False, False): Image.Transpose.TRANSPOSE,
    (True, True, False): Image.Transpose.ROTATE_270,
    (True, False, True): Image.Transpose.ROTATE_90,
    (True, True, True): Image.Transpose.TRANSVERSE,
}


def is_video(path: str | Path) -> bool:
    """Whether a file is a video by the ending of its name; GIF and WebP count as pictures."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def frame_name(path: str | Path, number: int) -> str:
    """Return what the prediction of a frame calls its picture: "clip.mp4#123"."""
    return f"{path}#{number}"


class Video:
    """A video file; each walk through its frames opens it anew.

    Its length, `len(video)`, is what the file claims: good for a progress bar, not for counting on.

    Args:
        path: the file.

    Attributes:
        fps: frames a second, on average.
        size: height and width of an upright frame in pixels.

    Raises:
        UserError: the file is missing, empty or no video, or no frame of it can be read; or PyAV is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._opened() as (container, stream):
            rate = stream.average_rate or stream.guessed_rate
            self.fps = float(rate) if rate else USUAL_FPS
            self._seconds = _claimed_seconds(container, stream)
            self._length = int(stream.frames) or round(self._seconds * self.fps)
            first = next(self._decoded(container, stream, []), None)
            if first is None:
                raise UserError(f"{self.path} holds no frame that can be read; give a whole video.", code=DATA)
            turned = _orientation(first)[0]
            self.size: tuple[int, int] = (first.width, first.height) if turned else (first.height, first.width)

    def __len__(self) -> int:
        return self._length

    def frames(self, *, step: int = 1, start: int = 0) -> Iterator[tuple[int, float, Image.Image]]:
        """Walk through the frames.

        All frames are decoded, as most hold only what differs from others, but only those asked for are converted; so
        a frame has the same number whatever `step` and `start`. Masks fit the stored pixels: a file whose pixels are
        not square is not stretched. Pieces that cannot be read are passed over and reported at the end.

        Args:
            step: every so many frames are wanted: those whose number is a multiple of it.
            start: number of the first frame that may come.

        Yields:
            Number of the frame from 0, its time in seconds after the first, and the picture: RGB, upright.

        Raises:
            ValueError: `step` is below 1 or `start` below 0.
            UserError: after the last frame, where pieces could not be read or the file is cut off.
        """
        if step < 1 or start < 0:
            raise ValueError(f"step must be at least 1 and start at least 0, got {step} and {start}")
        faults: list[str] = []
        with self._opened() as (container, stream):
            first: float | None = None
            end = 0.0
            for number, frame in enumerate(self._decoded(container, stream, faults)):
                # Raw streams and some AVI files know no times.
                time = number / self.fps if frame.pts is None else float(frame.pts * stream.time_base)
                first = time if first is None else first
                end = max(end, time - first + float((frame.duration or 0) * stream.time_base))
                if number >= start and number % step == 0:
                    yield number, time - first, _picture(frame)
        if end < self._seconds * (1 - SLACK_SHARE) - SLACK_SECONDS:
            faults.append(f"ends after {end:.1f} of {self._seconds:.1f} seconds")
        if faults:
            raise UserError(f"{self.path} {' and '.join(faults)}; what could be read was used.", code=DATA)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """The open file and its video stream."""
        av = av_package()
        try:
            # Without the prefix a name such as "12:30.mp4" would be taken for an address.
            container = av.open(f"file:{self.path}", metadata_errors="replace")
        except FileNotFoundError:
            raise UserError(f"{self.path} does not exist; check the path.", code=DATA) from None
        except PermissionError:
            raise UserError(f"{self.path} may not be read; check its permissions.", code=DATA) from None
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UserError(_explain(self.path, error), code=DATA) from None
        with container:
            stream = container.streams.best("video")
            if stream is None:
                raise UserError(f"{self.path} holds sound but no pictures; take it out.", code=DATA)
            if stream.codec_context is None:
                raise UserError(f"{self.path} is of a kind that cannot be decoded; convert it to MP4.", code=DATA)
            stream.thread_type = "AUTO"
            yield container, stream

    def _decoded(self, container: Any, stream: Any, faults: list[str]) -> Iterator[Any]:
        """Yield the frames as PyAV has them, and add to `faults` how much could not be read."""
        error_kind = av_package().error.FFmpegError
        broken = shown = 0
        demuxed = container.demux(stream)
        while True:
            try:
                packet = next(demuxed, None)
            except error_kind:
                packet = None  # what follows cannot be found, but the decoder still holds frames
            if packet is None or not packet.size:
                break
            try:
                frames = packet.decode()
            except error_kind:
                # A recording that begins anywhere has pieces before its first frame that no player can show.
                broken += shown > 0
                continue
            shown += len(frames)
            yield from frames
        try:
            yield from stream.decode(None)
        except error_kind:
            broken += 1
        if broken:
            faults.append(f"has {broken:,} piece{'s' * (broken > 1)} that cannot be read")


def write_video(path: Path, frames: Iterable[tuple[float, Image.Image]], *, fps: float) -> None:
    """Write pictures as an MP4 file (H.264) that browsers play; it is there whole or not at all.

    Args:
        path: the file to make or replace.
        frames: time of each picture in seconds, rising, and the picture, RGB; one of another size than the first is
            stretched to it. An odd side gets one more row or column, as the format wants even ones.
        fps: frames a second; how long the last picture stays follows from it.

    Raises:
        ValueError: there is no picture.
        UserError: PyAV is not installed or cannot write H.264.
    """
    write_whole(path, lambda beside: _encode(beside, frames, fps))


def _encode(path: Path, frames: Iterable[tuple[float, Image.Image]], fps: float) -> None:
    av = av_package()
    if "libx264" not in av.codecs_available:
        raise UserError("this build of av cannot write H.264; pip install --force-reinstall av", code=ENVIRONMENT)
    duration = max(1, round(_TICKS / fps))
    stream, first, last = None, 0.0, -1
    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
        for seconds, image in frames:
            if stream is None:
                stream, first = _new_stream(container, image.size, fps), seconds
            frame = av.VideoFrame.from_image(_evened(image, (stream.width, stream.height)))
            frame = frame.reformat(format="yuv420p", dst_colorspace="itu709", dst_color_range="MPEG")
            last = max(last + 1, round((seconds - first) * _TICKS))  # players refuse times that do not rise
            frame.pts, frame.time_base, frame.duration = last, Fraction(1, _TICKS), duration
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("there is no picture to write")
        container.mux(stream.encode(None))


def _new_stream(container: Any, size: tuple[int, int], fps: float) -> Any:
    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
    stream.width, stream.height = (side + side % 2 for side in size)
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": "20", "preset": "fast"}
    context = stream.codec_context
    context.time_base = Fraction(1, _TICKS)
    # BT.709 with values of 16 to 235; a browser that is not told guesses by the size of the picture.
    context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
    return stream


def _evened(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture as RGB at the video's size, its last row and column repeated where it lacks one."""
    rgb = image.convert("RGB")
    down, right = size[1] - rgb.height, size[0] - rgb.width
    if (down, right) == (0, 0):
        return rgb
    if 0 <= down <= 1 and 0 <= right <= 1:
        return Image.fromarray(np.pad(np.asarray(rgb), ((0, down), (0, right), (0, 0)), mode="edge"))
    return rgb.resize(size, Image.Resampling.LANCZOS)


def _claimed_seconds(container: Any, stream: Any) -> float:
    """How long the pictures of a file last by its own account, 0 where it does not say."""
    if container.format.name == "avi" and stream.average_rate:  # its times are worked out from the size of the file
        return float(stream.frames / stream.average_rate)
    # A recording that was trimmed keeps the old length in the stream, and sound may last longer than the pictures.
    known = []
    if stream.duration:
        known.append(float(stream.duration * stream.time_base))
    if container.duration and (known or not container.streams.audio):
        known.append(container.duration / av_package().time_base)
    return min(known, default=0.0)


def _picture(frame: Any) -> Image.Image:
    picture: Image.Image = frame.to_image()
    turn = _UPRIGHT.get(_orientation(frame))
    return picture if turn is None else picture.transpose(turn)


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """How a frame is to be shown: turned about its diagonal, then mirrored left to right, then upside down.

    Source: ISO/IEC 14496-12, the matrix of the track header: x' = a x + c y, y' = b x + d y.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    (a, b, _), (c, d, _) = np.frombuffer(bytes(data), dtype=np.int32)[:6].reshape(2, 3).tolist()
    turned = abs(b) > abs(a)
    return turned, (c if turned else a) < 0, (b if turned else d) < 0


def _explain(path: Path, error: Exception) -> str:
    if path.is_dir():
        return f"{path} is a folder, not a video."
    size = path.stat().st_size
    if not size:
        return f"{path} is empty (0 bytes); take it out or give a whole file."
    reason = getattr(error, "strerror", None) or str(error)
    return f"{path} cannot be read as a video ({reason}); it is cut off after {size:,} bytes or no video."


def av_package() -> ModuleType:
    """Return PyAV, which an installation without videos does not have.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError("videos need PyAV: pip install 'langhops[video]'", code=ENVIRONMENT) from None
    return av
