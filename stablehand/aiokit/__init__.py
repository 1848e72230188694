"""aiokit."""
