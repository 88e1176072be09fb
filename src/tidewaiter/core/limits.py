"""Every bound on what comes from outside, by name. Sizes in bytes, times in seconds.

A parser that meets more raises `LimitError` and leaves nothing behind. Tests hold each from both sides.
"""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# Files of a project and of the home.
PROJECT_FILE_BYTES = 256 * KIB
LOCK_FILE_BYTES = 16 * MIB
APP_FILES = 100_000
APP_BYTES = 2 * GIB

# OCI documents and layers.
MANIFEST_BYTES = 4 * MIB
CONFIG_BYTES = 8 * MIB
INDEX_MANIFESTS = 10_000
IMAGE_LAYERS = 127
INDEX_DEPTH = 4
LAYER_ENTRIES = 5_000_000
LAYER_BYTES = 64 * GIB
PATH_BYTES = 4096
LAYER_HEADER_BYTES = 1 * MIB
"""Longest PAX or GNU extended header of one member."""

# Debian archive.
INRELEASE_BYTES = 2 * MIB
PACKAGES_BYTES = 512 * MIB
DEB_BYTES = 1 * GIB
DEB_UNPACKED_BYTES = 4 * GIB
DEB_CONTROL_BYTES = 4 * MIB
DEB_MEMBERS = 200_000

# Python wheels.
WHEEL_BYTES = 4 * GIB
WHEEL_UNPACKED_BYTES = 16 * GIB
WHEEL_MEMBERS = 200_000
BYTECODE_SECONDS = 900
RESOLVE_SECONDS = 600

# Metadata that catalogers keep in memory.
METADATA_BYTES = 4 * MIB
DPKG_STATUS_BYTES = 64 * MIB
COMPONENTS = 100_000

# Advisories.
FEED_BYTES = 2 * GIB
FEED_ENTRIES = 2_000_000
ADVISORY_BYTES = 8 * MIB
JSON_DEPTH = 64

# Policy engine children.
POLICY_INPUT_BYTES = 16 * MIB
POLICY_MODULE_BYTES = 256 * KIB
POLICY_MODULES = 200
POLICY_NESTING = 12
POLICY_CHILD_BYTES = 1 * GIB
"""RLIMIT_AS of a policy child."""
POLICY_SECONDS = 10.0
POLICY_LOAD_SECONDS = 10.0

# HTTP.
CONNECT_SECONDS = 15.0
READ_SECONDS = 60.0
JSON_BODY_BYTES = 32 * MIB
ERROR_BODY_BYTES = 64 * KIB
REDIRECTS = 5
ATTEMPTS = 4

# Signatures.
KEY_FILE_BYTES = 64 * KIB
SIGNATURE_LAYERS = 256
PAYLOAD_BYTES = 64 * KIB

# Waiting for another process of the same home.
LOCK_SECONDS = 900.0
