from __future__ import annotations

import re

import pytest

from vis_core.commands.loading import option_value
from vis_core.errors import InputError, OptionError
from vis_core.files.yaml_files import parse_yaml, read_yaml
from vis_core.system.option import Option
from vis_core.training.config_file import read_config

DOUBLED = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghijklmnopqrs", "bcdefghijklmnopqrst")
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [*{a}, *{a}]}}\n" for a, b in zip("abcdefghijklmnopqrs", "bcdefghijklmnopqrst")
)

ODD = {
    "aliases that double": (DOUBLED, "more than 100000 values, aliases"),
    "merges that double": (MERGED, "more than 100000 values, aliases"),
    "an alias within itself": ("a: &a [1, *a]", "the alias *a stands within what it stands for"),
    "an unknown alias": ("a: *b", "undefined alias"),
    "many values": ("a: [" + "0, " * 100_001 + "]", "more than 100000 values"),
    "ten thousand digits": ("steps: " + "1" * 10_000, "a number has 10000 characters"),
    "ten thousand hexadecimal digits": ("steps: 0x" + "f" * 10_000, "a number has 10002 characters"),
    "a zero byte": ("a: x\0y", "UTF-8 (byte 4)|unacceptable character"),
    "deep lists": ("a: " + "[" * 60 + "]" * 60, "more than 50 deep"),
    "very deep lists": ("a: " + "[" * 9_000, "more than 50 deep"),
    "deep blocks": ("".join("  " * i + "a:\n" for i in range(60)), "more than 50 deep"),
    "a key twice": ("steps: 1\nseed: 2\nsteps: 3\n", "the key 'steps' stands twice, again in line 3"),
    "a key twice below": ("clip: {frames: 1, frames: 2}", "the key 'frames' stands twice"),
    "a list for a key": ("? [a]\n: b", "unhashable key"),
    "a call": ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
    "no date": ("a: 2024-13-45", "month"),
    "no number": ("a: !!float ''", "string index"),
    "two documents": ("--- a\n--- b", "single document"),
    "escape codes": ("a: \x1b[2J", "unacceptable character"),
    "an open bracket": ("a: [1,", "expected"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_yaml_is_one_short_error_that_names_file_and_fault(tmp_path, kind):
    text, words = ODD[kind]
    path = tmp_path / "train.yaml"
    path.write_text(text)
    for read in (lambda: read_yaml(path, "config"), lambda: read_config(path)):
        with pytest.raises(InputError, match="|".join(map(re.escape, words.split("|")))) as caught:
            read()
        told = str(caught.value)
        assert told.startswith(f"{path}: config: ") and len(told) < len(str(path)) + 400 and told.isprintable()


def test_anchors_of_a_reasonable_size_are_taken(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("base: &base {a: 1, b: [2, 3]}\nhere: {<<: *base, a: 4}\nthere: *base\n")
    assert read_yaml(path, "config")["here"] == {"a": 4, "b": [2, 3]}
    path.write_text("")
    assert read_yaml(path, "config") is None


def test_a_yaml_file_of_many_megabytes_is_not_read(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.write(b"a: 1\n")
        file.truncate(5 << 20)
    with pytest.raises(InputError, match=r"large\.yaml: config: (has 5242880 bytes|not a text)"):
        read_yaml(path, "config")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("steps=" + "1" * 10_000, "a number has 10000 characters"),
        ("steps=0x" + "f" * 35, "is not in [1, 1e+09]"),
        ("steps=" + "[" * 100, "more than 50 deep"),
        ("classes=&a [*a]", "stands within"),
        ("steps={a: 1, a: 2}", "stands twice"),
        ("data." + "9" * 10_000 + ".weight=1", "is not a place in a list of 1"),
        ("data.².weight=1", "is not a place in a list of 1"),
        ("a" + ".a" * 10_000 + "=1", "no key has 10001 levels"),
        ("x" * 10_000 + "=1", "unknown key"),
        ("x" * 10_000, "write it as key=value"),
        ('output="a\\0b"', "it holds a zero byte"),
        ("steps='" + "long " * 10_000 + "'", "is not a whole number"),
        ("output=~nobody-has-this-name/x", "is not a path"),
    ],
)
def test_odd_values_on_the_command_line_are_one_short_error(tmp_path, given, words):
    path = tmp_path / "train.yaml"
    path.write_text("{system: visolo, classes: [a], data: [{annotations: x.json}], output: run}")
    with pytest.raises(OptionError, match=re.escape(words)) as caught:
        read_config(path, [given])
    told = str(caught.value)
    assert len(told) < len(str(path)) + 700 and told.isprintable()


@pytest.mark.parametrize("text", ["1" * 10_000, "[" * 10_000, "&a [*a]", "{a: 1, a: 2}", "x" * 10_000, "\0", "\x1b[2J"])
def test_odd_options_are_one_short_error(text):
    option = Option("", default=3)
    with pytest.raises(OptionError, match="option frames: expected int") as caught:
        option.check("frames", option_value(text, option))
    assert len(str(caught.value)) < 400 and str(caught.value).isprintable()


def test_a_text_is_parsed_as_a_file_is():
    assert parse_yaml("[1, 2]", "x") == [1, 2]
