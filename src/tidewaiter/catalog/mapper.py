"""SQLAlchemy's object mapper: nothing here uses it, but a library that does changes SQLAlchemy while it is loaded.

A process in which others are at work with a catalog by then imports this before them.
"""

import sqlalchemy.orm  # noqa: F401  # loading it is what this is for
