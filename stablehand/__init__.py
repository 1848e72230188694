"""Runs stateful services from ordinary Kubernetes manifests on one Linux machine."""

__version__ = "0.1.0"
