"""The examples' copy of the tutorial is the article's own, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARTICLE = ROOT.parent / "shared" / "tutorial"
COPY = ROOT / "examples" / "tutorial"


@pytest.mark.skipif(not ARTICLE.exists(), reason="shared/ is not beside the checkout")
def test_the_manifests_are_the_articles() -> None:
    def texts(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*-*/*.yaml")}

    assert texts(COPY) == texts(ARTICLE) != {}
