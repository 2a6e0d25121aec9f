"""Files in, pixels out: reading images and masks, recognising how a data set is laid out, decoding many at once."""

from __future__ import annotations

from shiftproof.data.cache import DecodedImages, decode_images, in_order, iter_decoded, iter_images
from shiftproof.data.images import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    Decoded,
    ImageInfo,
    decode_image,
    read_decoded,
    read_image,
    resize_image,
    write_image,
)
from shiftproof.data.layouts import (
    LAYOUTS,
    LabelledImage,
    LabelledSet,
    Layout,
    calibration_images,
    categories,
    find_images,
    good_images,
    labelled_images,
    load_mask,
    recognise_layout,
    relative_name,
    said_of_folders,
    said_of_passed_over,
    write_manifest,
)
from shiftproof.data.listing import is_listing, listed_images
from shiftproof.data.masks import read_mask
from shiftproof.data.profile import ImageProfile
from shiftproof.data.synthetic import synthetic_images

__all__ = [
    "DecodedImages",
    "IMAGE_SUFFIXES",
    "LAYOUTS",
    "Layout",
    "MAX_PIXELS",
    "LabelledImage",
    "LabelledSet",
    "calibration_images",
    "categories",
    "decode_image",
    "decode_images",
    "find_images",
    "good_images",
    "in_order",
    "is_listing",
    "iter_decoded",
    "iter_images",
    "listed_images",
    "load_mask",
    "read_image",
    "read_mask",
    "recognise_layout",
    "relative_name",
    "said_of_folders",
    "said_of_passed_over",
    "read_decoded",
    "Decoded",
    "ImageInfo",
    "ImageProfile",
    "resize_image",
    "synthetic_images",
    "labelled_images",
    "write_image",
    "write_manifest",
]
