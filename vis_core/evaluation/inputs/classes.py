"""The category ids of results: matched with those of the ground truth by what the results' companion tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vis_core.data.class_matching import ClassMatching, match_classes, shown_names
from vis_core.files.findings import is_integer
from vis_core.files.results_info import ResultsInfo, info_path

_OTHER = "does it belong to other results? Remove it to go by category ids"


class ResultClasses:
    """What the category ids of one file stand for.

    Args:
        path: of the file, or None.
        info: its companion, or None.
        used: the category ids in the file, or whatever stands for them.
        categories: of the ground truth, name by id.
        renamed: name of a class (without a companion: its id) to name of a category.

    Attributes:
        matching: None where ids are taken as they stand.

    Raises:
        OptionError: ``renamed`` names what is not there.
    """

    def __init__(
        self,
        path: str | None,
        info: ResultsInfo | None,
        used: Iterable[Any],
        categories: Mapping[int, str],
        renamed: Mapping[str, str] | None,
    ) -> None:
        self._info = info
        self._companion = info_path(Path(path)).name if path else "the companion"
        self._videos = {video.id for video in info.videos} if info else set()
        self.matching: ClassMatching | None = None
        if info is not None and info.categories and categories:
            matching = match_classes(info.categories, categories, renamed, complete=info.complete)
            self.matching = replace(matching, source=path or "")
        elif renamed:
            numbers = sorted({number for number in used if is_integer(number)})
            self.matching = match_classes({n: str(n) for n in numbers}, categories, renamed, numbered=True)

    def category(self, number: int) -> int:
        """The id of the ground truth's category, or one that it does not have."""
        return number if self.matching is None else self.matching.ids.get(number, number)

    def problem(self, category: int | None, video: int | None = None) -> str:
        """What an entry says that the companion does not know of; empty if all is well."""
        if self._info is None:
            return ""
        if category is not None and category not in self._info.categories:
            return f"category_id {category} is none of those in {self._companion}; {_OTHER}"
        if video is not None and self._videos and video not in self._videos:
            return f"video_id {video} is none of those in {self._companion}; {_OTHER}"
        return ""

    def dropped(self, category: int) -> str:
        """Why entries of a category that the ground truth does not have are dropped; empty if that was asked for."""
        if self.matching is None:
            return f"category_id {category} is not in the ground truth"
        name = self.matching.names.get(category, str(category))
        if name not in self.matching.without_category:
            return ""
        return f"class {name!r} is no category of the ground truth"

    def stale(self, path: str | None) -> str:
        """What makes one doubt that the companion belongs to the file; empty if nothing does."""
        size = None if self._info is None else self._info.results_bytes
        if path is None or size is None or Path(path).stat().st_size == size:
            return ""
        return f"the file has changed since {self._companion} was written, whose category names are taken all the same"

    def without_class(self) -> str:
        """Which categories of the ground truth no class stands for; empty if there is none."""
        if self.matching is None or not self.matching.without_class:
            return ""
        return f"no class is {shown_names(self.matching.without_class)} of the ground truth's categories"
