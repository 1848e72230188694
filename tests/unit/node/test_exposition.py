"""Prometheus text: families together, labels escaped and in order."""

from __future__ import annotations

from stablehand.node.exposition import Text


def test_families_stay_together() -> None:
    out = Text()
    out.add("a", "gauge", 1, "Some.", name="x", b='say "\n"')
    out.add("c", "counter", 0.5)
    out.add("a", "gauge", 2.0)
    assert str(out) == (
        '# HELP a Some.\n# TYPE a gauge\na{b="say \\"\\n\\"",name="x"} 1\na 2\n# HELP c c\n# TYPE c counter\nc 0.5\n'
    )
