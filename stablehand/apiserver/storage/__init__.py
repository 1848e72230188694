"""Objects in memory, written through to the store: revisions, conflicts, lists and watches.

Kinds' rules (defaults, validation) are the strategies'; bytes on disk are the store's.
"""
