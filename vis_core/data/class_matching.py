"""Classes of a system against the categories of annotations: by name, or as the user says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vis_core.data.vocabularies import plain_name
from vis_core.errors import OptionError

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ClassMatching:
    """Which category each class stands for.

    Attributes:
        ids: category id by the number of a class; a class without a partner has one that no category has.
        names: of all these ids: of the category, or of the class that has no partner.
        without_category: names of the classes without a partner, but for those that are left out on purpose.
        without_class: names of the categories without a partner.
        renamed: name of a class to name of a category, as the user said; empty: the class stands for none.
        matched: number of categories that a class stands for.
        complete: whether these are all classes of the system, not only those that happened to be found.
        source: where the classes were read, for messages.
    """

    ids: Mapping[int, int]
    names: Mapping[int, str]
    without_category: tuple[str, ...]
    without_class: tuple[str, ...]
    renamed: Mapping[str, str]
    matched: int
    complete: bool = True
    source: str = ""


def match_classes(
    classes: Mapping[int, str],
    categories: Mapping[int, str],
    renamed: Mapping[str, str] | None = None,
    *,
    numbered: bool = False,
    complete: bool = True,
) -> ClassMatching:
    """Give each class the category of its name; see `plain_name` for what makes no difference.

    Args:
        classes: names of the classes, by label or by the number that stands in results.
        categories: names by id.
        renamed: name of a class to name (or id) of the category that it stands for; empty: of none.
        numbered: nobody knows the names of the classes, which are called by their numbers: one that is not renamed is
            the category of its number.
        complete: these are all classes of the system.

    Raises:
        OptionError: ``renamed`` speaks of a class or a category that is not there.
    """
    known_classes, known_categories = _Names(classes), _Names(categories)
    chosen: dict[int, int | None] = {}
    for name, wanted in (renamed or {}).items():
        pair = f"categories {name}={wanted}"
        keys = known_classes.find(name)
        if not keys:
            raise OptionError(f"{pair}: there is no class {name!r}; there are {shown_names(classes.values())}")
        targets = known_categories.find(wanted) or known_categories.of_number(wanted)
        if wanted and not targets:
            raise OptionError(f"{pair}: there is no category {wanted!r}; there are {shown_names(categories.values())}")
        chosen.update(dict.fromkeys(keys, targets[0] if wanted else None))
    ids: dict[int, int] = {}
    names: dict[int, str] = {}
    alone: list[str] = []
    free = max((0, *categories)) + 1
    for key, name in classes.items():
        if key in chosen:
            partner = chosen[key]
        elif numbered:
            partner = key if key in categories else None
        else:
            partner = next(iter(known_categories.find(name)), None)
        if partner is None:
            partner, free = free, free + 1
            names[partner] = name
            if key not in chosen:
                alone.append(name)
        else:
            names[partner] = categories[partner]
        ids[key] = partner
    taken = set(ids.values())
    unmatched = tuple(name for number, name in categories.items() if number not in taken)
    matched = len(categories) - len(unmatched)
    return ClassMatching(ids, names, tuple(alone), unmatched, dict(renamed or {}), matched, complete)


def category_pairs(texts: Iterable[str]) -> dict[str, str]:
    """What ``--categories FROM=TO`` says, of all that were given.

    Raises:
        OptionError: one is not written so, or a class is named twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, wanted = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise OptionError(f"--categories {text}: write it as FROM=TO, class of the results = category")
        if pairs.setdefault(name, wanted) != wanted:
            raise OptionError(f"--categories {text}: {name} is {pairs[name]!r} already")
    return pairs


def knows_class(classes: Mapping[int, str], name: str) -> bool:
    """Whether ``renamed`` of `match_classes` may speak of a class."""
    return bool(_Names(classes).find(name))


def shown_names(names: Iterable[str]) -> str:
    """Names as a message lists them: the first few, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return (", ".join(every[:_SHOWN]) or "none") + more


class _Names:
    """Numbers by name: those of the very name, or else of what is plainly the same."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._numbers = {str(number): number for number in names}
        self._exact: dict[str, list[int]] = {}
        self._plain: dict[str, list[int]] = {}
        for number, name in names.items():
            self._exact.setdefault(name, []).append(number)
            self._plain.setdefault(plain_name(name), []).append(number)

    def find(self, name: str) -> list[int]:
        return self._exact.get(name) or self._plain.get(plain_name(name), [])

    def of_number(self, text: str) -> list[int]:
        return [self._numbers[text]] if text in self._numbers else []
