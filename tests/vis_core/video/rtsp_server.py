"""A small RTSP server for tests: one MPEG-4 video, over the connection that it is asked for on."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress

_PART = 1300  # bytes of a picture in a packet


@contextmanager
def rtsp_serving(path, sessions):
    """Serve the pictures of a video to each session, of which there are so many; gives the address."""
    import av

    with av.open(str(path)) as container:
        config = container.streams.video[0].codec_context.extradata.hex().upper()
        pictures = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    server = socket.create_server(("127.0.0.1", 0))
    address = f"rtsp://127.0.0.1:{server.getsockname()[1]}/live"

    def serve():
        with suppress(OSError):
            for _ in range(sessions):
                connection, _ = server.accept()
                with connection, suppress(OSError):
                    _answer(connection, config)
                    _send(connection, pictures)
            server.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield address
    finally:
        server.close()


def _answer(connection, config):
    """What comes before the pictures."""
    requests = connection.makefile("rb")
    method = ""
    while method != "PLAY":
        method, _, _ = requests.readline().decode().partition(" ")
        heads = dict(line.split(": ", 1) for line in iter(lambda: requests.readline().decode().strip(), ""))
        lines, body = [f"RTSP/1.0 200 OK\r\nCSeq: {heads['CSeq']}"], ""
        if method == "DESCRIBE":
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                f"a=rtpmap:96 MP4V-ES/90000\r\na=fmtp:96 profile-level-id=1; config={config}\r\na=control:track1\r\n"
            )
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            lines += ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"]
        elif method == "PLAY":
            lines.append("Session: 1")
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())


def _send(connection, pictures):
    number = 0
    for i, picture in enumerate(pictures):
        parts = [picture[at : at + _PART] for at in range(0, len(picture), _PART)]
        for part in parts:
            last = 0x80 if part is parts[-1] else 0
            packet = struct.pack(">BBHII", 0x80, 96 | last, number, 3000 * i, 7) + part
            connection.sendall(struct.pack(">BBH", 0x24, 0, len(packet)) + packet)
            number += 1
        time.sleep(0.02)
