"""Datasets of strips, their batches and their splits."""

from fastrnn.data.arrays import StripArrays
from fastrnn.data.audio import SoundReader, StripAudio, read_audio
from fastrnn.data.augment import PRESETS, StripAugmentation, StripAugmented
from fastrnn.data.batching import StripBatch, StripBatches, collate, plan_batches, strip_batches
from fastrnn.data.channels import StripChannels
from fastrnn.data.dataset import UNLABELLED, StripDataset, require_classes
from fastrnn.data.depth import DepthReader, StripDepth
from fastrnn.data.export import export_strips, write_png
from fastrnn.data.files import ImageReader, StripFiles
from fastrnn.data.finding import detect_kind
from fastrnn.data.folder import StripAudioFolder, StripFolder, find_files, find_images
from fastrnn.data.folds import group_k_fold, group_split, k_fold
from fastrnn.data.frames import frames_to_strip, strip_to_frames
from fastrnn.data.groups import groups_by_path
from fastrnn.data.image import StripDecodeError
from fastrnn.data.inspect import inspect_dataset, inspect_source
from fastrnn.data.loader import prefetched
from fastrnn.data.manifest import StripAudioManifest, StripManifest
from fastrnn.data.mixup import mixup_batch
from fastrnn.data.readers import reader_from_json
from fastrnn.data.reading import FileStrips, StripReader
from fastrnn.data.sampling import balanced_indices, class_weights
from fastrnn.data.shard_stream import ShardStream
from fastrnn.data.shard_writing import write_shards
from fastrnn.data.shards import StripShards
from fastrnn.data.spectrogram import LogMel, log_mel
from fastrnn.data.splits import label_split, stratified_split
from fastrnn.data.spoken_digits import SpokenDigits
from fastrnn.data.statistics import pixel_statistics
from fastrnn.data.strip_digits import StripDigits
from fastrnn.data.strip_mnist import StripMNIST
from fastrnn.data.synthetic import GestureClips, RGBDStrips
from fastrnn.data.video import StripVideo, VideoReader, find_videos, read_video
from fastrnn.data.views import StripCache, StripConcat, StripSubset, StripTruncate, StripWindows
from fastrnn.data.wav import read_wav
from fastrnn.data.windows import windows

__all__ = [
    "PRESETS",
    "UNLABELLED",
    "DepthReader",
    "FileStrips",
    "GestureClips",
    "ImageReader",
    "LogMel",
    "RGBDStrips",
    "ShardStream",
    "SoundReader",
    "SpokenDigits",
    "StripArrays",
    "StripAudio",
    "StripAudioFolder",
    "StripAudioManifest",
    "StripAugmentation",
    "StripAugmented",
    "StripBatch",
    "StripBatches",
    "StripCache",
    "StripChannels",
    "StripConcat",
    "StripDataset",
    "StripDecodeError",
    "StripDepth",
    "StripDigits",
    "StripFiles",
    "StripFolder",
    "StripMNIST",
    "StripManifest",
    "StripReader",
    "StripShards",
    "StripSubset",
    "StripTruncate",
    "StripVideo",
    "StripWindows",
    "VideoReader",
    "balanced_indices",
    "class_weights",
    "collate",
    "detect_kind",
    "export_strips",
    "find_files",
    "find_images",
    "find_videos",
    "frames_to_strip",
    "group_k_fold",
    "group_split",
    "groups_by_path",
    "inspect_dataset",
    "inspect_source",
    "k_fold",
    "label_split",
    "log_mel",
    "mixup_batch",
    "pixel_statistics",
    "plan_batches",
    "prefetched",
    "read_audio",
    "read_video",
    "read_wav",
    "reader_from_json",
    "require_classes",
    "stratified_split",
    "strip_batches",
    "strip_to_frames",
    "windows",
    "write_png",
    "write_shards",
]
