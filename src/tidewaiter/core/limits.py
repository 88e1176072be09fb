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
ARCHIVE_MEMBERS = 100_000
"""Files in an image archive, not in the layers inside it."""

# Debian archive.
INRELEASE_BYTES = 2 * MIB
PACKAGES_BYTES = 512 * MIB
DEB_BYTES = 1 * GIB
DEB_UNPACKED_BYTES = 4 * GIB
DEB_CONTROL_BYTES = 4 * MIB
DEB_MEMBERS = 200_000
XZ_MEMORY_BYTES = 256 * MIB
"""What unpacking xz may use; `xz -9` needs 65 MiB."""

# Python wheels.
WHEEL_BYTES = 4 * GIB
WHEEL_UNPACKED_BYTES = 16 * GIB
WHEEL_MEMBERS = 200_000
WHEEL_DIRECTORY_BYTES = 32 * MIB
"""Central directory of the zip file."""
WHEEL_METADATA_BYTES = 32 * MIB
"""One file that is read whole: RECORD, METADATA, a script with a shebang."""
PYTHON_LAYERS = 30
"""Layers of wheels in one image; the rest of the wheels share the last."""
PYTHON_PACKAGES = 5_000
REQUIREMENT_FILES = 100
BYTECODE_SECONDS = 900
BYTECODE_FILE_SECONDS = 120
BYTECODE_SOURCE_BYTES = 16 * MIB
"""Longest source that is compiled; a longer one stays source."""
BYTECODE_FILE_BYTES = 256 * MIB
BYTECODE_CHILD_BYTES = 2 * GIB
"""RLIMIT_AS of an interpreter that compiles."""
RESOLVE_SECONDS = 600

# Metadata that catalogers keep in memory.
METADATA_BYTES = 4 * MIB
DPKG_STATUS_BYTES = 64 * MIB
COMPONENTS = 100_000
LAYER_FACTS_BYTES = 128 * MIB
"""Text that the facts of one layer may keep in memory: links, whiteouts, packages, programs."""
LICENSE_CHARACTERS = 200
"""Longest licence text that is kept when it is no SPDX expression."""
REQUIREMENTS = 2000
"""Dependencies read from one package's metadata."""
FOLDER_DEPTH = 256
"""Folders inside folders that unpacking follows; each is one open file."""
LINKS_FOLLOWED = 40
"""Symlinks on the way to one path, as in the Linux kernel."""

# Advisories.
FEED_BYTES = 2 * GIB
FEED_ENTRIES = 2_000_000
ADVISORY_BYTES = 8 * MIB
ADVISORY_STRING = 1000
"""Characters of one name, version, identifier or vector in an advisory."""
FEED_RATIO = 200
"""Unpacked bytes for one packed byte in a member of a feed; checked past `FEED_RATIO_FREE`."""
FEED_RATIO_FREE = 64 * KIB
JSON_DEPTH = 64

# Policy engine children.
POLICY_INPUT_BYTES = 16 * MIB
POLICY_MODULE_BYTES = 256 * KIB
POLICY_MODULES = 200
POLICY_DATA_BYTES = 1 * MIB
POLICY_ANSWER_BYTES = 8 * MIB
POLICY_NESTING = 12
POLICY_CHILD_BYTES = 1 * GIB
"""RLIMIT_AS of a policy child."""
POLICY_SECONDS = 10.0
POLICY_LOAD_SECONDS = 10.0
VERDICT_SECONDS = 24 * 3600
"""Longest validity of a verdict."""

# HTTP.
CONNECT_SECONDS = 15.0
READ_SECONDS = 60.0
JSON_BODY_BYTES = 32 * MIB
ERROR_BODY_BYTES = 64 * KIB
REDIRECTS = 5
ATTEMPTS = 4
RETRY_AFTER_SECONDS = 60.0
"""Longest wait that a server may ask for; one that asks for more has refused."""
SMALL_BODY_SECONDS = 300.0
"""A whole body that is kept in memory must have arrived by then."""
SLOWEST_BYTES_PER_SECOND = 1 * KIB
"""A stream that stays below it for READ_SECONDS has stalled."""
CONNECTIONS = 32

# Registries.
TAGS = 100_000
TAG_PAGE = 1000
TOKEN_BYTES = 64 * KIB
TOKEN_SECONDS = 60.0
"""Validity of a token that does not say (Docker's token specification)."""
REPOSITORIES = 1_000_000
CREDENTIAL_HELPER_SECONDS = 60.0
"""A credential helper may have to ask the user."""
UPLOAD_END_SECONDS = 300.0
"""A registry may hash or move a whole blob before it answers the request that ends its upload."""
UPLOAD_CHUNK_BYTES = 64 * MIB
"""A larger blob is sent in chunks of this size, so that a lost connection does not cost all of it."""
CREDENTIALS_FILE_BYTES = 1 * MIB
TRANSFERS = 4
"""Blobs of one image sent or fetched at the same time."""
REFERRERS_COPIED = 1000
"""Manifests that refer to one image, directly or not, which a copy takes along."""
REFERRER_DEPTH = 4
BLOB_PLACES = 20_000
"""Blobs of one registry host of which is remembered in which repository they lie."""
BLOB_PLACES_BYTES = 16 * MIB

# Signatures.
KEY_FILE_BYTES = 64 * KIB
SIGNATURE_LAYERS = 100
PAYLOAD_BYTES = 64 * KIB

# Waiting for another process of the same home.
LOCK_SECONDS = 900.0

# Catalog and pages.
CATALOG_WAIT_SECONDS = 30.0
"""How long a transaction waits for another process's before it gives up."""
CATALOG_TEXT_CHARACTERS = 8192
"""Longest name, version, path or address that the catalog keeps of an image's contents; the rest is cut."""
PAGE_ROWS = 50
PAGE_COMPONENTS = 500
PAGE_NUMBER = 100_000
SEARCH_CHARACTERS = 200
SBOM_BYTES = 64 * MIB
