"""One module a revision, oldest first by its number. A revision that was released is never changed."""
