import pytest

from stablehand.machinery.jsonpath import JSONPathError, compile_path

OBJ = {
    "spec": {"a.b": 1, "n": 4},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.n", [4]),
        ("{.spec.n}", [4]),
        (".spec['a.b']", [1]),
        (r".spec.a\.b", [1]),
        (".spec.none.deeper", []),
        (".status.conditions[0].type", ["Ready"]),
        (".status.conditions[-1].type", ["Other"]),
        (".status.conditions[*].type", ["Ready", "Other"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type!='Ready')].status", ["False"]),
    ],
)
def test_paths(path: str, found: list[object]) -> None:
    assert compile_path(path)(OBJ) == found


def test_unsupported() -> None:
    with pytest.raises(JSONPathError):
        compile_path("..name")
