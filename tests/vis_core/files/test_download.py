"""Fetching files: whole or not at all, resumed, bounded, and nothing else in their place."""

from __future__ import annotations

import fcntl
import hashlib

import pytest

from tests.vis_core.files.file_server import serving
from vis_core.errors import CheckpointError, InputError
from vis_core.files import download as module
from vis_core.files.download import Expected, digests_of, download

CONTENT = bytes(range(256)) * 40
LIMIT = 1 << 20


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with serving(CONTENT) as served:
        yield served


@pytest.fixture
def fetch(server, tmp_path):
    """Fetches to weights.pth; without waiting between tries."""
    target = tmp_path / "new" / "weights.pth"

    def run(**how):
        return download(server.address, target, **{"limit": LIMIT, "pauses": (0, 0), **how})

    run.target = target
    run.left = lambda: sorted(path.name for path in target.parent.iterdir()) if target.parent.is_dir() else []
    return run


def test_a_file_comes_whole_and_its_sums_are_told(fetch):
    seen = []
    digests = fetch(progress=lambda done, total: seen.append((done, total)))
    assert fetch.target.read_bytes() == CONTENT and fetch.left() == ["weights.pth"]
    assert (digests.size, digests.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert digests == digests_of(fetch.target)
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("known", [True, False])
def test_a_cut_connection_is_taken_up_where_it_was_cut(fetch, server, known):
    server.cuts = [1000, 2000]
    server.etag = '"one"' if known else None
    if known:
        fetch()
        assert [asked.get("Range") for asked in server.asked] == [None, "bytes=1000-", "bytes=3000-"]
    else:  # nothing tells whether the rest is of the same file
        fetch()
        assert [asked.get("Range") for asked in server.asked] == [None, None, None]
    assert fetch.target.read_bytes() == CONTENT


def test_what_came_before_a_cut_for_good_serves_the_next_call(fetch, server):
    server.cuts = [1000, 0, 0]
    with pytest.raises(InputError, match="after 1000 of 10240 bytes; the 1000 bytes that came stay, and the same"):
        fetch()
    assert fetch.left() == [".weights.part.pth", ".weights.pth.origin"]
    fetch()
    assert server.asked[-1]["Range"] == "bytes=1000-"
    assert fetch.target.read_bytes() == CONTENT and fetch.left() == ["weights.pth"]


def test_a_file_that_came_whole_before_a_kill_is_not_fetched_twice(fetch, server, monkeypatch):
    monkeypatch.setattr(module, "digests_of", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fetch()
    monkeypatch.undo()
    fetch()
    assert len(server.asked) == 1 and fetch.target.read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_begins_anew(fetch, server):
    server.cuts = [1000, 0, 0]
    with pytest.raises(InputError):
        fetch()
    server.content, server.etag = CONTENT[::-1], '"two"'
    fetch()
    assert fetch.target.read_bytes() == CONTENT[::-1]


def test_more_than_the_server_has_begins_anew(fetch, server):
    server.cuts = [3000, 0, 0]
    with pytest.raises(InputError):
        fetch()
    server.content = CONTENT[:2000]
    fetch()
    assert fetch.target.read_bytes() == CONTENT[:2000]


def test_a_server_without_parts_and_without_lengths_will_do(fetch, server):
    server.ranges, server.states_length, server.cuts = False, True, [1000]
    fetch()
    assert fetch.target.read_bytes() == CONTENT
    fetch.target.unlink()
    server.states_length = False
    fetch()
    assert fetch.target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(fetch, server, status):
    server.statuses = [status]
    fetch()
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_told_at_once(fetch, server, status):
    server.statuses = [status] * 3
    with pytest.raises(InputError, match=f"weights.pth: cannot be fetched: the server answers {status}"):
        fetch()
    assert len(server.asked) == 1


def test_where_there_is_no_network_it_is_said(tmp_path):
    with serving(b"") as served:
        address = served.address
    with pytest.raises(InputError, match=r"cannot be fetched: .*refused"):
        download(address, tmp_path / "a.pth", LIMIT, pauses=(0,))


@pytest.mark.parametrize("way", ["type", "text"])
def test_a_web_page_is_no_weight_file(fetch, server, way):
    server.cuts = [1000, 0, 0]
    with pytest.raises(InputError):
        fetch()
    before = server.content
    server.content = b"\n<!DOCTYPE html><html>Google Drive can't scan this file for viruses.</html>"
    if way == "type":
        server.headers["Content-Type"] = "text/html; charset=utf-8"
    server.etag = None
    with pytest.raises(InputError, match="a web page came in place of the file"):
        fetch()
    assert not fetch.target.exists()
    server.content, server.etag, server.headers["Content-Type"] = before, '"one"', "application/octet-stream"
    fetch()
    assert fetch.target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (Expected(sha256="0" * 64), "its SHA-256 is [0-9a-f]{64}, not 0{64}"),
        (Expected(md5="123456"), "its MD5 is [0-9a-f]{32}, and does not begin with 123456"),
    ],
)
def test_a_file_of_another_sum_does_not_stay(fetch, expected, text):
    with pytest.raises(InputError, match=f"is not the one that was expected: {text}; it was not kept"):
        fetch(expected=expected)
    assert fetch.left() == []


def test_sums_that_are_right_pass(fetch):
    sha256, md5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()
    fetch(expected=Expected(len(CONTENT), sha256.upper(), md5[:6]))
    assert fetch.target.is_file()


@pytest.mark.parametrize("right", [True, False])
def test_the_sum_that_hugging_face_states_on_the_way_must_hold(fetch, server, right):
    server.headers["X-Linked-ETag"] = f'"{hashlib.sha256(CONTENT if right else b"").hexdigest()}"'
    server.redirections = ["/elsewhere"]
    if right:
        fetch()
    else:
        with pytest.raises(InputError, match="SHA-256"):
            fetch()
    assert fetch.target.exists() == right


def test_a_file_that_is_not_accepted_does_not_stay(fetch):
    def accept(path):
        assert path.suffix == ".pth" and path.read_bytes() == CONTENT
        raise CheckpointError("no checkpoint")

    with pytest.raises(CheckpointError, match="no checkpoint"):
        fetch(accept=accept)
    assert fetch.left() == []


@pytest.mark.parametrize("states_length", [True, False])
def test_no_more_than_the_limit_is_taken(fetch, server, states_length):
    server.states_length = states_length
    with pytest.raises(InputError, match="5000"):
        fetch(limit=5000)
    assert not fetch.target.exists()


def test_a_file_of_another_size_than_known_is_refused_before_it_comes(fetch):
    with pytest.raises(InputError, match="the file has 10240 bytes, not the 7 of the list"):
        fetch(expected=Expected(size=7))


def test_a_disk_that_cannot_hold_it_is_told_before_it_comes(fetch, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: module.shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(InputError, match="10240 bytes are to come, and 5 are free"):
        fetch()


def test_redirections_are_followed_a_few_times(fetch, server):
    server.redirections = ["/a", "/b"]
    server.cuts = [1000]
    fetch()
    assert fetch.target.read_bytes() == CONTENT
    server.redirections = ["/a"] * 20
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch()
    assert len(server.asked) < 30


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,a"])
def test_no_redirection_leads_off_the_web(fetch, server, to):
    server.redirections = [to]
    with pytest.raises(InputError, match=r"which is not safe|is not allowed"):
        fetch()
    assert not fetch.target.exists()


def test_no_redirection_leads_from_https_to_http():
    handler = module._Redirections()
    request = module.urllib.request.Request("https://example.org/a")
    with pytest.raises(InputError, match="which is not safe"):
        handler.redirect_request(request, None, 302, "", {}, "http://example.org/a")


def test_two_calls_do_not_fetch_the_same_file_at_once(fetch):
    fetch.target.parent.mkdir()
    with (fetch.target.parent / ".weights.part.pth").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another run is fetching it"):
            fetch()


def test_a_link_in_place_of_the_partial_file_is_not_followed(fetch, tmp_path):
    fetch.target.parent.mkdir()
    (tmp_path / "mine").write_text("mine")
    (fetch.target.parent / ".weights.part.pth").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match=r"weights\.part\.pth"):
        fetch()
    assert (tmp_path / "mine").read_text() == "mine"
