"""What is measured of a detector's predictions, ours or a peer's."""

from zellige.core.types import Geometry, GeometryMode
from zellige.evaluation import metrics
from zellige.evaluation.pixels import PixelHistogram, read_defect_mask
from zellige.evaluation.predictions import PredictionSet

SQUASHED = Geometry(mode=GeometryMode.RESIZE, height=256, width=256)
"""The protocol of published results and of the peer: every image squashed to a square."""
METRICS = ("image_auroc", "pixel_auroc", "aupro")


def quality(predictions: PredictionSet) -> dict[str, float]:
    """Image AUROC, pixel AUROC and AUPRO of stored TEST predictions, maps at the size of the images."""
    pixels = PixelHistogram()
    for prediction in predictions:
        pixels.add_prediction(prediction, read_defect_mask(prediction))
    found = pixels.compute_metrics()
    image = metrics.image_auroc(predictions.scores, predictions.is_defective)
    return {"image_auroc": image, "pixel_auroc": found.auroc, "aupro": found.aupro}
