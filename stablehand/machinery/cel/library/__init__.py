"""Function libraries: CEL's own, and those that Kubernetes adds. Importing this package declares them all."""

from stablehand.machinery.cel.library import (
    authorizer,
    conversions,
    formats,
    lists,
    network,
    operators,
    optionals,
    quantities,
    semver,
    strings,
    times,
)

__all__ = [
    "authorizer",
    "conversions",
    "formats",
    "lists",
    "network",
    "operators",
    "optionals",
    "quantities",
    "semver",
    "strings",
    "times",
]
