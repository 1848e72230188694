"""What a CustomResourceDefinition is refused for, and what an update may keep."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from stablehand.apiserver.strategies import strategy_for
from stablehand.machinery.resources import resource

Obj = dict[str, Any]
STRATEGY = strategy_for(resource("customresourcedefinitions.apiextensions.k8s.io"))


def schema(**properties: Obj) -> Obj:
    return {"openAPIV3Schema": {"type": "object", "properties": properties}}


def version(name: str = "v1", **more: Any) -> Obj:
    return {"name": name, "served": True, "storage": True, "schema": schema(), **more}


def definition(*versions: Obj, **spec: Any) -> Obj:
    obj: Obj = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.e.com"},
        "spec": {
            "group": "e.com",
            "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo"},
            "versions": list(versions) or [version()],
            **spec,
        },
    }
    STRATEGY.default(obj)
    return obj


def said(*versions: Obj, **spec: Any) -> list[str]:
    return [e.message() for e in STRATEGY.validate_create(definition(*versions, **spec))]


def test_a_good_one() -> None:
    assert said() == []
    two = [version(), version("v1beta1", storage=False, deprecated=True, deprecationWarning="use v1")]
    assert said(*two) == []


NOT_WEBHOOK = "should not be set when strategy is not set to Webhook"
CLIENT = {"url": "https://a.example.com/x"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"scope": "Galaxy"}, 'spec.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced"'),
        (
            {"names": {"plural": "foos", "kind": "Foo", "listKind": "Foo"}},
            'spec.names.listKind: Invalid value: "Foo": kind and listKind may not be the same',
        ),
        (
            {"conversion": {"strategy": "Webhook"}},
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
        ),
        (
            {"conversion": {"strategy": "None", "webhook": {"clientConfig": CLIENT}}},
            f"spec.conversion.webhookClientConfig: Forbidden: {NOT_WEBHOOK}",
        ),
        (
            {
                "conversion": {
                    "strategy": "Webhook",
                    "webhook": {"clientConfig": CLIENT, "conversionReviewVersions": ["v2"]},
                }
            },
            'spec.conversion.conversionReviewVersions: Invalid value: ["v2"]: must include at least one of v1, v1beta1',
        ),
        (
            {
                "conversion": {
                    "strategy": "Webhook",
                    "webhook": {"clientConfig": {"url": "http://a/"}, "conversionReviewVersions": ["v1"]},
                }
            },
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; "
            "desired format: https://host[/path]",
        ),
        (
            {"preserveUnknownFields": True},
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields "
            "to true in spec.versions[*].schema instead",
        ),
    ],
)
def test_specs(spec: Obj, expected: str) -> None:
    assert expected in said(**spec)


def test_kinds_may_have_capitals() -> None:
    (found,) = said(names={"plural": "foos", "kind": "Fo_o", "singular": "foo", "listKind": "FooList"})
    assert found.startswith('spec.names.kind: Invalid value: "Fo_o": may have mixed case, but should otherwise match: ')


def test_versions() -> None:
    assert any("must contain unique version names" in m for m in said(version(), version(storage=False)))
    assert any("must have exactly one version marked as storage" in m for m in said(version(storage=False)))
    assert 'spec.versions[0].name: Invalid value: "1": a DNS-1035 label must' in said(version("1"))[0]
    no_schema = version()
    del no_schema["schema"]
    assert said(no_schema) == ["spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"]
    early = said(version(deprecationWarning="x"))
    assert early == ['spec.versions[0].deprecationWarning: Invalid value: "x": can only be set for deprecated versions']


def test_what_all_versions_share_is_told_once() -> None:
    """Upstream's internal type has it at the top, and says so in the path."""
    bad = schema(a={"type": "string", "pattern": "("})
    column = [{"name": "X", "type": "text", "jsonPath": "x"}]
    both = [
        version(schema=bad, additionalPrinterColumns=column),
        version("v2", storage=False, schema=bad, additionalPrinterColumns=column),
    ]
    assert [m.partition(": ")[0] for m in said(*both)] == [
        "spec.validation.openAPIV3Schema.properties[a].pattern",
        "spec.additionalPrinterColumns[0].type",
        "spec.additionalPrinterColumns[0].JSONPath",
    ]
    both[1]["schema"] = schema()
    both[1]["additionalPrinterColumns"] = []
    assert [m.partition(": ")[0] for m in said(*both)] == [
        "spec.versions[0].schema.openAPIV3Schema.properties[a].pattern",
        "spec.versions[0].additionalPrinterColumns[0].type",
        "spec.versions[0].additionalPrinterColumns[0].JSONPath",
    ]


def test_subresources() -> None:
    scale = {"specReplicasPath": ".status.x", "statusReplicasPath": "status", "labelSelectorPath": ".x"}
    assert said(version(subresources={"scale": scale})) == [
        'spec.subresources.scale.specReplicasPath: Invalid value: ".status.x": should be a json path under .spec',
        'spec.subresources.scale.statusReplicasPath: Invalid value: "status": must be a simple json path starting with .',
        'spec.subresources.scale.labelSelectorPath: Invalid value: ".x": should be a json path under either .spec or .status',
    ]
    limited = schema()
    limited["openAPIV3Schema"]["maxProperties"] = 3
    (found,) = said(version(schema=limited, subresources={"status": {}}))
    assert "fields are allowed at the root of the schema if the status subresource is enabled" in found
    assert said(version(schema=limited)) == []


def test_selectable_fields() -> None:
    made = schema(
        a={"type": "string"},
        o={"type": "object"},
        metadata={"type": "object", "properties": {"name": {"type": "string"}}},
    )
    paths = [".a", ".a", ".o", ".nope", ".metadata.name", ".a['b']"]
    found = said(version(schema=made, selectableFields=[{"jsonPath": p} for p in paths]))
    start = "spec.selectableFields"
    assert found == [
        f'{start}[1].jsonPath: Duplicate value: ".a"',
        f'{start}[2].jsonPath: Invalid value: ".o": must point to a field of type string, boolean or integer. Enum string '
        "fields and strings with formats are allowed.",
        f'{start}[3].jsonPath: Invalid value: ".nope": is an invalid path: does not refer to a valid field',
        f'{start}[4].jsonPath: Invalid value: ".metadata.name": must not point to fields in metadata',
        f"{start}[5].jsonPath: Invalid value: \".a['b']\": is an invalid path: array notation is not allowed",
    ]


def changed(old: Obj, new: Obj, established: bool = True) -> list[str]:
    old["status"] = {"storedVersions": ["v1"], "conditions": []}
    if established:
        old["status"]["conditions"] = [{"type": "Established", "status": "True"}]
    new["status"] = copy.deepcopy(old["status"])
    return [e.message() for e in STRATEGY.validate_change(new, old)]


def test_updates() -> None:
    renamed = definition(names={"plural": "foos", "kind": "Bar"})
    assert changed(definition(), renamed) == ['spec.names.kind: Invalid value: "Bar": field is immutable']
    assert changed(definition(), renamed, established=False) == []
    (gone,) = changed(definition(), definition(version("v2")))
    assert gone.startswith(
        'status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage version, and '
    )


def test_updates_may_keep_what_was_accepted_before() -> None:
    sets = schema(a={"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}})
    dear = {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self.matches('x')"}]}}
    for kept in (sets, schema(a=dear)):
        assert said(version(schema=kept))
    old = definition(version(schema=sets))
    assert (
        changed(old, definition(version(schema=sets), names={"plural": "foos", "kind": "Foo", "shortNames": ["f"]}))
        == []
    )
    within = {"type": "array", "maxItems": 400, "items": {**dear["items"], "maxLength": 300000}}
    kept = schema(a=within)
    assert "estimated rule cost exceeds budget" in said(version(schema=kept))[0]
    assert changed(definition(version(schema=kept)), definition(version(schema=kept))) == []
