"""Datasets of strips, their batches and their splits."""

from fastrnn.data.arrays import StripArrays
from fastrnn.data.batching import (
    StripBatch,
    StripBatches,
    collate,
    plan_batches,
    strip_batches,
)
from fastrnn.data.dataset import UNLABELLED, StripDataset, require_classes
from fastrnn.data.export import export_strips, write_png
from fastrnn.data.files import StripFiles
from fastrnn.data.folder import StripFolder, find_images
from fastrnn.data.image import StripDecodeError
from fastrnn.data.manifest import StripManifest
from fastrnn.data.splits import label_split, stratified_split
from fastrnn.data.statistics import pixel_statistics
from fastrnn.data.strip_digits import StripDigits
from fastrnn.data.strip_mnist import StripMNIST
from fastrnn.data.views import StripCache, StripConcat, StripSubset, StripTruncate
from fastrnn.data.windows import windows

__all__ = [
    "UNLABELLED",
    "StripArrays",
    "StripBatch",
    "StripBatches",
    "StripCache",
    "StripConcat",
    "StripDataset",
    "StripDecodeError",
    "StripDigits",
    "StripFiles",
    "StripFolder",
    "StripMNIST",
    "StripManifest",
    "StripSubset",
    "StripTruncate",
    "collate",
    "export_strips",
    "find_images",
    "label_split",
    "pixel_statistics",
    "plan_batches",
    "require_classes",
    "stratified_split",
    "strip_batches",
    "windows",
    "write_png",
]
