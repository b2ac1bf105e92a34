"""Training clips from annotated videos and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.data.annotations import AnnotatedSet, Item, Numbers
from vis_core.data.augmentation import (
    Augmentation,
    Colours,
    Matrix,
    Motion,
    warp_image,
    warp_objects,
    warp_opacity,
    window,
)
from vis_core.data.clips import TrainingClip
from vis_core.data.frame_draws import SHUFFLED, FrameDraw
from vis_core.errors import InputError
from vis_core.masks import tight_box

_MAX_INSTANCES = 120  # of an item in one clip; the rest is ignored, the numbers of pasted ones follow in one byte
_MIN_AREA = 12  # pixels of the clip's frame; what is less is ignored
_MIN_SHARE = 0.08  # of an instance's own area must stay visible beside what was pasted over it
_TILE_ZOOM = (0.8, 1.1)  # of the parts of a mosaic


class Clips:
    """Clips of the items of one annotation file; an image becomes one by moving the camera over it.

    Instances of other items are pasted in (Ghiasi et al., CVPR 2021), each with a motion of its own, so that there are
    occlusions and changing neighbours; copies keep their class and are new identities.

    Args:
        annotated: the file's content.
        frames: of a clip.
        size: height and width of a clip, pixels.
        augmentation: how clips are varied.
        donors: the sets whose instances are pasted; none: this one's own.
        shares: how often each of them gives, as against the others; none: all alike.
        frame_draw: which frames of a video a clip holds.
    """

    def __init__(
        self,
        annotated: AnnotatedSet,
        frames: int,
        size: tuple[int, int],
        augmentation: Augmentation,
        donors: Sequence[AnnotatedSet] = (),
        shares: Sequence[float] = (),
        frame_draw: FrameDraw = SHUFFLED,
    ) -> None:
        self.annotated = annotated
        self._frames, self._size, self._augmentation = frames, size, augmentation
        self._frame_draw = frame_draw
        donors = donors or (annotated,)
        usable = [[i for i, x in enumerate(d.items) if any(not a.crowd for a in x.annotations)] for d in donors]
        able = [x for x in zip(donors, usable, shares or [1.0] * len(donors)) if x[1] and x[2]]
        self._donors = [(donor, items) for donor, items, _ in able]
        self._shares = np.array([share for *_, share in able]) / sum(share for *_, share in able)

    def __len__(self) -> int:
        return len(self.annotated.items)

    def clip(self, index: int, random: np.random.Generator) -> TrainingClip:
        """A clip of item `index`; a function of its arguments alone."""
        item = self.annotated.items[index]
        draw = _Clip(self._frames, self._size, len(item.exhaustive))
        exhaustive = item.exhaustive
        if random.random() < self._augmentation.mosaic:
            self._mosaic(item, draw, random)
            exhaustive = (True,) * len(exhaustive)  # what a part does not label is ignored there
        else:
            self._base(item, draw, random)
        if self._donors:
            for _ in range(min(int(random.poisson(self._augmentation.copy_paste)), 4)):
                donor, usable = self._donor(random)
                self._paste(donor.items[usable[int(random.integers(len(usable)))]], draw, random)
        if random.random() < self._augmentation.erase:
            draw.erase(random)
        colours = Colours(random, self._augmentation)
        images = np.stack([colours.apply(image, random) for image in draw.images])
        return draw.finish(images, exhaustive)

    def _donor(self, random: np.random.Generator) -> tuple[AnnotatedSet, list[int]]:
        return self._donors[int(random.choice(len(self._donors), p=self._shares))]

    def _base(self, item: Item, draw: _Clip, random: np.random.Generator) -> None:
        count = len(item.files)
        chosen = self._frame_draw.draw(count, self._frames, random)
        seen = {t: (item.image(t), *item.object_images(t)) for t in sorted(set(chosen))}
        matrix = window(random, self._augmentation, item.size, self._size, _around(seen[chosen[0]][1], random))
        # In a video the objects move by themselves: the camera adds less.
        amount = random.random() * (1.0 if count == 1 else 0.4)
        motion = Motion(random, self._augmentation, self._size, amount)
        # Only what is seen in these frames needs a number.
        present = np.unique(np.concatenate([np.unique(numbers) for _, *both in seen.values() for numbers in both]))
        visible = [n for n in present.tolist() if n]
        numbers = [n for n in visible if not item.annotations[n - 1].crowd][:_MAX_INSTANCES]
        table = np.zeros(len(item.annotations) + 1, np.uint8)
        for number in numbers:
            table[number] = draw.add(item.annotations[number - 1].label)
        ignored = {n: item.annotations[n - 1].label for n in visible if not table[n]}
        for frame, source in enumerate(chosen):
            image, objects, crowds = seen[source]
            moved = motion.at(_time(frame, self._frames), random)
            draw.warps.append(moved)
            warp = moved @ matrix
            draw.images.append(warp_image(image, warp, self._size).copy())
            warped = warp_objects(objects, warp, self._size)
            draw.objects.append(table[warped])
            both = warp_objects(crowds, warp, self._size) if crowds.any() else None
            for number, label in ignored.items():
                region = warped == number if both is None else (warped == number) | (both == number)
                if region.any():
                    draw.ignore(label, frame, region)
        draw.measure()

    def _mosaic(self, item: Item, draw: _Clip, random: np.random.Generator) -> None:
        """Four items side by side, seen as one picture (Bochkovskiy et al., 2020): many and small objects."""
        height, width = self._size
        y, x = (int(length * random.uniform(0.35, 0.65)) for length in self._size)
        canvas = np.zeros((height, width, 3), np.uint8)
        objects = np.zeros(self._size, np.uint8)
        ignored = np.zeros((len(item.exhaustive), height, width), np.uint8)
        for top, bottom, left, right in ((0, y, 0, x), (0, y, x, width), (y, height, 0, x), (y, height, x, width)):
            part = np.s_[top:bottom, left:right]
            tile = bottom - top, right - left
            frame = int(random.integers(len(item.files)))
            shown, crowds = item.object_images(frame)
            matrix = window(
                random, replace(self._augmentation, zoom=_TILE_ZOOM), item.size, tile, _around(shown, random)
            )
            canvas[part] = warp_image(item.image(frame), matrix, tile)
            shown, crowds = (warp_objects(numbers, matrix, tile) for numbers in (shown, crowds))
            table = np.zeros(len(item.annotations) + 1, np.uint8)
            for number in np.union1d(np.unique(shown), np.unique(crowds)).tolist():
                if number:
                    annotation = item.annotations[number - 1]
                    if annotation.crowd or draw.full:
                        ignored[annotation.label][part] |= (shown == number) | (crowds == number)
                    else:
                        table[number] = draw.add(annotation.label)
            objects[part] = table[shown]
            for label, complete in enumerate(item.exhaustive):
                if not complete:
                    ignored[label][part] |= objects[part] == 0
            donor, usable = self._donor(random) if self._donors else (self.annotated, [0])
            if random.random() < 0.6:
                item = self.annotated.items[int(random.integers(len(self)))]
            else:
                item = donor.items[usable[int(random.integers(len(usable)))]]
        motion = Motion(random, self._augmentation, self._size, random.random())
        for t in range(self._frames):
            warp = motion.at(_time(t, self._frames), random)
            draw.warps.append(warp)
            draw.images.append(warp_image(canvas, warp, self._size).copy())
            draw.objects.append(warp_objects(objects, warp, self._size))
            for label in np.flatnonzero(ignored.any((1, 2))).tolist():
                draw.ignore(label, t, warp_objects(ignored[label], warp, self._size) != 0)
        draw.measure()

    def _paste(self, item: Item, draw: _Clip, random: np.random.Generator) -> None:
        frame = int(random.integers(len(item.files)))
        objects, _ = item.object_images(frame)
        areas = np.bincount(objects.ravel(), minlength=len(item.annotations) + 1)
        numbers = [
            n for n, a in enumerate(item.annotations, 1) if not a.crowd and areas[n] > max(150, 0.002 * objects.size)
        ]
        if not numbers or draw.full:
            return
        number = numbers[int(random.integers(len(numbers)))]
        mask = (objects == number).astype(np.uint8)
        x, y, w, h = tight_box(mask)
        image = item.image(frame)
        x0, y0, x1, y1 = max(x - 2, 0), max(y - 2, 0), min(x + w + 2, mask.shape[1]), min(y + h + 2, mask.shape[0])
        image, mask = image[y0:y1, x0:x1], mask[y0:y1, x0:x1]
        label = item.annotations[number - 1].label
        side, place, together = self._spot(label, (w, h), draw, random)
        scale = min(side / max(w, h), 2.5)
        stretch = self._augmentation.stretch ** random.uniform(-1, 1)
        flip = -1.0 if random.random() < self._augmentation.flip else 1.0
        matrix = np.diag([flip * scale * stretch, scale / stretch, 1.0])
        matrix[:2, 2] = place - matrix[[0, 1], [0, 1]] * np.array([mask.shape[1], mask.shape[0]]) / 2
        motion = Motion(random, self._augmentation, self._size, 1.5 * random.random())
        still = np.linalg.inv(draw.warps[0])
        number = draw.add(label)
        soft = cv2.GaussianBlur(mask * np.uint8(255), (3, 3), 0)
        for t in range(self._frames):
            moved = draw.warps[t] @ still if together else motion.at(_time(t, self._frames), random)
            warp = moved @ matrix
            alpha = warp_opacity(soft, warp, self._size)
            x, y, w, h = tight_box(alpha)
            if w == 0:
                continue
            part = np.s_[y : y + h, x : x + w]
            colours = warp_image(image, warp, self._size)[part]
            opaque = alpha[part][..., None].astype(np.float32) / 255
            draw.images[t][part] = (colours * opaque + draw.images[t][part] * (1 - opaque) + 0.5).astype(np.uint8)
            draw.objects[t][part][alpha[part] > 127] = number
            draw.cover(t, alpha > 127)
        draw.measure(number)

    def _spot(
        self, label: int, size: tuple[int, int], draw: _Clip, random: np.random.Generator
    ) -> tuple[float, npt.NDArray[np.float64], bool]:
        """Longer side and middle (x, y) of what is pasted, in the clip's first frame, and whether it moves with that.

        Args:
            label: its class.
            size: its width and height where it comes from.
        """
        a, (height, width) = self._augmentation, self._size
        # Its longer side becomes 0.12 to 0.8 of the frame's.
        side = float(np.exp(random.uniform(np.log(0.12), np.log(0.8)))) * height
        place = np.array([width * random.uniform(0.05, 0.95), height * random.uniform(0.15, 0.95)])
        if not a.touch or random.random() >= a.touch:
            return side, place, False
        there = np.unique(draw.objects[0])
        there = there[there > 0]
        if not len(there):
            return side, place, False
        # Company is kept by one of its own class, where there is one.
        together = bool(a.company) and random.random() < a.company
        if together:
            kin = [n for n in there.tolist() if draw.labels[n - 1] == label]
            there = np.array(kin) if kin else there
        x, y, w, h = tight_box(draw.objects[0] == random.choice(there))
        if not together:
            side = max(0.12 * height, max(w, h) * float(np.exp(random.uniform(-0.5, 0.3))))
            return side, np.array([x, y]) + np.array([w, h]) * random.uniform((-0.1, -0.2), (1.1, 0.8)), False
        # As high as the other one, on the same ground, and beside it: half behind or in front of it to a little apart.
        tall = h * float(np.exp(random.uniform(-0.2, 0.15)))
        wide = tall * size[0] / size[1]
        beside = random.choice((-1, 1)) * random.uniform(0.4, 1.1) * (w + wide) / 2
        middle = np.array([x + w / 2 + beside, y + h * (1 + random.uniform(-0.06, 0.06)) - tall / 2])
        return max(tall, wide), middle, True


class _Clip:
    """A clip while it is made: images, and which instance each pixel shows."""

    def __init__(self, frames: int, size: tuple[int, int], classes: int) -> None:
        self.images: list[npt.NDArray[np.uint8]] = []
        self.objects: list[npt.NDArray[np.uint8]] = []
        self._frames, self._size, self._classes = frames, size, classes
        self.warps: list[Matrix] = []  # what moves the picture in each frame
        self.labels: list[int] = []
        self._whole: dict[tuple[int, int], int] = {}
        self._ignored = np.zeros((classes, frames, *size), np.bool_)

    @property
    def full(self) -> bool:
        """Whether one byte cannot number another instance."""
        return len(self.labels) >= 250

    def add(self, label: int) -> int:
        """Number of a new instance, from 1."""
        self.labels.append(label)
        return len(self.labels)

    def ignore(self, label: int, frame: int, region: npt.NDArray[np.bool_]) -> None:
        """Take predictions of a label there as no error."""
        self._ignored[label, frame] |= region

    def cover(self, frame: int, region: npt.NDArray[np.bool_]) -> None:
        """Something is in front of a region that was to be ignored."""
        self._ignored[:, frame][:, region] = False

    def measure(self, *numbers: int) -> None:
        """Note the areas of instances (all, if none is named) before anything is put in front of them."""
        for frame, objects in enumerate(self.objects):
            areas = np.bincount(objects.ravel(), minlength=256)
            for number in numbers or range(1, len(self.labels) + 1):
                self._whole[number, frame] = int(areas[number])

    def erase(self, random: np.random.Generator) -> None:
        """Cover a rectangle with one colour, the same in all frames: an obstacle in front of the camera."""
        height, width = self._size
        h, w = (random.uniform(0.1, 0.4, 2) * self._size).astype(int)
        y, x = int(random.integers(height - h)), int(random.integers(width - w))
        colour = random.integers(0, 256, 3)
        for frame in range(self._frames):
            self.images[frame][y : y + h, x : x + w] = colour
            self.objects[frame][y : y + h, x : x + w] = 0
            self._ignored[:, frame, y : y + h, x : x + w] = False

    def finish(self, images: npt.NDArray[np.uint8], exhaustive: Sequence[bool]) -> TrainingClip:
        """The clip; slivers and what is all but hidden become regions to ignore."""
        objects = np.stack(self.objects)
        areas = np.stack([np.bincount(o.ravel(), minlength=256) for o in self.objects])
        for (number, frame), whole in self._whole.items():
            area = int(areas[frame, number])
            if 0 < area < max(_MIN_AREA, _MIN_SHARE * whole):
                remains = objects[frame] == number
                self._ignored[self.labels[number - 1], frame] |= remains
                objects[frame][remains] = 0
        seen = [n for n in np.unique(objects) if n]
        masks = np.stack([objects == n for n in seen]) if seen else np.zeros((0, *objects.shape), np.bool_)
        ignored = [label for label in range(self._classes) if self._ignored[label].any()]
        return TrainingClip(
            images=images,
            masks=masks,
            labels=np.array([self.labels[n - 1] for n in seen], np.int64),
            exhaustive=np.array(exhaustive, np.bool_),
            ignore_masks=self._ignored[ignored],
            ignore_labels=np.array(ignored, np.int64),
        )


def open_sources(
    sets: Sequence[AnnotatedSet],
    frames: int,
    size: tuple[int, int],
    augmentation: Augmentation,
    shares: Sequence[float] = (),
    frame_draw: FrameDraw = SHUFFLED,
) -> list[Clips]:
    """Clips of each set; instances are pasted from one set into another.

    Args:
        sets: read with the same class names.
        frames: of a clip.
        size: height and width of a clip.
        augmentation: how clips are varied.
        shares: how often each set gives what is pasted; none: all alike.
        frame_draw: which frames of a video a clip holds.

    Raises:
        InputError: a set holds no item.
    """
    for annotated in sets:
        if not annotated.items:
            raise InputError(f"{annotated.path}: holds no {'video' if annotated.videos else 'image'}")
    return [Clips(annotated, frames, size, augmentation, sets, shares, frame_draw) for annotated in sets]


def balanced(annotated: AnnotatedSet, power: float) -> npt.NDArray[np.float64]:
    """Weights of the items by which those of rare classes are drawn more often (compare Gupta et al., CVPR 2019).

    An item weighs ``(1 / f) ** power``, f being the share of the items that have its rarest class; one without any
    object weighs 1.

    Args:
        annotated: whose items are weighed.
        power: 0: all alike; 1: a class of 1 % of the items in as many clips as one of all, were there no others.

    Returns:
        float64 ``[items]``.
    """
    labels = [{a.label for a in item.annotations if not a.crowd} for item in annotated.items]
    counts = np.bincount([label for found in labels for label in found], minlength=len(annotated.class_names))
    shares = counts / max(len(labels), 1)
    return np.array([min((shares[label] for label in found), default=1.0) ** -power for found in labels], np.float64)


def _around(objects: Numbers, random: np.random.Generator) -> tuple[float, float] | None:
    """A point of a random instance, or now and then none."""
    numbers = np.unique(objects)
    numbers = numbers[numbers > 0]
    if not len(numbers) or random.random() < 0.25:
        return None
    x, y, w, h = tight_box(objects == numbers[int(random.integers(len(numbers)))])
    return x + w / 2, y + h / 2


def _time(frame: int, frames: int) -> float:
    return frame / max(frames - 1, 1) - 0.5
