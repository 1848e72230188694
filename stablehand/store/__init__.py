"""Durable bytes under keys, with revisions: SQLite (default), etcd, memory. See contract.py."""
