"""The commands ``vis weights``: the list is true, nothing is fetched unasked, and what came is what it should be."""

from __future__ import annotations

import hashlib
import re
import sys

import cv2
import numpy as np
import pytest
import torch

import vis_core
from tests.vis_core.files.file_server import serving
from vis_core import catalog
from vis_core.commands import main as cli
from vis_core.commands import published_files, system_checks, terminal, weights
from vis_core.commands.published_files import PublishedFile, PublishedFiles
from vis_core.errors import CheckpointError
from vis_core.models.tevit import published
from vis_core.nn import queryinst

KEYS = {key: torch.zeros(1) for key in (published._MSGSHIFT, queryinst._PROPOSALS)}
"""Enough to be recognised as TeViT's, and too few to be loaded."""
LISTED = [(system, file) for system, entry in published_files.published_files().items() for file in entry.files]


@pytest.fixture
def vis(monkeypatch, capsys, tmp_path):
    """Runs ``vis`` in this process; gives what it printed."""
    monkeypatch.setenv("VIS_WEIGHTS", str(tmp_path / "folder"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OMP_WAIT_POLICY", "OPENCV_LOG_LEVEL", "OPENCV_FFMPEG_LOGLEVEL"):
        monkeypatch.setenv(name, "x")

    def run(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["vis", *map(str, arguments)])
        monkeypatch.setattr("warnings.showwarning", terminal.show_warning)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        printed = "".join(capsys.readouterr())
        assert (caught.value.code or 0) == code, printed
        return printed

    return run


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A server of a checkpoint that has TeViT's keys, listed as ``tiny.pth``."""
    torch.save({"state_dict": KEYS}, tmp_path / "made.pth")
    with serving((tmp_path / "made.pth").read_bytes()) as server:
        listed = {}

        def lists(**facts):
            file = PublishedFile("tiny.pth", "tevit", "YouTube-VIS 2019", "tiny", 12.3, server.address, **facts)
            listed["tevit"] = PublishedFiles("https://example.org/page", (file,))

        lists()
        for module in (published_files, weights, system_checks):
            monkeypatch.setattr(module, "published_files", lambda: listed)
        server.lists = lists
        server.folder = tmp_path / "folder"
        yield server


def test_each_checkpoint_of_each_system_is_listed_whole(vis):
    printed = vis("weights")
    for system, entry in catalog.SYSTEMS.items():
        assert f"{system}: {entry.checkpoints_licence}" in printed
    for system, file in LISTED:
        assert catalog.find(system)
        facts = printed.split(f"\n{file.stem}\n")[1].split("\n  sums")[0]
        assert file.address in facts and str(file.ap) in facts and file.network in facts
    assert hashlib.sha256(catalog.find("visolo-lite").default_weights().read_bytes()).hexdigest() in printed
    assert "not stated" in printed and "of Video K-Net, for a browser" in printed


def test_of_one_system_its_own_are_listed(vis):
    printed = vis("weights", "--system", "tevit")
    assert "tevit_r50" in printed and "minvis" not in printed
    assert "did you mean 'tevit'?" in vis("weights", "--system", "tevi", code=2)


def test_what_is_listed_agrees_with_the_figures_of_the_systems():
    assert len(LISTED) > 30 and len({file.name for _, file in LISTED}) == len(LISTED)
    for system, file in LISTED:
        figures = [text for text in catalog.find(system).figures.values() if file.name in text]
        if not file.note:
            assert not figures or f"AP {file.ap}" in figures[0], file.name
        assert file.address.startswith("https://") and file.download.startswith("https://")
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.md5 is None or file.md5 in file.name


def test_addresses_of_pages_become_those_of_the_files():
    files = {file.stem: file.download for _, file in LISTED}
    zoo = "https://huggingface.co/deahuang/MinVIS-Model-Zoo/resolve/main"
    assert files["minvis_ovis_R50"] == f"{zoo}/minvis_ovis_R50.pth"
    assert re.fullmatch(r"https://drive\.usercontent\.google\.com/download\?id=[\w-]{33}&.*", files["vistr_r50"])
    assert files["tevit_r50"] == "https://github.com/hustvl/Storage/releases/download/v1.1.0/tevit_r50.pth"


def test_the_licence_is_shown_first_and_nothing_fetched_without_agreement(vis, tiny):
    printed = vis("weights", "get", "tiny", code=2)
    assert catalog.find("tevit").checkpoints_licence in printed
    assert "if you agree, add --accept-licence" in printed
    assert not tiny.asked and not tiny.folder.exists()


@pytest.mark.parametrize("name", ["tiny", "tiny.pth"])
def test_a_checkpoint_is_fetched_and_then_found_by_its_name(vis, tiny, name):
    printed = vis("weights", "get", name, "--accept-licence")
    assert (tiny.folder / "tiny.pth").read_bytes() == tiny.content
    assert hashlib.sha256(tiny.content).hexdigest() in printed and "known by its keys" in printed
    assert f"here: {tiny.folder / 'tiny.pth'}" in vis("weights", "--system", "tevit")
    assert "a checkpoint of tevit" in vis("weights", "check", "tiny")


def test_every_command_and_the_library_find_weights_by_their_name(vis, tiny, tmp_path):
    tiny.folder.mkdir()
    (tiny.folder / "tiny.pth").write_bytes(tiny.content)
    told = "these are weights of QueryInst"  # that it was read, and what of it does not do
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 32, 3), np.uint8))
    assert told in vis("convert", "tevit", "tiny", tmp_path / "a.safetensors", code=2)
    arguments = ("--system", "tevit", "--weights", "tiny", "--out", tmp_path / "out")
    assert told in vis("segment", tmp_path / "a.png", *arguments, code=2)
    with pytest.raises(CheckpointError, match=told):
        vis_core.load("tevit", "tiny")


def test_what_is_there_is_replaced_by_force_alone(vis, tiny):
    tiny.folder.mkdir()
    (tiny.folder / "tiny.pth").write_text("mine")
    assert "--force" in vis("weights", "get", "tiny", "--accept-licence", code=2)
    assert (tiny.folder / "tiny.pth").read_text() == "mine" and not tiny.asked
    vis("weights", "get", "tiny", "--accept-licence", "--force")
    assert (tiny.folder / "tiny.pth").read_bytes() == tiny.content


def test_another_folder_can_be_named(vis, tiny, tmp_path):
    vis("weights", "get", "tiny", "--accept-licence", "--folder", tmp_path / "other")
    assert (tmp_path / "other" / "tiny.pth").is_file() and not tiny.folder.exists()


def test_a_failed_fetch_says_how_to_go_on_by_hand(vis, tiny):
    tiny.headers["Content-Type"] = "text/html"
    printed = vis("weights", "get", "tiny", "--accept-licence", code=2)
    assert "a web page came in place of the file" in printed
    target = tiny.folder / "tiny.pth"
    assert f"By hand: open {tiny.address}, save the file as {target}, then: vis weights check {target}" in printed


def test_a_file_of_another_sum_or_of_no_system_is_not_kept(vis, tiny, tmp_path):
    tiny.lists(sha256="0" * 64)
    assert "its SHA-256 is" in vis("weights", "get", "tiny", "--accept-licence", code=2)
    tiny.lists()
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    tiny.content = (tmp_path / "other.pth").read_bytes()
    assert "is no checkpoint of tevit" in vis("weights", "get", "tiny", "--accept-licence", code=2)
    tiny.content = b"no weights at all"
    vis("weights", "get", "tiny", "--accept-licence", code=2)
    assert list(tiny.folder.iterdir()) == []


def test_a_file_that_came_by_hand_is_checked(vis, tiny, tmp_path):
    path = tmp_path / "tiny.pth"
    path.write_bytes(tiny.content)
    tiny.lists(size=len(tiny.content), md5=hashlib.md5(tiny.content).hexdigest()[:6])
    printed = vis("weights", "check", path)
    assert "known by its keys and what its authors state: size, md5" in printed
    assert f"licence (tevit): {catalog.find('tevit').checkpoints_licence}" in printed
    path.write_bytes(tiny.content[:-1])
    assert "is not the file that was published as tiny.pth" in vis("weights", "check", path, code=2)
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    assert "its keys are of no system here" in vis("weights", "check", tmp_path / "a.pth", code=2)
    own = vis("weights", "check", catalog.find("visolo-lite").default_weights())
    assert "a checkpoint of visolo-lite" in own


def test_weights_that_are_nowhere_are_told_with_the_command_that_fetches_them(vis, tiny, tmp_path):
    printed = vis("weights", "check", "tiny", code=2)
    assert f"tiny: no such weight file, here or in {tiny.folder} (VIS_WEIGHTS); 'vis weights get tiny'" in printed
    assert "did you mean 'tiny'?" in vis("weights", "get", "tny", code=2)
