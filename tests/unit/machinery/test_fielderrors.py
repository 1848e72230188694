from stablehand.machinery import fielderrors as fe


def test_messages() -> None:
    negative = fe.invalid("spec.replicas", -1, "must be greater than or equal to 0")
    assert negative.message() == "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    assert negative.cause() == {
        "reason": "FieldValueInvalid",
        "message": "Invalid value: -1: must be greater than or equal to 0",
        "field": "spec.replicas",
    }
    assert fe.required("a").message() == "a: Required value"
    assert fe.not_supported("a", "x", ("A", "B")).message() == 'a: Unsupported value: "x": supported values: "A", "B"'
    assert fe.forbidden("a", "no").message() == "a: Forbidden: no"
    assert fe.duplicate("a", "x").message() == 'a: Duplicate value: "x"'
    assert fe.too_long("a", "x", 1).message() == "a: Too long: may not be more than 1 byte"
    assert fe.too_many("a", 3, 2).message() == "a: Too many: 3: must have at most 2 items"
    assert fe.invalid("a", {"b": "c"}, "no").message() == 'a: Invalid value: {"b":"c"}: no'


def test_aggregate() -> None:
    one, two = fe.required("a"), fe.required("b")
    assert fe.invalid_message("Pod", "x", [one]) == 'Pod "x" is invalid: a: Required value'
    assert fe.invalid_message("Pod", "x", [one, two, one]) == (
        'Pod "x" is invalid: [a: Required value, b: Required value]'
    )
    assert one.under("spec").field == "spec.a"
