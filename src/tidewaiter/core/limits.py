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
MODEL_FILES = 100_000
MODEL_BYTES = 64 * GIB

# OCI documents and layers.
MANIFEST_BYTES = 4 * MIB
CONFIG_BYTES = 8 * MIB
INDEX_MANIFESTS = 10_000
IMAGE_LAYERS = 127
INDEX_DEPTH = 4
LAYER_ENTRIES = 5_000_000
LAYER_BYTES = 64 * GIB
LAYER_RATIO = 200
"""Unpacked bytes for one packed byte of a layer; checked past `LAYER_RATIO_FREE`. Millions of tiny files reach 60."""
LAYER_RATIO_FREE = 1 * GIB
PATH_BYTES = 4096
LAYER_HEADER_BYTES = 1 * MIB
"""Longest PAX or GNU extended header of one member."""
BASE_ENTRIES = 1_000_000
"""Paths of an image that others' layers are put onto; all of them are in memory."""
LOADER_FILE_BYTES = 256 * KIB
"""One file of `ld.so.conf`."""
LOADER_FILES = 100
"""Files that `ld.so.conf` includes."""
ELF_SEGMENTS = 1024
ELF_DYNAMIC = 65_536
ELF_VERSIONS = 65_536
"""Symbol versions that one file needs or defines."""
TAKEN_FILES = 100_000
"""Files of an image that one `[[base.take]]` takes."""
ARCHIVE_MEMBERS = 100_000
"""Files in an image archive, not in the layers inside it."""

# Dockerfile builds.
DOCKERFILE_BYTES = 1 * MIB
CONTEXT_FILES = 100_000
CONTEXT_BYTES = 8 * GIB
BUILDER_PROBE_SECONDS = 30
"""How long a builder or container engine may take to say whether it works here."""
BUILDER_LINES = 40
"""Last lines of a builder's output that an error shows."""
BUILDER_LINE_BYTES = 400
BUILDER_STORAGE_BYTES = 20 * GIB
"""Past it, the steps that buildah keeps are thrown away before the next build."""

# Unpacked images of `exec`.
UNPACKED_IMAGES = 8
"""Root file systems kept; the one that was not used for longest goes first."""

# Debian archive.
INRELEASE_BYTES = 2 * MIB
PACKAGES_BYTES = 512 * MIB
DEB_BYTES = 1 * GIB
DEB_UNPACKED_BYTES = 4 * GIB
DEB_CONTROL_BYTES = 4 * MIB
DEB_MEMBERS = 200_000
SCRIPT_DEPTH = 50
SCRIPT_STEPS = 20_000
"""Blocks inside blocks of a maintainer script; a deeper one counts as unknown."""
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
BUILT_LAYERS = 40
"""Layers of an image that is built here; when wheels would need more, the smallest share one."""
PYTHON_PACKAGES = 5_000
REQUIREMENT_FILES = 100
INDEX_PAGE_BYTES = 64 * MIB
"""What an index says of one package; nightly builds of large projects reach 10 MiB."""
INDEX_FILES = 200_000
"""Files of one package in an index."""
BYTECODE_SECONDS = 900
BYTECODE_FILE_SECONDS = 120
BYTECODE_SOURCE_BYTES = 16 * MIB
"""Longest source that is compiled; a longer one stays source."""
BYTECODE_FILE_BYTES = 256 * MIB
BYTECODE_CHILD_BYTES = 2 * GIB
"""RLIMIT_AS of an interpreter that compiles."""
RESOLVE_SECONDS = 600
SOURCE_BUILD_SECONDS = 600
"""Building one wheel from its source."""
SOURCE_BUILD_BYTES = 2 * GIB
"""Memory for the files of one such build."""
SOURCE_PROCESS_BYTES = 4 * GIB
"""RLIMIT_AS of each of its processes."""
SOURCE_MEMBERS = 50_000
SOURCE_UNPACKED_BYTES = 1 * GIB
SOURCE_WHEEL_BYTES = 512 * MIB
"""A wheel that is built here."""
PACKAGE_BYTES = 256 * MIB
"""What Git tracks in a project whose own wheel is built; it is packed in memory."""

# Metadata that catalogers keep in memory.
METADATA_BYTES = 4 * MIB
DPKG_STATUS_BYTES = 64 * MIB
RPM_DATABASE_BYTES = 128 * MIB
"""An rpm database is kept in memory whole while it is read."""
RPM_HEADER_BYTES = 32 * MIB
"""What an rpm database keeps of one package, its list of files included."""
RPM_HEADER_ENTRIES = 65_535
RPM_PATHS_BYTES = 32 * MIB
"""Paths that the packages of one database call their own; files past it are nobody's."""
RPM_RECORDS = 200_000
"""Headers, readable or not, that are looked at in one database."""
RPM_RELATIONS = 1_000_000
"""Names that the packages of one database require and provide; `sles-release` alone has 8,000."""
COMPONENTS = 100_000
CLAIMED_FILES = 500_000
"""Files that the packages of one layer may call their own; those past it are nobody's."""
PACKAGE_FILES = 200_000
"""Files that one package may call its own."""
TREE_NODES = 200_000
"""Files and folders that one tree of an image's contents shows."""
COMPARED_FILES = 2_000_000
"""Files of two images, less those in layers that look the same in both, that are compared."""
LISTING_FRAME_BYTES = 256 * MIB
"""One unpacked piece of a layer's listing; we write pieces of about 1 MB, or of one package's list of files."""
LAYER_FACTS_BYTES = 128 * MIB
"""Text that the facts of one layer may keep in memory: links, whiteouts, packages, programs."""
LICENSE_CHARACTERS = 200
"""Longest licence text that is kept when it is no SPDX expression."""
BINARY_SCAN_BYTES = 256 * MIB
"""Of one program, in which what Go and Rust wrote into it is looked for."""
FRAMEWORK_SCAN_BYTES = 1 * GIB
"""Of TensorFlow's model server, in which its version is looked for; it is one large program."""
LIBRARY_SCAN_BYTES = 64 * MIB
"""Of a named CUDA or cuDNN library, in which its version is looked for."""
JAR_BYTES = 256 * MIB
"""A Java archive or an egg, which is held in memory while it is read."""
JAR_DIRECTORY_BYTES = 16 * MIB
JAR_MEMBER_BYTES = 64 * MIB
"""An archive inside an archive, which is unpacked whole."""
JAR_NESTED_BYTES = 512 * MIB
"""All archives inside one."""
JAR_TEXT_BYTES = 32 * MIB
"""Descriptions (`pom.properties`, manifests) in one archive and those inside it, as unpacked and as packed."""
JAR_DEPTH = 3
SECRET_FILE_BYTES = 1_000_000
REQUIREMENTS = 2000
"""Dependencies read from one package's metadata."""
FOLDER_DEPTH = 256
"""Folders inside folders that unpacking follows; each is one open file."""
LINKS_FOLLOWED = 40
"""Symlinks on the way to one path, as in the Linux kernel."""

# Children that read layers.
LAYER_CHILD_BYTES = 2 * GIB
"""RLIMIT_AS of a process that reads layers."""
LAYER_CHILD_SECONDS = 60.0
"""Until such a process has started."""
LAYER_SILENT_SECONDS = 120.0
"""How long one may tell of no progress, before it is late."""
LAYER_CPU_SECONDS = 3600.0
"""Computing that one layer may take."""
LAYER_FRAME_BYTES = 2 * MIB
"""One question, or one piece of a blob."""
LAYER_ANSWER_BYTES = 512 * MIB
"""Facts of a layer, or the listing of what lies in it."""

# Advisories.
FEED_BYTES = 2 * GIB
FEED_ENTRIES = 2_000_000
ADVISORY_BYTES = 8 * MIB
ADVISORY_STRING = 1000
"""Characters of one name, version, identifier or vector in an advisory."""
FEED_RATIO = 200
"""Unpacked bytes for one packed byte in a member of a feed; checked past `FEED_RATIO_FREE`."""
FEED_RATIO_FREE = 64 * KIB
FEED_WAIT_SECONDS = 300.0
"""How long an import waits for another process's: one of a large ecosystem takes minutes."""
FEED_LIST_BYTES = 128 * MIB
"""A mirror's list of entries and their changes."""
FEED_CHANGES = 2000
"""Changed entries that are fetched one by one; over it the whole export is."""
EXPLOITED_BYTES = 256 * MIB
"""A list of exploited vulnerabilities, unpacked."""
JSON_DEPTH = 64
REPORT_FINDINGS = 200_000
"""What a report of another scanner lists; its bytes and depth are bounded as those of an SBOM."""
REPORT_IDS = 100
"""Names of one vulnerability in such a report, or in a VEX statement."""
SCANNER_SECONDS = 900.0
"""How long another scanner may take for one image."""
VEX_STATEMENTS = 100_000
VEX_PRODUCTS = 500_000
"""Products and their parts, in all statements of one document."""

# Policy engine children.
POLICY_INPUT_BYTES = 16 * MIB
POLICY_MODULE_BYTES = 256 * KIB
POLICY_MODULES = 200
POLICY_BUNDLE_BYTES = 64 * MIB
"""Unpacked."""
POLICY_LAYERS = 10
POLICY_DATA_BYTES = 1 * MIB
POLICY_ANSWER_BYTES = 8 * MIB
POLICY_NESTING = 12
POLICY_CLASSES = 20_000
"""Answers that are kept for images of the same class, of one Rego package each."""
POLICY_CHILD_BYTES = 1 * GIB
"""RLIMIT_AS of a policy child."""
POLICY_SECONDS = 10.0
POLICY_LOAD_SECONDS = 10.0
VERDICT_SECONDS = 24 * 3600
"""Longest validity of a verdict."""
WAIVER_DAYS = 1825
"""How far away any waiver may end; those for production end sooner, by a setting."""
WAIVER_REASON_CHARACTERS = 2000
REFUSED_WAIVERS = 50
"""Waivers that do not count, as a verdict lists them; those that need the least to count come first."""

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
"""Kept open for reuse."""
ANSWER_HEAD_BYTES = 64 * KIB
"""Status line and headers of one HTTP answer."""
CHUNK_LINE_BYTES = 4 * KIB
"""A line between the chunks of an HTTP body."""
INTERIM_ANSWERS = 16
"""Answers of status 1xx before the final one."""

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
"""A larger blob is sent in chunks, so that a lost connection does not cost all of it; the first has this size."""
UPLOAD_CHUNK_SECONDS = 5.0
"""After a chunk that took less, the next one is four times as large: each of them costs the registry a sync."""
UPLOAD_CHUNK_LARGEST_BYTES = 1024 * MIB
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
ATTESTATION_BYTES = 32 * MIB
"""A DSSE envelope with its statement, which may be an SBOM."""
LAYER_STATEMENT_BYTES = 1 * MIB
"""What is attested of a shared layer: the wheels in it, the interpreter, the options."""

# Waiting for another process of the same home.
LOCK_SECONDS = 900.0
LEASES = 200
"""Files of ended processes in `leases/` after which the next one gathers what they say."""

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
SBOM_VALUES = 4_000_000
"""Values of an SBOM document that another program wrote; a package takes some 50 to 500."""
SBOM_LICENSES = 20_000
"""Different licence texts in one."""
SBOM_NOTES = 100
"""Different things that are said about reading one."""
PURL_CHARACTERS = 4096
