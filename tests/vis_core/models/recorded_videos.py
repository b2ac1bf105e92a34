"""Recorded videos of Mask2Former-VIS and MinVIS: a published checkpoint and frames in, the ten results out."""

import json

import numpy as np
import torch

import vis_core
from vis_core.structures import Frame


class RecordedVideo:
    """One recorded case.

    Args:
        folder: of the case.
        fill: maker of arrays from a manifest.
    """

    def __init__(self, folder, fill):
        self.record = json.loads((folder / "case.json").read_text())
        self.config = self.record["config"]
        self.images = np.load(folder / "inputs.npz")["images"]
        self.expected = np.load(folder / "expected.npz")
        self._manifest, self._fill = folder.parent / self.record["manifest"], fill

    def load(self, system, folder, **options):
        """The system on the case's weights, through a published checkpoint file."""
        path = folder / f"{self._manifest.parent.name}.pth"
        if not path.exists():
            arrays = self._fill(self._manifest)
            torch.save({"model": {key: torch.from_numpy(x) for key, x in arrays.items()}}, path)
        options = {"short_side": self.config["min_size_test"], "device": "cpu", "precision": "fp32"} | options
        return vis_core.load(system, path, **options)

    def frames(self):
        return [Frame(image, stamp=10 * i, index=i) for i, image in enumerate(self.images)]

    def close(self, name, found):
        entry = self.record["arrays"][name]
        found = np.asarray(found, np.float64).ravel()[:: entry.get("stride", 1)]
        np.testing.assert_allclose(found, self.expected[name].ravel(), entry["rtol"], entry["atol"], err_msg=name)

    def same_masks(self, found):
        expected = np.unpackbits(self.expected["masks"], axis=-1, count=found.shape[-1]).astype(bool)
        assert found.shape == expected.shape
        union = (found | expected).sum((1, 2, 3))
        iou = np.where(union == 0, 1, (found & expected).sum((1, 2, 3)) / np.maximum(union, 1))
        assert iou.min() >= self.record["arrays"]["masks"]["iou"]

    def check_clip(self, found):
        """The instances of the whole video as one clip, best first."""
        self.close("scores", found.class_scores.max(1))
        assert found.class_scores.argmax(1).tolist() == self.expected["labels"].tolist()
        rows = range(len(found))
        masks = [[m.dense() for m in found.masks(t, rows)] for t in range(len(self.images))]
        self.same_masks(np.array(masks).swapaxes(0, 1))

    def check_answers(self, answers):
        """The answers to all frames: a track for each result."""
        assert [x.index for x in answers] == list(range(len(self.images)))
        results = {}
        for instances in answers:
            for row in np.flatnonzero(instances.visible):
                new = (0.0, 0, np.zeros(self.images.shape[:3], bool))
                masks = results.setdefault(int(instances.track_ids[row]), new)[2]
                masks[instances.index] = instances.masks[row].dense()
                results[int(instances.track_ids[row])] = (
                    float(instances.track_scores[row]),
                    int(instances.labels[row]),
                    masks,
                )
        ranked = sorted(results.values(), key=lambda x: -x[0])
        self.close("scores", [score for score, _, _ in ranked])
        assert [label for _, label, _ in ranked] == self.expected["labels"].tolist()
        self.same_masks(np.array([masks for _, _, masks in ranked]))
