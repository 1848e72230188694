"""A file per verb; each is `async (Core, Request) -> Answer`. What writes share is in `write.py`."""
