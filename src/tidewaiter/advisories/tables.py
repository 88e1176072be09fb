"""The tables of `advisories.db`."""

VERSION = 2
APPLICATION = 0x54576164  # "TWad"

SCHEMA = """
CREATE TABLE advisory (
    family TEXT NOT NULL, id TEXT NOT NULL, single INTEGER NOT NULL, digest BLOB NOT NULL, facts BLOB NOT NULL,
    PRIMARY KEY (family, id)
) WITHOUT ROWID;
CREATE TABLE affected (
    ecosystem TEXT NOT NULL, name TEXT NOT NULL, family TEXT NOT NULL, id TEXT NOT NULL, place INTEGER NOT NULL,
    facts BLOB NOT NULL,
    PRIMARY KEY (ecosystem, name, id, place),
    FOREIGN KEY (family, id) REFERENCES advisory ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX affected_of ON affected (family, id);
CREATE TABLE feed (
    family TEXT PRIMARY KEY, source TEXT NOT NULL, as_of TEXT NOT NULL, imported_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE coverage (ecosystem TEXT PRIMARY KEY, family TEXT NOT NULL, entries INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE content (family TEXT PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID;
"""

SCHEMA_2 = """
CREATE TABLE package (
    ecosystem TEXT NOT NULL, name TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (ecosystem, name)
) WITHOUT ROWID;
CREATE TABLE mirrored (
    family TEXT PRIMARY KEY, url TEXT NOT NULL, tag TEXT NOT NULL, listed TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE exploited (
    kind TEXT PRIMARY KEY, source TEXT NOT NULL, as_of TEXT NOT NULL, entries INTEGER NOT NULL, parts BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE exploited_part (
    kind TEXT NOT NULL, part TEXT NOT NULL, facts BLOB NOT NULL, PRIMARY KEY (kind, part)
) WITHOUT ROWID;
CREATE TABLE seal (digest BLOB NOT NULL);
"""
"""New in version 2."""

SEALED = (
    "SELECT family, source, as_of FROM feed ORDER BY family",
    "SELECT ecosystem, family, entries FROM coverage ORDER BY ecosystem",
    "SELECT family, digest FROM content ORDER BY family",
    "SELECT family, url, tag, listed FROM mirrored ORDER BY family",
    "SELECT kind, source, as_of, entries, parts FROM exploited ORDER BY kind",
)
"""What is read without a package: one seal is over all of it."""
