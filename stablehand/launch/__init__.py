"""Puts the parts together: configuration, certificates, and the supervisor, the only place that knows every part."""
