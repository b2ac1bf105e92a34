#!/usr/bin/env bash
# pycocotools 2.0.11: an annotation whose id is 0 is never counted as found, so a perfect result scores below 1.
#
# COCOeval notes for each detection the id of the annotation that it matched, and takes 0 for "none". The format asks
# only that ids are unique, and whoever numbers annotations with enumerate() begins at 0. Then the first object is found
# and still counts as missed, its detection as a false one: three of three objects found exactly give a mask AP of 0.442
# and a recall of 0.667, without a warning. With ids from 1 both are 1. The fewer objects of a class, the larger the
# loss. The evaluators of YouTube-VIS and others that grew from this one inherit the rule: number annotations from 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install pycocotools==2.0.11 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import io
from importlib.metadata import version

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def scores(first_id):
    """AP and recall of three objects that are all found exactly, the annotations numbered from first_id."""
    annotations, results = [], []
    for k in range(3):
        mask = np.zeros((64, 64), np.uint8, order="F")
        mask[2:40, 20 * k : 20 * k + 15] = 1
        runs = coco_mask.encode(mask)
        area, box = float(coco_mask.area(runs)), coco_mask.toBbox(runs).tolist()
        found = {"image_id": 1, "category_id": 1, "segmentation": runs}
        annotations.append(found | {"id": first_id + k, "iscrowd": 0, "area": area, "bbox": box})
        results.append(found | {"score": 0.9})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": 1, "height": 64, "width": 64}],
            "categories": [{"id": 1, "name": "object"}],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0], evaluation.stats[8]


print("pycocotools", version("pycocotools"))
from_one, from_zero = scores(1), scores(0)
print("ids 1, 2, 3: AP %.3f, recall %.3f" % from_one)
print("ids 0, 1, 2: AP %.3f, recall %.3f" % from_zero)
if min(from_one) < 0.999 or max(from_zero) > 0.9:
    raise SystemExit("this has changed")
PYTHON
