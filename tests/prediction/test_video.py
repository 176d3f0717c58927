"""Videos read and written; the files to read are made by PyAV alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from langhops_cli.errors import DATA, ENVIRONMENT, UserError
from langhops_cli.prediction.video import Video, frame_name, is_video, write_video
from tests.prediction.browser import Browser, find_chromium

CHROMIUM = find_chromium()
BITS = 8
CELL = 16
WIDTH, HEIGHT = BITS * CELL, 64
TICKS = 90_000
NAMES = {
    "clip.mp4": "libx264",
    "clip.mkv": "libx264",
    "clip.ts": "libx264",
    "clip.webm": "libvpx-vp9",
    "clip.avi": "mpeg4",
}
FASTEST = {"libx264": {"preset": "veryfast"}, "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"}}
FORMATS = {".ts": "mpegts", ".mkv": "matroska"}


@pytest.fixture(scope="module")
def av():
    return pytest.importorskip("av", reason="PyAV is not installed")


def pattern(number, size=(WIDTH, HEIGHT)):
    """A picture whose top row of cells tells its number in bits, above noise that takes space in the file."""
    width, height = size
    pixels = np.random.default_rng(number).integers(90, 160, (height, width, 3)).astype(np.uint8)
    for bit in range(BITS):
        pixels[:CELL, bit * CELL : (bit + 1) * CELL] = 235 * (number >> bit & 1)
    return pixels


def number_in(image):
    """The number that a picture made by `pattern` tells."""
    cells = np.asarray(image.convert("L"))[CELL // 2, CELL // 2 : WIDTH : CELL]
    return sum(1 << bit for bit, value in enumerate(cells) if value > 128)


def record(av, path, pictures, *, codec="libx264", times=None, turn=None, tag=None, form="yuv420p", index_last=False):
    """Write a video as a camera would; `times` in seconds, by default 25 frames a second."""
    pictures = list(pictures)
    base = Fraction(1, 25 if codec == "mpeg4" else TICKS)
    form_of_file = FORMATS.get(path.suffix, path.suffix[1:])
    options = {"movflags": "+faststart"} if path.suffix == ".mp4" and not index_last else {}
    with av.open(str(path), "w", format=form_of_file, options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = form
        stream.codec_context.time_base = base
        stream.codec_context.gop_size = 12
        stream.options = FASTEST.get(codec, {})
        if turn is not None:
            stream.set_display_rotation(*turn)
        if tag is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = tag
        for index, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            if tag is not None:
                frame = frame.reformat(format=form, dst_colorspace=tag[0], dst_color_range=tag[1])
            seconds = index / 25 if times is None else times[index]
            frame.pts, frame.time_base = round(seconds / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def clips(av, tmp_path_factory):
    """One video of 40 frames in each kind of file."""
    folder = tmp_path_factory.mktemp("clips")
    return {name: record(av, folder / name, map(pattern, range(40)), codec=codec) for name, codec in NAMES.items()}


def read(path, **options):
    """Numbers, times and the numbers the pictures tell; and what was wrong, said at the end."""
    rows, video = [], Video(path)
    try:
        for number, seconds, image in video.frames(**options):
            rows.append((number, seconds, number_in(image)))
    except UserError as error:
        return rows, str(error)
    return rows, None


def test_videos_are_told_by_their_names():
    assert all(map(is_video, ["a.mp4", "x/B.MOV", "c.d.mkv", "e.webm", "f.avi"]))
    assert not any(map(is_video, ["a.jpg", "b.gif", "c.webp", "mp4", "d.mp4.txt", "clip.mp4#3"]))
    assert frame_name("in/clip.mp4", 123) == "in/clip.mp4#123"


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_comes_once_in_order_with_its_time(clips, name):
    video = Video(clips[name])
    rows, fault = read(clips[name])
    assert fault is None
    assert [row[0] for row in rows] == [row[2] for row in rows] == list(range(40))
    # Matroska and WebM count in milliseconds. An MPEG stream starts at 1.4 s by its own clock.
    assert [row[1] for row in rows] == pytest.approx([index / 25 for index in range(40)], abs=6e-4)
    assert (len(video), video.fps, video.size) == (40, 25.0, (HEIGHT, WIDTH))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts"])
def test_numbers_and_times_are_the_same_wherever_one_starts(clips, name):
    everything, _ = read(clips[name])
    for step, start in [(1, 17), (7, 0), (5, 12), (5, 15), (100, 1), (1, 40), (1, 39)]:
        rows, fault = read(clips[name], step=step, start=start)
        assert fault is None
        assert rows == [row for row in everything if row[0] >= start and row[0] % step == 0], (step, start)


@pytest.mark.parametrize("wrong", [{"step": 0}, {"start": -1}])
def test_a_wrong_step_or_start_is_refused(clips, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        next(Video(clips["clip.mp4"]).frames(**wrong))


def test_a_walk_that_is_left_closes_the_file(clips):
    walk = Video(clips["clip.mp4"]).frames()
    next(walk)
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    walk.close()
    if before is None:
        pytest.skip("open files cannot be counted here")
    assert len(set(os.listdir("/proc/self/fd"))) == len(before) - 1


def test_frames_of_a_variable_rate_keep_their_times(av, tmp_path):
    times = [0.0, 0.04, 0.5, 0.51, 2.0, 2.04, 5.0]
    path = record(av, tmp_path / "screen.mp4", map(pattern, range(7)), times=times)
    rows, fault = read(path)
    assert fault is None
    assert [row[1] for row in rows] == pytest.approx(times, abs=1e-4)
    assert [row[2] for row in rows] == list(range(7))


@pytest.mark.parametrize(("turn", "upright"), [
    ((0,), lambda p: p), ((90,), lambda p: np.rot90(p, 1)), ((180,), lambda p: np.rot90(p, 2)),
    ((-90,), lambda p: np.rot90(p, -1)), ((0, True, False), np.fliplr), ((0, False, True), np.flipud),
    ((90, True, False), lambda p: np.rot90(np.fliplr(p), -1)),
    ((90, False, True), lambda p: np.rot90(np.flipud(p), -1)),
])  # fmt: skip
def test_a_turned_recording_comes_upright(av, tmp_path, turn, upright):
    """The turn is counterclockwise in degrees."""
    corners = np.full((48, 64, 3), 128, dtype=np.uint8)
    corners[:24, :32], corners[:24, 32:], corners[24:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    path = record(av, tmp_path / "phone.mp4", [corners] * 3, turn=turn)
    video = Video(path)
    wanted = upright(corners)
    assert video.size == wanted.shape[:2]
    for _, _, image in video.frames():
        assert (image.height, image.width) == wanted.shape[:2]
        assert image.mode == "RGB"
        inner = np.asarray(image).astype(int)[8::16, 8::16]
        assert np.abs(inner - wanted[8::16, 8::16]).max() < 60


@pytest.mark.parametrize("tag", [(1, 1), (5, 1), (1, 2), (5, 2)])
@pytest.mark.parametrize("form", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_colours_are_read_by_the_file_s_own_matrix_and_range(av, tmp_path, tag, form):
    colours = [(200, 40, 30), (20, 180, 60), (30, 60, 220), (255, 255, 255), (0, 0, 0), (90, 90, 90)]
    pixels = np.repeat(np.repeat(np.array([colours], dtype=np.uint8), 32, axis=0), 32, axis=1)
    path = record(av, tmp_path / "colours.mp4", [pixels] * 2, tag=tag, form=form)
    image = next(Video(path).frames())[2]
    found = np.asarray(image).astype(int)[16, 16::32]
    assert np.abs(found - np.array(colours)).max() <= 6


def test_a_name_may_be_anything(av, clips, tmp_path):
    content = clips["clip.mp4"].read_bytes()
    names = [b"12:30 #1 \xc3\xbc.mp4", b"http:x.mp4", b"%03d.mp4", b"-i.mp4", b"a b'\".mp4", b"latin \xfc.mp4"]
    for name in names:
        path = tmp_path / os.fsdecode(name)
        try:
            path.write_bytes(content)
        except OSError:  # a file system that wants UTF-8
            continue
        assert len(read(path)[0]) == 40, name


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is empty (0 bytes)"),
    (b"hello " * 200, "cannot be read as a video"),
    (None, "does not exist"),
])  # fmt: skip
def test_what_is_no_video_is_named(av, tmp_path, content, message):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        Video(path)
    assert str(caught.value).startswith(f"{path} {message}")
    assert "\n" not in str(caught.value)
    assert caught.value.code == DATA


def test_folders_and_sound_alone_are_named(av, tmp_path):
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    with pytest.raises(UserError, match=r"folder\.mp4 is a folder, not a video"):
        Video(folder)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match=r"sound\.mp4 holds sound but no pictures"):
        Video(tmp_path / "sound.mp4")


@pytest.fixture
def damaged(clips, tmp_path):
    """Make a copy of a clip with its bytes changed."""

    def change(name, edit):
        path = tmp_path / name
        path.write_bytes(edit(bytearray(clips[name].read_bytes())))
        return path

    return change


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_a_video_that_is_cut_off_gives_what_it_has_and_says_so(av, tmp_path, name):
    whole = record(av, tmp_path / name, map(pattern, range(100)), codec=NAMES[name])
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    rows, fault = read(whole)
    assert 3 < len(rows) < 80
    # The last frame may lack its lower half, as its number stands on top.
    assert [row[2] for row in rows] == [row[0] for row in rows] == list(range(len(rows)))
    assert fault is not None
    end = re.fullmatch(rf"{whole} ends after (\d\.\d) of 4\.0 seconds; what could be read was used\.", fault)
    assert end is not None
    assert abs(float(end[1]) - len(rows) / 25) < 0.15  # a last piece may have come without its frame


def test_a_video_cut_off_before_its_index_was_written_cannot_be_read(av, tmp_path):
    path = record(av, tmp_path / "clip.mp4", map(pattern, range(10)), index_last=True)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(
        UserError, match=r"clip\.mp4 cannot be read as a video \(.*\); it is cut off after [\d,]+ bytes"
    ):
        Video(path)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.ts", "clip.webm"])
def test_broken_pieces_in_the_middle_cost_only_some_frames_and_are_reported(damaged, name):
    def scratch(content):
        random = np.random.default_rng(5)
        middle = len(content) // 2
        for place in random.integers(middle, middle + len(content) // 10, 60).tolist():
            content[place] = int(random.integers(256))
        return content

    path = damaged(name, scratch)
    rows, fault = read(path)
    assert len(rows) > 25
    assert [row[0] for row in rows] == list(range(len(rows)))
    assert [row[2] for row in rows][:15] == list(range(15))
    assert rows[-1][2] == 39
    assert fault is None or "that cannot be read" in fault
    # An MPEG stream does not count its pieces: one that is lost whole is not missed.
    assert len(rows) == 40 or fault is not None or name == "clip.ts"
    for start in (3, 24):  # the numbers are the same when a job goes on, though pixels of broken frames may not be
        assert [row[:2] for row in read(path, start=start)[0]] == [row[:2] for row in rows[start:]]


def test_a_recording_that_begins_anywhere_is_whole(damaged):
    """A broadcast starts in the middle of things: what comes before the first key frame is nobody's fault."""
    path = damaged("clip.ts", lambda content: content[188 * 60 :])
    rows, fault = read(path)
    assert fault is None
    assert rows[0][:2] == (0, 0.0)
    assert [row[2] for row in rows] == list(range(rows[0][2], 40))
    assert 0 < rows[0][2] <= 24


def as_image(number, size=(WIDTH, HEIGHT)):
    return Image.fromarray(pattern(number, size))


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (WIDTH + 1, HEIGHT + 1), (WIDTH + 3, HEIGHT), (WIDTH, 33)])
def test_a_written_video_is_what_went_in(av, tmp_path, size):
    path = tmp_path / "deep" / "out.mp4"
    pictures = [as_image(number, size) for number in range(12)]
    write_video(path, ((5 + number / 10, picture) for number, picture in enumerate(pictures)), fps=10)
    even = size[0] + size[0] % 2, size[1] + size[1] % 2
    video = Video(path)
    assert (video.fps, video.size, len(video)) == (10.0, even[::-1], 12)
    frames = list(video.frames())
    assert [row[0] for row in frames] == list(range(12))
    assert [row[1] for row in frames] == pytest.approx([number / 10 for number in range(12)])
    for (_, _, image), picture in zip(frames, pictures, strict=True):
        assert number_in(image) == number_in(picture)
        error = np.asarray(image).astype(int)[: size[1], : size[0]] - np.asarray(picture)
        assert np.abs(error).mean() < 14  # noise, of which colour is kept at half the size
        assert np.abs(error.mean(axis=(0, 1))).max() < 2
    assert [file.name for file in path.parent.iterdir()] == ["out.mp4"]


def test_a_written_video_is_of_the_kind_that_browsers_play(av, tmp_path):
    path = tmp_path / "out.mp4"
    times = [0.0, 0.1, 0.7, 0.7, 0.75]
    write_video(path, ((seconds, as_image(number)) for number, seconds in enumerate(times)), fps=10)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.codec.canonical_name, context.format.name) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (1, 1, 1, 1)
        found = [frame.time for frame in container.decode(stream)]
        # A time that comes twice is moved by a tick; the last picture stays as long as one of the usual rate.
        assert found == pytest.approx([0.0, 0.1, 0.7, 0.7 + 1 / TICKS, 0.75])
        assert float(stream.duration * stream.time_base) == pytest.approx(0.85, abs=1e-3)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays before all of it is loaded


def test_colours_and_sizes_of_written_pictures(av, tmp_path):
    path = tmp_path / "out.mp4"
    colours = [(200, 40, 30), (20, 180, 60), (30, 60, 220), (250, 250, 250)]
    images = [Image.new("RGB", (64 if number < 3 else 100, 48), colour) for number, colour in enumerate(colours)]
    write_video(path, enumerate(image.convert("RGBA") for image in images), fps=1)
    for (_, _, image), colour in zip(Video(path).frames(), colours, strict=True):
        assert image.size == (64, 48)
        assert np.abs(np.asarray(image).astype(int) - colour).max() <= 5


def test_a_failure_leaves_the_old_video(av, tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")

    def breaking():
        yield 0.0, as_image(0)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_video(path, breaking(), fps=5)
    with pytest.raises(ValueError, match="there is no picture to write"):
        write_video(path, [], fps=5)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_plays_it(av, tmp_path):
    write_video(tmp_path / "out.mp4", ((number / 4, as_image(number)) for number in range(8)), fps=4)
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><body style=margin:0><video src=out.mp4 muted preload=auto></video>")
    browser = Browser(CHROMIUM, tmp_path / "profile")
    try:
        browser.open(page)
        browser.until("document.querySelector('video').readyState >= 2 || document.querySelector('video').error")
        shown = "(({videoWidth, videoHeight, duration}) => [videoWidth, videoHeight, duration])"
        assert browser.run(f"{shown}(document.querySelector('video'))") == [WIDTH, HEIGHT, 2.0]
        for number in (3, 0, 7):
            browser.run(f"document.querySelector('video').currentTime = {number / 4 + 0.1}")
            browser.until("!document.querySelector('video').seeking")
            browser.screenshot(tmp_path / "seen.png")
            with Image.open(tmp_path / "seen.png") as seen:
                assert number_in(seen) == number
    finally:
        browser.close()


def test_without_pyav_the_way_to_get_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    for attempt in (
        lambda: Video(tmp_path / "clip.mp4"),
        lambda: write_video(tmp_path / "o.mp4", [(0, as_image(0))], fps=1),
    ):
        with pytest.raises(UserError, match=r"pip install 'langhops\[video\]'") as caught:
            attempt()
        assert caught.value.code == ENVIRONMENT


def test_pyav_is_loaded_only_where_there_is_a_video():
    code = "import sys, langhops_cli.prediction.video as v; v.is_video('a.mp4'); print('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
