"""Every bound on what comes from outside, by name. Sizes in bytes, times in seconds.

A parser that meets more raises `LimitError` and leaves nothing behind. Tests hold each from both sides.
"""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# Files of a project and of the home.
PROJECT_FILE_BYTES = 256 * KIB
SETTINGS_TABLES = 1000
LEAD_TIME_ROWS = 100
ENVIRONMENT_PATTERNS = 1000
ENVIRONMENT_PATTERN_LENGTH = 300
LOCK_FILE_BYTES = 16 * MIB
AUTHOR_CHARACTERS = 200
CI_VARIABLE_CHARACTERS = 2000
"""Of one value that a CI says of its job."""
SUMMARY_CHARACTERS = 60_000
"""Of a summary for a merge request; GitHub takes comments up to 65,536."""
SUMMARY_TEXT = 1000
"""Of one text in it that comes from elsewhere."""
TARGET_BUILDS = 50
"""Of a target branch, among which its newest image is looked for."""
TARGET_COMMITS = 500
STARTING_FILES = 100_000
"""Files and folders that `init` looks at."""
STARTING_BYTES = 64 * MIB
"""Of requirements, wheels and settings that `init` locks from."""
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
LINTED_BYTES = 4 * MIB
"""Of one file that `lint` reads."""
LINTED_FILES = 100_000
"""In one run of `lint`."""
LINT_ALONE = 2_000
"""Files from which on `lint` starts processes."""
LINT_PROCESSES = 8
STATIC_FILES = 50_000
"""Files of a project that are analysed."""
STATIC_FILE_BYTES = 4 * MIB
STATIC_BYTES = 512 * MIB
"""Of all files together; looking for secrets takes a second for each 3 MiB."""
STATIC_FINDINGS = 5_000
STATIC_HITS = 50
"""Secrets that are told of one file."""
STATIC_PACKAGES = 2_000
"""Packages that the locks of a project name."""
STATIC_CONNECT_SECONDS = 5.0
STATIC_READ_SECONDS = 15.0
STATIC_INDEX_SECONDS = 60.0
"""How long package indexes are asked in all."""
STATIC_FRESH_SECONDS = 3600
"""How long their answers are believed."""
ANALYSER_SECONDS = 180
"""For ruff, and for bandit, on some hundred files."""
ANALYSER_BYTES = 32 * MIB
YAML_NODES = 200_000
"""Keys and values in one file, each alias counted as all that it stands for."""
YAML_DEPTH = 100
YAML_DOCUMENTS = 5_000
FIX_STEPS = 500
"""How often `lint --fix` looks at one file again."""
REWRITE_ROUNDS = 5
"""How often the steps of `lint --rewrite` are gone through for one file."""
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
QUESTION_BYTES = POLICY_INPUT_BYTES
"""Of what a catalog keeps of a policy input, so that it can be asked about again."""
POLICY_MODULE_BYTES = 256 * KIB
POLICY_MODULES = 200
POLICY_BUNDLE_BYTES = 64 * MIB
"""Unpacked."""
POLICY_LAYERS = 10
POLICY_DATA_BYTES = 1 * MIB
POLICY_ANSWER_BYTES = 8 * MIB
POLICY_NESTING = 12
POLICY_CLASSES = 20_000
"""Answers that a process keeps for images of the same class, of one Rego package each."""
POLICY_DECISIONS = 250_000
"""Such answers in the catalog."""
POLICY_DECISION_BYTES = 64 * KIB
"""Of one that is kept there; a longer one is worked out anew."""
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
OPENED_BLOB_BYTES = 1 * MIB
"""A registry is asked for a blob up to this size by opening an upload; one that does not say is sent the blob."""
UPLOAD_CHUNK_SECONDS = 5.0
"""After a chunk that took less, the next one is four times as large: each of them costs the registry a sync."""
UPLOAD_CHUNK_LARGEST_BYTES = 1024 * MIB
CREDENTIALS_FILE_BYTES = 1 * MIB
TRANSFERS = 4
"""Blobs of one image sent or fetched at the same time."""
SYNC_JOBS = 16
"""Requests to one registry, and images that are read, at the same time while it is taken in."""
SYNC_MANIFESTS = 20_000
"""Below one tag: an index of indexes may list as many as it likes."""
SYNC_TAGS = 500
"""Tags of a repository that are looked at before what is new behind them is read."""
SYNC_BATCH = 50
"""Images of one transaction: other writers wait for it."""
SYNC_BATCH_SECONDS = 2.0
"""How old the first of them may be."""
SYNC_PROBLEMS = 1000
"""Problems of one place that are listed; the others are counted."""
REFERRERS_COPIED = 1000
"""Manifests that refer to one image, directly or not, which a copy takes along."""
REFERRER_DEPTH = 4
BLOB_PLACES = 20_000
"""Blobs of one registry host of which is remembered in which repository they lie."""
BLOB_PLACES_BYTES = 16 * MIB

# Signatures.
KEY_FILE_BYTES = 64 * KIB
KEYS = 10_000
"""In one folder of keys."""
KEY_HOOK_SECONDS = 30
"""For one answer of the command that keeps a key, when its hook file does not say otherwise."""
KEY_HOOK_SECONDS_AT_MOST = 600
KEY_HOOK_BYTES = 64 * KIB
"""What such a command may answer."""
KEY_TEXT_CHARACTERS = 500
"""A reason, a builder's name, or a pattern in the marks of a key."""
KEY_SCOPE_ENTRIES = 100
SIGNATURE_LAYERS = 100
PAYLOAD_BYTES = 64 * KIB
PROVENANCE_DEPENDENCIES = 20_000
"""Inputs of a build that is made again."""
ATTESTATION_BYTES = 32 * MIB
"""A DSSE envelope with its statement, which may be an SBOM; also a bundle around one."""
GATHERED_REFERRERS = 1_000
"""Manifests that refer to one image and may be bundles, which are read to verify it."""
GATHERED_BYTES = 256 * MIB
"""Signatures and attestations of one image that are held in memory at once."""
GATHERED_SECONDS = 120
"""How long reading them may take, beyond what the last request may."""
LAYER_STATEMENT_BYTES = 1 * MIB
"""What is attested of a shared layer: the wheels in it, the interpreter, the options."""
TRUST_POLICY_BYTES = 256 * KIB
TRUSTED_KEYS = 100
"""Keys and identities that one trust policy names."""
TRUSTED_ROOT_BYTES = 1 * MIB
"""A file of a Sigstore service's authorities and logs; that of the public service has 7 KiB."""
CLOCK_SKEW_SECONDS = 300
"""How far the clock of whoever signed may be ahead of ours."""

# Audit log.
LOG_ENTRY_BYTES = 65_535
"""One entry; its length is two bytes in a bundle (C2SP tlog-tiles)."""
LOG_SIZE = 2**63 - 1
"""Entries of the largest log; what reads logs in other languages counts in signed 64 bits."""
NOTE_BYTES = 1_000_000
"""A signed note, as Go's reader bounds it."""
NOTE_SIGNATURES = 100
NOTE_NAME_CHARACTERS = 200
"""Name of a key of a log or witness."""
LOG_PROOF_HASHES = 63
AUDIT_PROBLEMS = 100
"""Problems of the audit log that are told one by one."""

# Waiting for another process of the same home.
LOCK_SECONDS = 900.0
LEASES = 200
"""Files of ended processes in `leases/` after which the next one gathers what they say."""

# Operation.
READY_FREE_BYTES = 64 * MIB
"""With less free on the disk of its home a server says that it cannot work."""
FREE_BYTES_TO_BUILD = 4096 * MIB
"""An image of a framework, its wheels and its layers need about as much."""
BACKUP_HEADER_BYTES = 8 * MIB
"""What a backup says of itself: one line for each of its files that is no blob."""
BACKUP_SMALL_BYTES = 64 * MIB
"""Settings, keys, recipes and certificates of a home, together; they are kept in memory while it is backed up."""

# Catalog and pages.
CATALOG_WAIT_SECONDS = 30.0
"""How long a transaction waits for another process's before it gives up."""
CATALOG_IDLE_SECONDS = 10
"""After so long without a statement a server ends a transaction that writes, before those who wait give up."""
GROUPED_CHANGES = 256
"""Changes of several threads in one transaction."""
CATALOG_TEXT_CHARACTERS = 8192
"""Longest name, version, path or address that the catalog keeps of an image's contents; the rest is cut."""
PAGE_ROWS = 50
LISTED_ROWS = 1000
"""Rows that one page of a list may have at most."""
RESEMBLANCE_COMPARISONS = 2_000_000
"""Pairs of component sets that are compared to find those that are nearly the same."""
API_PAGE_ITEMS = 200
"""Items that one part of a list has at most over HTTP."""
API_ROWS = 10_000
"""Things of each kind that an answer names which does not come in parts."""
API_CURSOR_CHARACTERS = 2048
API_PARAMETERS = 64
"""Parameters of one query."""
API_BODY_BYTES = 1 * MIB
UPLOAD_BYTES = 512 * MIB
"""A file of advisories that is sent to a server."""
API_NAME_CHARACTERS = 2000
"""A name, package URL or path that a request asks about."""
API_DEPTH = 32
"""Objects and lists of a request within each other."""
TOKEN_CHARACTERS = 16 * KIB
"""Of a token that proves to a server who asks."""
TOKEN_ANSWER_BYTES = 64 * KIB
REMOTE_ANSWER_BYTES = 64 * MIB
"""One answer of the server that commands speak to."""
REMOTE_ITEMS = 1_000_000
"""Items of a list that such a server gives in parts."""
REMOTE_CHANGE_SECONDS = 600
"""How long a command waits for a change that its first try is still making."""
REMOTE_JOB_SECONDS = 3600
"""How long a command waits for work that the server does."""
REMOTE_JOB_TIMES = 3
"""How often a command asks for the same work when the server that did it is killed."""
CONNECTIONS_OF_ADDRESS = 128
"""That one address may have at once, of the 256 that the server takes; a trusted proxy may have all."""
REQUEST_HEADER_SECONDS = 15
"""Until the headers of a request are there."""
REQUEST_BODY_SECONDS = 30
"""That a server waits for a body in all, and a second more for each `REQUEST_BODY_RATE` bytes of it."""
REQUEST_BODY_RATE = 1024
REQUEST_TARGET_BYTES = 16 * KIB
"""Path and query of a request, together."""
REQUEST_HEADER_BYTES = 32 * KIB
"""Names and values of a request's headers, together."""
PAGE_COMPONENTS = 500
PAGE_LINES = 500
"""Lines of a run's log that its page has when it is loaded: the last ones."""
PAGE_NUMBER = 100_000
SEARCH_CHARACTERS = 200
SBOM_BYTES = 64 * MIB
SBOM_VALUES = 4_000_000
"""Values of an SBOM document that another program wrote; a package takes some 50 to 500."""
SBOM_LICENSES = 20_000
"""Different licence texts in one."""
SBOM_NOTES = 100
"""Different things that are said about reading one."""
TRACE_DEPTH = 4
"""Steps that a trace goes up, and down, when nothing else is said."""
TRACE_DEPTH_LARGEST = 20
TRACE_ROWS = 100
"""Nodes of each kind that it shows each way."""
TRACE_ROWS_LARGEST = 10_000
AFFECTED_ROWS = 1000
"""Images, workloads and model versions that `affected` names of each, when nothing else is said."""
AFFECTED_ROWS_LARGEST = 1_000_000
PURL_CHARACTERS = 4096

# Who may what.
SESSION_SECONDS = 7 * 86400
"""Whoever logged in does so again after this long, whatever he did meanwhile."""
SESSION_IDLE_SECONDS = 8 * 3600
"""… or after this long without a request."""
SESSION_SEEN_SECONDS = 300
"""The last request is recorded as exactly as this."""
SESSIONS_OF_ONE = 20
"""Browsers in which one user is logged in at a time."""
PASSWORD_CHARACTERS_LEAST = 12
PASSWORD_CHARACTERS = 1024
ONE_TIME_PASSWORD_SECONDS = 72 * 3600
CREDENTIAL_CHARACTERS = 16 * KIB
"""Longest `Authorization` header; a CI job's token takes some 2 KiB."""
FORM_BYTES = 64 * KIB
FORM_FIELDS = 100
FORM_NEXT_CHARACTERS = 2000
"""Longest address that a login leads on to."""
TOKENS_OF_USER = 100
"""Living tokens of one user."""
TOKENS = 2000
"""Living tokens with a role of their own."""
LOGINS_AT_ONCE = 2
"""Passwords that are checked at a time: each takes 64 MiB of memory."""
LOGINS_WAITING = 8
"""Logins that are under way at a time, those that wait for the others included."""
LOGIN_FAILURES_FREE = 5
"""Wrong passwords in a row, of one account or from one address, before the next try has to wait."""
LOGIN_WAIT_SECONDS = 900
"""Longest such wait; it doubles from a second on. Nobody is locked out for good."""
RATE_BURST_SECONDS = 10
"""So many seconds' worth of requests may come at once."""
RATE_ROWS = 20_000
"""Accounts, addresses and identities that are counted at a time; whoever was seen longest ago is forgotten."""

# Events, webhooks, idempotency keys.
EVENT_ROWS = 200
"""Events of one page."""
EVENT_STREAMS = 64
"""Streams of events that one server process keeps open."""
EVENT_STREAMS_OF_ONE = 16
"""Of one identity, or of one address of nobody."""
EVENT_STREAM_SECONDS = 3600.0
"""How long a stream lasts; its reader opens the next one, and shows again who it is."""
EVENT_SEND_SECONDS = 30.0
"""A reader who takes none of what is sent for so long is cut; it goes on later where it was."""
EVENT_HEARTBEAT_SECONDS = 15.0
EVENT_LOOK_SECONDS = 0.5
"""How often a server process looks whether something happened."""
WEBHOOKS = 200
WEBHOOK_BODY_BYTES = 256 * KIB
WEBHOOK_WAITING = 10_000
"""Deliveries that wait for one endpoint; more events wait in the log."""
WEBHOOK_SECONDS = 24 * 3600
"""How long a delivery is tried."""
WEBHOOK_ATTEMPTS_KEPT = 20
WEBHOOK_DELIVERY_DAYS = 30
"""How long it is known what was delivered."""
WEBHOOK_CONNECT_SECONDS = 5.0
WEBHOOK_ANSWER_SECONDS = 15.0
WEBHOOK_FIRST_WAIT_SECONDS = 5.0
WEBHOOK_LONGEST_WAIT_SECONDS = 3600.0
WEBHOOK_RETRY_AFTER_SECONDS = 6 * 3600.0
"""What an endpoint may ask for at most."""
WEBHOOK_ENDPOINTS_AT_ONCE = 8
WEBHOOK_OVERLAP_SECONDS = 24 * 3600
"""How long the secret before the present one counts, too."""
OWNED_SECONDS = 30
"""After so long without a word of it, another server does what only one does."""
WAIVER_EXPIRING_DAYS = 14
NOTICE_TEXT_CHARACTERS = 2000
NOTICE_LISTED = 100
"""Projects, recipients and the like of one notice table."""
NOTICE_LINES = 10
"""Things that a notice names; of the others it says how many there are."""
NOTICE_AGAIN_SECONDS = 7 * 24 * 3600
"""The same is not said again before."""
NOTICE_JOINED = 10
"""Notices that wait are joined into messages of so many at most."""
NOTICE_ANSWER_BYTES = 16 * KIB
NOTICE_SECRET_BYTES = 4 * KIB
NOTICE_ADVISORIES = 200
"""Advisories of one look at what is new; of more it is said that there are."""
KEY_SECONDS = 300
"""How long an Idempotency-Key is kept whose request was cut off before it changed anything."""
KEY_KEPT_SECONDS = 24 * 3600
KEY_CHARACTERS = 255
BULK_ITEMS = 1000
"""Things that one request may record."""

# Sources of runs: repositories, webhooks that tell of commits, schedules.
SOURCE_URL_CHARACTERS = 400
SOURCE_FOLDERS = 50
"""Projects of one repository, each of which a commit makes a run of."""
SOURCE_SECONDS = 900.0
"""Fetching a commit, its submodules and its large files, all together."""
SOURCE_PACK_BYTES = 4 * GIB
"""What one fetch may write."""
SOURCE_TREE_BYTES = 8 * GIB
SOURCE_TREE_FILES = 200_000
SOURCE_LINK_BYTES = 4096
"""Target of a symlink."""
SOURCE_ANSWER_BYTES = 16 * MIB
"""What one git command may answer that is kept in memory."""
GIT_PROCESS_BYTES = 8 * GIB
"""RLIMIT_AS of git."""
SOURCE_KEPT_COMMITS = 100
"""Commits of one repository in the cache; with the next one it begins anew."""
SOURCE_SUBMODULES = 100
SOURCE_SUBMODULE_DEPTH = 5
SOURCE_DEEPER_COMMITS = 200
"""How far behind the tip of its branch a commit may lie on a server that does not give commits by their hash."""
SOURCE_ASK_SECONDS = 20.0
"""Until a server must have said which commit a branch is at."""
SOURCE_CREDENTIAL_BYTES = 64 * KIB
LFS_OBJECTS = 10_000
LFS_BYTES = 64 * GIB
LFS_BATCH = 100
LFS_POINTER_BYTES = 1024
HOOK_BODY_BYTES = 5 * MIB
HOOK_SECRET_CHARACTERS_LEAST = 16
HOOK_SKEW_SECONDS = 300
"""How old a signed webhook may be, and how far ahead the clock of its sender."""
HOOK_AGE_SECONDS = 7 * 86400
"""The same of a payload whose signature says no time; GitHub sends one again for three days."""
HOOK_KEPT_SECONDS = 2 * HOOK_AGE_SECONDS
"""How long it is known which deliveries were taken."""
SCHEDULE_RETRY_SECONDS = 60
"""A schedule whose source does not answer is tried again after so long; each time twice as long, up to an hour."""

# The gate: a registry in front of the store.
GATE_PATH_BYTES = 1024
"""A repository of 255 characters, a digest of SHA-512, and what stands between them."""
GATE_BLOB_BYTES = 64 * GIB
GATE_PASS_SECONDS = 300
"""How long a client may use what it got for its login before it asks again."""
GATE_SCOPES = 20
"""Repositories of one pass."""
GATE_REQUESTS_FACTOR = 50
"""Requests to the registry that count as one to the rest: a single pull takes dozens."""
GATE_PIECE_BYTES = 512 * KIB
"""What is gathered of a blob before it is hashed and written, and what is read of it at a time."""
GATE_GATHERED_BYTES = 4 * MIB
"""What all uploads together gather before it is written; beyond that each takes no more before it wrote what it has."""
GATE_SYNC_BYTES = 64 * MIB
"""After so much of an upload what was written goes to the disk, so that the end of it need not wait long."""
GATE_CHUNK_LEAST_BYTES = 64 * KIB
"""Smallest chunk that clients are asked for; smaller ones are taken."""
GATE_SILENT_SECONDS = 60.0
"""How long a client that sends may be silent."""
GATE_UPLOADS = 1000
"""Uploads of one repository at the same time."""
GATE_UPLOAD_SECONDS = 24 * 3600
"""After so long without a byte an upload is swept away."""
GATE_QUARANTINE_SECONDS = 30 * 24 * 3600
"""After that long what waits, and nobody pushed again, is given up."""
GATE_SWEEP_SECONDS = 900.0
GATE_JUDGE_SECONDS = 60.0
"""How long the push of a manifest waits for the answer; then it is told to come again."""
GATE_RETRY_SECONDS = 10
GATE_UPSTREAM_SECONDS = 30.0
"""How long a registry behind the gate may be silent."""
GATE_UPSTREAM_ATTEMPTS = 2
GATE_STOP_SECONDS = 3.0
"""What runs when the server is told to stop has as long to end."""
GATE_JUDGES = 2
"""Images that are inspected and judged at the same time."""
GATE_FOLLOWED_BYTES = 4 * MIB
"""Once so much of an upload is there, its layer is read while the rest arrives."""
GATE_FOLLOW_SECONDS = 5.0
"""When nothing more came for so long, that is given up; it is read when all is there."""
GATE_AHEAD = 100
"""Blobs that wait to be read before an image names them."""
GATE_PACKAGES = 20_000
"""Packages of which the gate remembers what advisories say."""
GATE_RECENT = 1000
"""Manifests that were pulled last."""
GATE_RECENT_BYTES = 16 * MIB
GATE_RELEASES = 1000
"""Manifests in quarantine that are looked at again after waivers changed."""
GATE_RELEASE_SECONDS = 15.0
"""How often it is looked whether they did."""
GATE_PREPARE_SECONDS = 5.0
"""After its start a server gets ready for the first push, when the first pages are answered."""
GATE_LEARN_SECONDS = 1.0
"""After a decision: what rules answered is kept then."""
GATE_TAGS_AT_ONCE = 50
"""Tags that one push of a manifest names."""
GATE_MEMBERS = 20_000
"""Blobs and manifests that one manifest names."""
GATE_REFERRERS = 10_000
"""Manifests of a repository that refer to one and the same."""
GATE_UNKNOWN_SUBJECTS = 1000
"""Manifests of a repository that refer to what it does not have."""
GATE_PAGE = 1000
"""Tags, or repositories, of one answer."""
GATE_REFERRERS_PAGE = 100
GATE_REFERRERS_PAGE_BYTES = 2 * MIB
"""After so much a list of referrers goes on on the next page."""
GATE_ANNOTATIONS_BYTES = 256 * KIB
"""Of one manifest that refers to another; they stand in that list."""
GATE_HOLDERS = 100
"""Repositories that are looked at for a blob that is to be mounted from anywhere."""
GATE_ROWS = 500
"""Digests that one query names."""
LATELY_SECONDS = 1.0
"""So long a token that was looked up is not looked up again while the catalog stays as it is."""
LATELY_ROWS = 1000
ISSUER_BYTES = 512 * KIB
"""Discovery document, or list of keys, of an issuer of tokens."""
ISSUER_KEYS = 100
ISSUER_FRESH_SECONDS = 3600
"""An issuer's keys are asked for again after this long."""
ISSUER_AGAIN_SECONDS = 60
"""… and because of a key that is not known, or after a failure, at most this often."""
ISSUER_WAIT_SECONDS = 5
"""A request waits this long for another one that asks for the same keys."""
RSA_BITS_LEAST = 2048
CLOCK_LEEWAY_SECONDS = 30
"""By how much the clock of an issuer of tokens may be wrong."""
JOBS_AT_ONCE = 4
"""Checks and syncs that one server process does at the same time."""
JOBS_WAITING = 100
JOB_ANSWER_SECONDS = 20.0
"""How long a request waits for what it asked for; then its client asks again."""
JOB_ALIVE_SECONDS = 60
"""After so long without a word a job counts as lost."""
JOB_KEPT_DAYS = 7
RUN_LINES = 5000
"""Lines of a run's log; later ones are dropped, which the last of them says."""
RUN_LINE_CHARACTERS = 2000
RUN_ANSWER_BYTES = 64 * KIB
"""What a step of a pipeline answers, as JSON."""
RUN_FRAME_BYTES = 4 * MIB
"""What the process that carries out the steps of a run says at once."""
RUN_LOSSES = 25
"""So many workers may fall silent, one after the other, in the same step of a run."""
RUN_WAIT_SECONDS = 60.0
"""The longest that a run waits before it may be taken up again: who says longer has a clock that is wrong."""
RUN_KEY_CHARACTERS = 128
RUN_LOG_PAGE = 1000
RUN_SUBJECT_CHARACTERS = 500
"""Of the address of a repository that a run builds."""
WORKER_BEAT_SECONDS = 3.0
"""How often a worker says that it lives."""
WORKER_SILENT_BEATS = 5
"""A worker that was silent while another one said so often that it lives has lost its runs."""
WORKER_NAME_CHARACTERS = 64
STEP_TRIES = 5
"""How often a step is begun that could not reach what it needs, the first time included."""
STEP_WAIT_SECONDS = 2.0
"""Before the second time; then twice as long each time."""
STEP_WAIT_MOST_SECONDS = 60.0
STEP_STOP_SECONDS = 5.0
"""A step that is to end has so long before its process is killed."""
