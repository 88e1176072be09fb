"""rpm: databases in the three formats that rpm has had, read without rpm; and the list that images without one carry.

`sqlite`, `ndb` and `bdb` give the headers of a database, `header` reads one, `packages` says what package it is.
A database is not trusted: every page, slot and chain of it is visited at most once, and damage in one header does not
hide the others.
"""


class Damaged(Exception):  # noqa: N818  not only raised: a reader also yields it in the place of a header
    """A part of a database, or of a header, that is not what the format says."""
