"""Kubeconfig files that cannot be used say why in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from stablehand.client import ConfigError, load_kubeconfig

_CLUSTER = "clusters: [{name: c, cluster: {server: https://x, certificate-authority-data: %s}}]\n"
_REST = "contexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("127.0.0.1 localhost", "no kubeconfig"),
        ("a: [", "not YAML"),
        ("{}", "no current-context"),
        ("current-context: x", "no context 'x'"),
        ("contexts: [3]\ncurrent-context: x", "no kubeconfig"),
        (_CLUSTER % "AAAA" + _REST, "damaged"),
        (_CLUSTER % "'!'" + _REST, "damaged"),
    ],
)
def test_unusable(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says) as e:
        load_kubeconfig(str(file))
    assert str(file) in str(e.value)
    assert "\n" not in str(e.value)
