from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from vis_core.data.vocabularies import stated_names
from vis_core.errors import CheckpointError, InputError
from vis_core.files.json_files import parse_json, read_text

ODD = {
    "deep lists": ("[" * 100_000, "nested too deep"),
    "deep objects": ('{"a":' * 100_000, "nested too deep"),
    "ten thousand digits": ("[" + "1" * 10_000 + "]", "not usable: Exceeds the limit"),
    "a key twice": ('{"videos": [], "videos": [1]}', "an object holds the key 'videos' twice"),
    "a key twice below": ('[{"a": {"b\\u001b": 1, "b\\u001b": 2}}]', "an object holds the key 'b\\\\x1b' twice"),
    "a zero byte": ("[1, \0]", "not JSON"),
    "an open bracket": ("[1,", "not JSON"),
    "escape codes": ("\x1b[2J", "not JSON"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_json_is_one_short_error_that_names_file_and_fault(kind):
    text, words = ODD[kind]
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        parse_json(text, "some.json", "results")
    told = str(caught.value)
    assert told.startswith("some.json: results: ") and len(told) < 400 and told.isprintable()


def test_a_large_number_of_digits_that_python_converts_is_a_number():
    assert parse_json("[" + "1" * 400 + "]", "x", "y") == [int("1" * 400)]


LARGE = '"padding": "' + "x" * (1 << 16) + '"'
SOUND = {
    "digits": f'{{"id": {"1" * 30}, "small": -{"9" * 25}, "zero": -0, "float": 1e-400, {LARGE}}}',
    "not finite": f"[NaN, -Infinity, 1e999, {{{LARGE}}}]",
    "half a character": f'{{"name": "\\ud800", {LARGE}}}',
    "texts like keys": f'[{{"counts": ":oP", "other": " :", "said": "\\":", {LARGE}}}, ":"]',
    "spaces": f'[{{"a" : 1, "b"\n:[{{"c"\t: {{}}}}], {LARGE}}}]',
    "a brace in a text": f'[1, {{"a": "{{", {LARGE}}}]',
    "an object among numbers": f'[1, "a", {{"b": [1, {{"c": 2}}]}}, {{{LARGE}}}]',
}


@pytest.mark.parametrize("kind", SOUND)
def test_a_large_text_is_read_as_a_small_one(kind):
    text = SOUND[kind]
    assert repr(parse_json(text, "x", "y")) == repr(json.loads(text))


@pytest.mark.parametrize(
    "fault",
    [
        '{"a": 1, "a": 2}',
        '{"a" : 1, "a" :2}',
        '[1, {"a": 1, "b": {"c": {}, "c": {}}}]',
        '{"counts": ":o", "a": ":", "a": 2}',
        '{"a": "\\u003ao", "a": ":"}',
        '{"a": {"b": 1}, "a": "{"}',
    ],
)
def test_keys_that_stand_twice_are_found_in_a_large_text(fault):
    with pytest.raises(InputError, match=r"holds the key '[ac]' twice"):
        parse_json(f"[{fault}, {{{LARGE}}}]", "x", "y")


def test_a_large_text_that_is_cut_off_is_told_as_a_small_one():
    with pytest.raises(InputError, match=r"not JSON: .*was it written to its end"):
        parse_json(f"[{{{LARGE}}}, ", "x", "y")


def test_large_texts_are_read_without_the_fast_parser(monkeypatch):
    monkeypatch.setitem(sys.modules, "msgspec", None)
    assert parse_json(SOUND["spaces"], "x", "y") == json.loads(SOUND["spaces"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[1, \0\0]", r"not a text in UTF-8 \(byte 4\)"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\0", "not a text in UTF-8"),
        (b"\xff\xfe[\x001\x00]\x00\x00", "not a text in UTF-8"),
        (b"[\xff]", r"not a text in UTF-8 \(byte 1\)"),
        (b" \n", "the file is empty"),
        (b"[1]" + b" " * 100, "has 103 bytes, and 100 are the most"),
    ],
)
def test_a_file_that_is_no_text_is_named(tmp_path, content, words):
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"some\.json: results: .*{words}"):
        read_text(path, "results", limit=100)


def test_a_file_of_zeros_is_refused_before_it_is_read_whole(tmp_path):
    path = tmp_path / "zeros.json"
    with path.open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(InputError, match=r"not a text in UTF-8 \(byte 0\)"):
        read_text(path, "results")
    with path.open("wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(InputError, match="not a text in UTF-8"):
        read_text(path, "results")


@pytest.mark.parametrize(
    ("path", "words"), [("/dev/zero", "is a device"), ("a\0b", "cannot be read"), ("x" * 5000, "long")]
)
def test_what_is_no_file_is_told(path, words):
    with pytest.raises(InputError, match=words) as caught:
        read_text(path, "results")
    assert str(caught.value).isprintable()


def test_a_pipe_is_read_to_its_end(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    child = os.fork()
    if child == 0:
        Path(pipe).write_bytes(b"[1, 2]")
        os._exit(0)
    assert read_text(pipe, "results") == "[1, 2]"
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{", '["a", "a\\u001b[2J"]', "1" * 10_000, '{"a": 1, "a": 2}', "x" * 10_000]
)
def test_odd_class_names_of_a_weight_file_are_one_short_error(text):
    with pytest.raises(CheckpointError, match="metadata") as caught:
        stated_names(text, 3)
    assert len(str(caught.value)) < 600 and str(caught.value).isprintable()
