"""What storage can fail with; the text is for the user."""

from __future__ import annotations


class StorageError(Exception):
    """Says in one line what is wrong and what to do."""
