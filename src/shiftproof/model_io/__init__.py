"""What is kept on disk: the model folder, its hashes, and the versions that it was made with."""

from shiftproof.model_io.model_folder import (
    FORMAT_VERSION,
    MANIFEST,
    TRAINING,
    WEIGHTS,
    load_manifest,
    load_weights,
    manifest_sha256,
    refuse_occupied,
    save_export,
    save_model,
    save_reference,
    sha256_file,
    update_manifest,
    write_json_atomic,
    write_text_atomic,
)
from shiftproof.model_io.versions import environment, package_version

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "TRAINING",
    "WEIGHTS",
    "environment",
    "load_manifest",
    "load_weights",
    "manifest_sha256",
    "package_version",
    "refuse_occupied",
    "save_export",
    "save_model",
    "save_reference",
    "sha256_file",
    "update_manifest",
    "write_json_atomic",
    "write_text_atomic",
]
