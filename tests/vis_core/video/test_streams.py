"""Videos at an address: files and live streams on a server of this machine."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from tests.vis_core.video.rtsp_server import rtsp_serving
from vis_core.errors import InputError
from vis_core.files.names import is_address, shown_address
from vis_core.video.opening import open_video
from vis_core.video.streams import RemoteFile, Stream, open_address


def jpeg(value):
    return cv2.imencode(".jpg", np.full((48, 64, 3), value, np.uint8))[1].tobytes()


@contextmanager
def serving(answer):
    """A web server that answers each request by a function; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with suppress(OSError):  # the other side may be gone
                answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def send_pictures(request, values, pause=0.03):
    """A live stream, as network cameras send it: one JPEG after another."""
    request.send_response(200)
    request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    request.end_headers()
    for value in values:
        picture = jpeg(value)
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
        request.wfile.write(head.encode() + picture + b"\r\n")
        time.sleep(pause)


def send_file(request, data, cut=None):
    request.send_response(200)
    request.send_header("Content-Type", "video/x-msvideo")
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data[:cut])


@pytest.fixture
def video(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(60):
        writer.write(np.full((48, 64, 3), 4 * i, np.uint8))
    writer.release()
    return (tmp_path / "a.avi").read_bytes()


def test_a_file_on_a_server_is_read_whole_and_no_frame_is_left_out(video):
    with (
        serving(lambda request: send_file(request, video)) as address,
        open_video(f"{address}/clips/walk.avi") as found,
    ):
        assert isinstance(found, RemoteFile) and not found.live
        assert (found.name, found.length, found.fps, found.size) == ("walk", 60, 10, (48, 64))
        frames = list(found)
        assert [frame.index for frame in frames] == list(range(60)) and found.skipped == []
        assert frames[-1].stamp == 5_900_000_000
        assert abs(int(frames[20].image.mean()) - 80) < 3


def test_a_file_whose_connection_is_cut_gives_what_came_and_tells_it(video):
    with serving(lambda request: send_file(request, video, len(video) // 2)) as address:
        found = open_address(f"{address}/walk.avi")
        found.on_skip = lambda skipped: None
        frames = list(found)
    assert 10 < len(frames) < 40
    assert "60 frames are announced" in found.skipped[0].reason and "connection was cut" in found.skipped[0].reason


def test_a_live_stream_that_breaks_off_is_connected_to_again_and_ends_when_it_stays_away():
    connections = []

    def answer(request):
        connections.append(1)
        if len(connections) > 2:
            request.send_error(404)
        else:
            send_pictures(request, [50 * len(connections)] * 8)

    told = []
    with serving(answer) as address:
        found = open_address(f"{address}/live", reconnect=1.0)
        assert isinstance(found, Stream) and found.live and found.length is None
        found.on_skip = told.append
        frames = list(found)
    values = [round(float(frame.image.mean()), -1) for frame in frames]
    assert set(values) == {50, 100} and values == sorted(values)
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices)) and abs(frames[0].stamp - time.time_ns()) < 60e9
    reasons = [skipped.reason for skipped in told]
    again = "no picture comes any more; connecting again for up to 1 s"
    assert reasons == [again, again, "did not come back within 1 s; the video ends here"]


def test_an_rtsp_camera_is_read_and_connected_to_again(tmp_path):
    pytest.importorskip("av", reason="PyAV, which splits the video that is sent, is not installed")
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 48))
    for i in range(24):
        writer.write(np.full((48, 64, 3), 8 * i, np.uint8))
    writer.release()
    with rtsp_serving(tmp_path / "a.mp4", sessions=2) as address:
        found = open_address(address, reconnect=1.0)
        assert isinstance(found, Stream) and found.size == (48, 64)
        found.on_skip = lambda skipped: None
        frames = list(found)
    assert len(frames) > 10 and frames[-1].index > 30
    assert [skipped.reason.split(";")[0] for skipped in found.skipped] == [
        *["no picture comes any more"] * 2,
        "did not come back within 1 s",
    ]


def test_whoever_is_slow_gets_the_newest_picture_of_a_live_stream():
    sent, slow_enough = [0], threading.Event()

    def answer(request):
        def endless():
            while not slow_enough.is_set():
                sent[0] += 1
                yield sent[0] % 250

        send_pictures(request, endless(), 0.005)

    with serving(answer) as address, open_address(f"{address}/live") as found:
        indices = []
        for frame in found:
            indices.append(frame.index)
            if len(indices) == 10:
                break
            wanted = sent[0] + 10
            while sent[0] < wanted:
                time.sleep(0.005)
        slow_enough.set()
    assert max(np.diff(indices)) > 1 and min(np.diff(indices)) >= 1


def test_a_live_stream_that_sends_nothing_ends_where_it_is_asked_to():
    asked = threading.Event()

    def answer(request):
        send_pictures(request, [9] * 40, 0.005)
        asked.set()
        time.sleep(4)  # within the time after which no picture is an end

    with serving(answer) as address, open_address(f"{address}/live") as found:
        found.on_skip = lambda skipped: pytest.fail(skipped.reason)
        found.stop_asked = asked.is_set
        assert len(list(found)) > 0


def test_leaving_a_live_stream_leaves_no_thread_at_work():
    with serving(lambda request: send_pictures(request, [9] * 500)) as address:
        with open_address(f"{address}/live") as found:
            assert next(iter(found)).size == (48, 64)
        deadline = time.monotonic() + 60
        while any(thread.name == "vis-stream" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda request: request.send_error(404, "Not Found"), "the server answers 404 Not Found"),
        (
            lambda request: (
                request.send_response(200),
                request.send_header("Content-Type", "text/html"),
                request.end_headers(),
                request.wfile.write(b"<html>sign in</html>"),
            ),
            r"is a page \(text/html\), not a video",
        ),
        (lambda request: send_file(request, b"nothing" * 99), "is no video that this OpenCV reads"),
    ],
)
def test_an_address_without_a_video_says_what_is_there(answer, text):
    with serving(answer) as address, pytest.raises(InputError, match=text) as caught:
        open_video(f"{address}/walk.avi?token=secret".replace("//", "//me:secret@"))
    assert "secret" not in str(caught.value) and "/walk.avi" in str(caught.value)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_an_address_that_nobody_answers_at_is_told(scheme):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"{scheme}://127.0.0.1:{unused.getsockname()[1]}/front"
        with pytest.raises(InputError, match="/front: cannot be reached: Connection refused"):
            open_video(address)


def test_addresses_are_told_from_paths_and_shown_without_secrets():
    assert is_address("rtsp://host/a") and is_address("https://h/a.mp4")
    assert not is_address("clips/a.mp4") and not is_address("/dev/video0") and not is_address("camera:0")
    assert shown_address("rtsp://me:secret@cam.local:554/front?key=1") == "rtsp://cam.local:554/front"
