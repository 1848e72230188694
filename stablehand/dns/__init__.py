"""Cluster DNS: an authoritative server for the cluster's domain that forwards every other name."""

from stablehand.dns.main import DnsConfig, run
from stablehand.dns.service import ensure_dns_service

__all__ = ["DnsConfig", "ensure_dns_service", "run"]
