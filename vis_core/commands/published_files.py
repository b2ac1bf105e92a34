"""The checkpoints that authors have published, as the folders of their systems list them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vis_core import models
from vis_core.errors import OptionError, nearest, printable


@dataclass(frozen=True)
class PublishedFile:
    """A checkpoint, by what its authors state; what they do not is None.

    Attributes:
        name: of the file.
        system: that loads it.
        data: set on which its AP was measured, by the authors.
        network: backbone, and what else it differs by.
        ap: the authors'.
        address: as their page gives it.
        md5: first digits of its MD5: tells damage, and no forgery.
        sha256: of the file.
        size: bytes.
        note: what else is to be known.
    """

    name: str
    system: str
    data: str
    network: str
    ap: float
    address: str
    md5: str | None = None
    sha256: str | None = None
    size: int | None = None
    note: str | None = None

    @property
    def stem(self) -> str:
        """The name without the suffix, by which it may be called."""
        return Path(self.name).stem

    @property
    def download(self) -> str:
        """The address of the file itself where `address` is a page about it, as of Hugging Face and Google Drive."""
        address = re.sub(r"^(https://huggingface\.co/[^/]+/[^/]+)/blob/", r"\1/resolve/", self.address)
        drive = re.match(r"https://drive\.google\.com/file/d/([\w-]+)/", address)
        if drive is None:
            return address
        return f"https://drive.usercontent.google.com/download?id={drive[1]}&export=download&confirm=t"


@dataclass(frozen=True)
class PublishedFiles:
    """What is published of a system: the page that tells of it, its files, and what else is to be known."""

    page: str
    files: tuple[PublishedFile, ...]
    note: str | None = None


@cache
def published_files() -> Mapping[str, PublishedFiles]:
    """By the names of systems; those of which nothing is public are left out."""
    found = {}
    for path in sorted(Path(models.__file__).parent.glob("*/published_files.json")):
        for system, entry in json.loads(path.read_text("utf-8")).items():
            files = tuple(_file(system, facts) for facts in entry["files"])
            found[system] = PublishedFiles(entry["page"], files, entry.get("note"))
    return found


def find_published(name: str) -> PublishedFile:
    """The checkpoint of that name, with its suffix or without.

    Raises:
        OptionError: there is none; the text names the nearest one.
    """
    files = {file.stem: file for entry in published_files().values() for file in entry.files}
    found = files.get(name) or files.get(Path(name).stem)
    if found is None or name not in (found.name, found.stem):
        hint = nearest(name, files)
        raise OptionError(f"{printable(name)}: no published checkpoint is called so; {hint}; 'vis weights' lists them")
    return found


def _file(system: str, facts: Mapping[str, Any]) -> PublishedFile:
    return PublishedFile(system=system, **facts)
