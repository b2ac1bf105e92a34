"""The forms of annotation files: which one a JSON has, and those that are turned into the form of YouTube-VIS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vis_core.files.annotation_ids import Ids, whole
from vis_core.files.findings import Findings, shown

_EXPORT = "export it as COCO (images) or YouTube-VIS (videos)"
# Keys that a form has, its name, and what to do with it.
_OTHER_FORMS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("shapes", "imagePath"), "Labelme's file of one image", _EXPORT),
    (("_via_img_metadata",), "a project of the VGG Image Annotator", _EXPORT),
    (("image", "annotations"), "the SA-1B form of one image", _EXPORT),
    (("video_id", "masklet"), "the SA-V form of one video", _EXPORT),
    (("objects", "size"), "Supervisely's file of one image", _EXPORT),
    (("openlabel",), "the OpenLABEL form", _EXPORT),
    (("items", "categories"), "Datumaro's form", _EXPORT),
    (("frames",), "a form that lists frames, as Scalabel's", _EXPORT),
)


@dataclass(frozen=True, slots=True)
class Lists:
    """The lists of an annotation file, in the form of COCO or of YouTube-VIS.

    Attributes:
        kind: whether the entries are images or videos.
        name: of the list of entries in the file.
        entries: as the file has them.
        annotations: as the file has them, or made from it; None where there is no such list.
        places: of the annotations, where they do not stand in a list of that name.
    """

    kind: Literal["image", "video"]
    name: str
    entries: list[Any]
    annotations: list[Any] | None
    places: Sequence[str] | None = None


def lists_of(content: Any, findings: Findings, *, labelled: bool) -> Lists | None:
    """The lists of an annotation file; None where its form is another one, which the findings tell.

    CocoVID (images with ``video_id``) and BURST (``sequences``) are turned into the form of YouTube-VIS.

    Args:
        content: of the file.
        findings: where errors go.
        labelled: whether categories and annotations must be there.
    """
    if not isinstance(content, Mapping):
        findings.error("", f"{shown(content)} instead of an object with images or videos{_hint_of_list(content)}")
        return None
    filled = [key for key in ("videos", "images", "sequences") if content.get(key)]
    there = [key for key in ("videos", "images") if content.get(key) is not None]
    name = (filled + there)[0] if filled or there else None
    if other := _other_form(content, name):
        findings.error("", other)
        return None
    if name is None:
        findings.error("", "images is missing, as COCO's form has it, and so is videos, as that of YouTube-VIS has it")
        return None
    burst = name == "sequences"
    for key in (name, "categories", "annotations"):
        given = content.get(key)
        if given is None and labelled and not (burst and key == "annotations"):
            hint = "; is it a test split without labels?" if key == "annotations" else ""
            findings.error("", f"{key} is missing{hint}")
        elif given is not None and not isinstance(given, list):
            findings.error("", f"{key} is {shown(given)} instead of a list")
    if findings.has_errors:
        return None
    if not content[name]:
        findings.error("", f"holds no {'image' if name == 'images' else 'video'}: {name} is an empty list")
    if burst:
        return _from_burst(content["sequences"])
    if name == "videos" and _is_coco_vid(content):
        return _from_coco_vid(content, findings)
    return Lists("video" if name == "videos" else "image", name, content[name], content.get("annotations"))


def _hint_of_list(content: Any) -> str:
    first = content[0] if isinstance(content, list) and content else None
    if not isinstance(first, dict):
        return "; is it a result file?" if isinstance(content, list) else ""
    if "score" in first:
        return "; this looks like a result file: were the two swapped?"
    if "data" in first and ("annotations" in first or "completions" in first):
        return f"; this is Label Studio's own form: {_EXPORT}"
    if "labels" in first:
        return f"; this is a list of frames, as BDD100K's: {_EXPORT}"
    return "; is it a result file?"


def _other_form(content: Mapping[str, Any], name: str | None) -> str:
    """What the form is and what to do, where it is a known one that is not read."""
    if name == "videos" and content["videos"] and isinstance(content["videos"], dict):
        return "videos is an object, as in the meta.json of YouTube-VOS, whose masks are PNGs: this form is not read"
    annotations = content.get("annotations")
    if isinstance(annotations, list) and annotations and isinstance(annotations[0], dict):
        panoptic = annotations[0]
        if "segments_info" in panoptic or (name == "videos" and isinstance(panoptic.get("annotations"), list)):
            return "is a panoptic file, whose masks are PNGs; 'vis evaluate --panoptic' scores folders of such PNGs"
    if name is not None:
        return ""
    for keys, form, advice in _OTHER_FORMS:
        if all(key in content for key in keys):
            return f"is {form}, which is not read; {advice}"
    values: list[Any] = list(content.values())[:1]
    first = values[0] if values else None
    if isinstance(first, dict) and "regions" in first and "filename" in first:
        return f"is an export of the VGG Image Annotator, which is not read; {_EXPORT}"
    return ""


def _is_coco_vid(content: Mapping[str, Any]) -> bool:
    images = content.get("images")
    return (
        isinstance(images, list)
        and any(isinstance(image, dict) and "video_id" in image for image in images[:10])
        and not any(isinstance(video, dict) and "file_names" in video for video in content["videos"][:10])
    )


def _from_burst(sequences: list[Any]) -> Lists:
    """BURST: a sequence lists its images and, for each, the run lengths by track."""
    entries: list[Any] = []
    annotations: list[dict[str, Any]] = []
    places: list[str] = []
    for index, sequence in enumerate(sequences):
        if not isinstance(sequence, dict):
            entries.append(sequence)
            continue
        names = sequence.get("annotated_image_paths")
        folder = "/".join(str(sequence[key]) for key in ("dataset", "seq_name") if sequence.get(key))
        if isinstance(names, list):
            names = [f"{folder}/{name}" if folder and isinstance(name, str) and name else name for name in names]
        entry = {key: sequence[key] for key in _KEPT_OF_SEQUENCE if key in sequence}
        entries.append({**entry, "name": sequence.get("seq_name"), "file_names": names})
        frames = sequence.get("segmentations")
        frames = frames if isinstance(frames, list) else []
        categories = sequence.get("track_category_ids")
        categories = categories if isinstance(categories, dict) else {}
        size = [sequence.get("height"), sequence.get("width")]
        shown_tracks = [track for frame in frames if isinstance(frame, dict) for track in frame]
        for track in dict.fromkeys([*categories, *shown_tracks]):
            masks = [frame.get(track) if isinstance(frame, dict) else frame for frame in frames]
            segmentations = [
                {"size": size, "counts": mask["rle"]} if isinstance(mask, dict) and "rle" in mask else mask
                for mask in masks
            ]
            places.append(f"sequences[{index}] track {track}")
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": sequence.get("id"),
                    "category_id": categories.get(track),
                    "segmentations": segmentations,
                }
            )
    return Lists("video", "sequences", entries, annotations, places)


_KEPT_OF_SEQUENCE = ("id", "width", "height", "neg_category_ids", "not_exhaustive_category_ids")


def _from_coco_vid(content: Mapping[str, Any], findings: Findings) -> Lists:
    """CocoVID: images name their video and frame, annotations their image and object."""
    videos, images = content["videos"], content["images"]
    video_ids = Ids(video.get("id") for video in videos if isinstance(video, dict))
    image_ids = Ids(image.get("id") for image in images if isinstance(image, dict))
    known = {video_ids.find(video.get("id")) for video in videos if isinstance(video, dict)}
    frames: dict[int, list[tuple[int, int, int, dict[str, Any]]]] = {}  # by video: frame number, index, id, image
    for index, image in enumerate(images):
        place = f"images[{index}]"
        if not isinstance(image, dict):
            findings.error(place, f"{shown(image)} instead of an object", index=index)
            continue
        number, video = image_ids.find(image.get("id")), video_ids.find(image.get("video_id"))
        if number is None:
            findings.error(place, f"id {shown(image.get('id'))} is neither an integer nor a text", index=index)
        elif video is None or video not in known:
            findings.error(place, f"video_id {shown(image.get('video_id'))} is not in videos", index=index)
        else:
            order = whole(image.get("frame_id", image.get("frame_index")))
            frames.setdefault(video, []).append((index if order is None else order, index, number, image))
    entries, at = [], dict[int, tuple[int, int]]()
    for video in videos:
        entry = video
        if isinstance(video, dict):
            number = video_ids.find(video.get("id"))
            listed = sorted(frames.get(-1 if number is None else number, []), key=lambda frame: frame[:2])
            for position, (order, index, image_id, image) in enumerate(listed):
                place = f"images[{index}]"
                if position and order == listed[position - 1][0]:
                    findings.error(place, f"frame {order} of video {number} stands twice", index=index)
                if image_id in at:
                    findings.error(place, f"id {image_id} stands twice", index=index)
                if any(image.get(key) != listed[0][3].get(key) for key in ("width", "height")):
                    text = f"is of another size than images[{listed[0][1]}] of the same video"
                    findings.error(place, text, index=index)
                at[image_id] = (number or 0, position)
            first = listed[0][3] if listed else {}
            size = {key: video.get(key, first.get(key)) for key in ("width", "height")}
            entry = {
                **video,
                **size,
                "length": len(listed),
                "file_names": [frame[3].get("file_name") for frame in listed],
            }
        entries.append(entry)
    annotations = content.get("annotations")
    if annotations is None:
        return Lists("video", "videos", entries, None)
    lengths = {video: len(listed) for video, listed in frames.items()}
    tracks, places = _tracks_of(annotations, at, lengths, image_ids, findings)
    return Lists("video", "videos", entries, tracks, places)


def _tracks_of(
    annotations: list[Any],
    at: Mapping[int, tuple[int, int]],
    lengths: Mapping[int, int],
    image_ids: Ids,
    findings: Findings,
) -> tuple[list[Any], list[str]]:
    """Annotations of images gathered into those of videos, and the place of each: that of its first one."""
    tracks: dict[tuple[int, int | str], dict[str, Any]] = {}
    places: list[str] = []
    for index, annotation in enumerate(annotations):
        place = f"annotations[{index}]"
        if not isinstance(annotation, dict):
            findings.error(place, f"{shown(annotation)} instead of an object", index=index)
            continue
        image = image_ids.find(annotation.get("image_id"))
        if image is None or image not in at:
            findings.error(place, f"image_id {shown(annotation.get('image_id'))} is not in images", index=index)
            continue
        video, frame = at[image]
        identity = annotation.get("instance_id", annotation.get("track_id"))
        if not isinstance(identity, (int, str)) or identity == -1:
            findings.error(place, f"instance_id {shown(identity)}; give the object's number in its video", index=index)
            continue
        key = (video, identity)
        if key not in tracks:
            rows: dict[str, list[Any]] = {name: [None] * lengths[video] for name in _BY_FRAME.values()}
            given = {name: annotation.get(name) for name in ("category_id", "iscrowd")}
            tracks[key] = {"id": len(tracks) + 1, "video_id": video, **given, **rows}
            places.append(place)
        track = tracks[key]
        if annotation.get("category_id") != track["category_id"]:
            was = shown(track["category_id"])
            text = (
                f"category_id {shown(annotation.get('category_id'))}, but instance {shown(identity)} is of {was} before"
            )
            findings.error(place, text, index=index)
        elif track["segmentations"][frame] is not None:
            findings.error(place, f"instance {shown(identity)} stands twice in frame {frame}", index=index)
        for name, row in _BY_FRAME.items():
            track[row][frame] = annotation.get(name)
    for track in tracks.values():
        for row in ("areas", "bboxes"):
            if not any(track[row]):
                del track[row]
    return list(tracks.values()), places


_BY_FRAME = {"segmentation": "segmentations", "area": "areas", "bbox": "bboxes"}
