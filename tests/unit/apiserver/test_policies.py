"""Admission policies and CRD rules through the whole chain: the real API server on the memory store."""

import asyncio
from typing import Any

import pytest

from stablehand.apiserver.contract import User
from tests.unit.apiserver.server import Server, serving

GROUP = "/apis/admissionregistration.k8s.io/v1"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
Obj = dict[str, Any]


def rules(group: str, *resources: str, operations: tuple[str, ...] = ("CREATE", "UPDATE")) -> Obj:
    return {
        "resourceRules": [
            {"apiGroups": [group], "apiVersions": ["*"], "operations": [*operations], "resources": [*resources]}
        ]
    }


def deployment(name: str, replicas: int, **labels: str) -> Obj:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


async def validating(s: Server, name: str, spec: Obj, binding: Obj | None = None) -> None:
    spec = {"matchConstraints": rules("apps", "deployments"), **spec}
    await s.made(f"{GROUP}/validatingadmissionpolicies", {"metadata": {"name": name}, "spec": spec})
    bound = {"policyName": name, "validationActions": ["Deny"], **(binding or {})}
    await s.made(f"{GROUP}/validatingadmissionpolicybindings", {"metadata": {"name": f"{name}-b"}, "spec": bound})


async def mutating(s: Server, name: str, *mutations: str, **spec: Any) -> None:
    made = [
        {"patchType": "JSONPatch", "jsonPatch": {"expression": text}}
        if text.startswith("[")
        else {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}}
        for text in mutations
    ]
    whole = {"matchConstraints": rules("", "configmaps"), "reinvocationPolicy": "Never", "mutations": made, **spec}
    await s.made(f"{GROUP}/mutatingadmissionpolicies", {"metadata": {"name": name}, "spec": whole})
    bound = {"policyName": name}
    await s.made(f"{GROUP}/mutatingadmissionpolicybindings", {"metadata": {"name": f"{name}-b"}, "spec": bound})


async def test_a_denial_reads_as_upstreams() -> None:
    async with serving() as s:
        spec = {
            "variables": [
                {"name": "n", "expression": "object.spec.replicas"},
                {"name": "many", "expression": "variables.n > 5"},
            ],
            "validations": [
                {"expression": "!variables.many", "messageExpression": "'too many: ' + string(variables.n)"},
                {"expression": "object.metadata.name != 'bad'", "reason": "Forbidden"},
            ],
        }
        await validating(s, "p", spec)
        await s.made(DEPLOYMENTS, deployment("ok", 5))
        refused = await s.refused("POST", DEPLOYMENTS, deployment("big", 6))
        message = "ValidatingAdmissionPolicy 'p' with binding 'p-b' denied request: too many: 6"
        assert refused["message"] == f'deployments.apps "big" is forbidden: {message}'
        assert (refused["code"], refused["reason"]) == (422, "Invalid")
        assert refused["details"]["causes"] == [{"message": message}]
        refused = await s.refused("POST", DEPLOYMENTS, deployment("bad", 1))
        assert (refused["code"], refused["reason"]) == (403, "Forbidden")
        assert refused["message"].endswith("denied request: failed expression: object.metadata.name != 'bad'")
        patch = {"spec": {"replicas": 9}}
        await s.refused("PATCH", f"{DEPLOYMENTS}/ok", patch, content_type="application/merge-patch+json")


async def test_warn_and_failure_policies() -> None:
    async with serving() as s:
        missing = {"validations": [{"expression": "object.spec.nope == 1"}]}
        await validating(s, "ignored", {**missing, "failurePolicy": "Ignore"})
        warned = {"validations": [{"expression": "false", "message": "hm"}]}
        await validating(s, "warned", warned, {"validationActions": ["Warn", "Audit"]})
        await s.made(DEPLOYMENTS, deployment("a", 1))
        text = "Validation failed for ValidatingAdmissionPolicy 'warned' with binding 'warned-b': hm"
        assert s.warnings == [text]
        await validating(s, "failing", missing)
        refused = await s.refused("POST", DEPLOYMENTS, deployment("b", 1))
        why = "expression 'object.spec.nope == 1' resulted in error: no such key: nope"
        assert refused["message"].endswith(
            f"policy 'failing' with binding 'failing-b' denied request: {why}".replace("policy", "Policy")
        )


async def test_what_a_policy_is_about() -> None:
    async with serving() as s:
        match = rules("apps", "deployments", operations=("CREATE",))
        match["objectSelector"] = {"matchLabels": {"checked": "yes"}}
        match["excludeResourceRules"] = [{**match["resourceRules"][0], "resourceNames": ["spared"]}]
        spec = {
            "matchConstraints": match,
            "matchConditions": [{"name": "not-me", "expression": "request.userInfo.username != 'friend'"}],
            "validations": [{"expression": "namespaceObject.metadata.name != 'default'"}],
        }
        await validating(s, "p", spec)
        await s.made(DEPLOYMENTS, deployment("unlabelled", 1))
        await s.made(DEPLOYMENTS, deployment("spared", 1, checked="yes"))
        await s.refused("POST", DEPLOYMENTS, deployment("caught", 1, checked="yes"))
        friend = User("friend", ("system:masters", "system:authenticated"))
        code, _ = await s.call("POST", DEPLOYMENTS, deployment("free", 1, checked="yes"), user=friend)
        assert code == 201
        await s.made("/api/v1/namespaces", {"metadata": {"name": "other", "labels": {"x": "y"}}})
        await s.made(DEPLOYMENTS.replace("default", "other"), deployment("there", 1, checked="yes"))


async def test_deletions_see_the_old_object_and_who_asks() -> None:
    async with serving() as s:
        spec = {
            "matchConstraints": rules("", "configmaps", operations=("DELETE",)),
            "validations": [
                {"expression": "object == null && oldObject.metadata.name != 'kept' && request.operation == 'DELETE'"},
                {"expression": "authorizer.requestResource.check('delete').allowed()"},
            ],
        }
        await validating(s, "p", spec)
        for name in ("kept", "gone"):
            await s.made(CONFIGMAPS, {"metadata": {"name": name}})
        await s.refused("DELETE", f"{CONFIGMAPS}/kept")
        code, _ = await s.call("DELETE", f"{CONFIGMAPS}/gone")
        assert code == 200


async def test_parameters() -> None:
    async with serving() as s:
        spec = {
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "validations": [
                {
                    "expression": "object.spec.replicas <= int(params.data.max)",
                    "messageExpression": "'at most ' + params.data.max",
                }
            ],
        }
        ref = {"name": "limit", "namespace": "default", "parameterNotFoundAction": "Deny"}
        await validating(s, "p", spec, {"paramRef": ref})
        refused = await s.refused("POST", DEPLOYMENTS, deployment("a", 1))
        assert refused["message"].endswith(
            "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        )
        await s.made(CONFIGMAPS, {"metadata": {"name": "limit", "labels": {"l": "x"}}, "data": {"max": "2"}})
        await s.made(DEPLOYMENTS, deployment("a", 2))
        assert (await s.refused("POST", DEPLOYMENTS, deployment("b", 3)))["message"].endswith("at most 2")
        by_label = {"selector": {"matchLabels": {"l": "x"}}, "parameterNotFoundAction": "Allow"}
        await validating(s, "q", spec, {"paramRef": by_label})
        await s.made(CONFIGMAPS, {"metadata": {"name": "tighter", "labels": {"l": "x"}}, "data": {"max": "1"}})
        assert (await s.refused("POST", DEPLOYMENTS, deployment("b", 2)))["message"].endswith("at most 1")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"validations": [{"expression": "object.x >"}]},
            'spec.validations[0].expression: Invalid value: "object.x >": compilation failed: ERROR: <input>:1:11: Syntax',
        ),
        (
            {"validations": [{"expression": "object.x"}]},
            'spec.validations[0].expression: Invalid value: "object.x": must evaluate to bool but got dyn',
        ),
        (
            {"validations": [{"expression": "params == null"}]},
            "undeclared reference to 'params' (in container '')",
        ),
        (
            {"validations": [{"expression": "true"}], "variables": [{"name": "if", "expression": "1"}]},
            'spec.variables[0].name: Invalid value: "if": name is not a valid CEL identifier',
        ),
        (
            {"validations": [{"expression": "true", "reason": "Nope"}]},
            'spec.validations[0].reason: Unsupported value: "Nope"',
        ),
        ({}, "spec.validations: Required value: validations or auditAnnotations must contain at least one item"),
        (
            {"validations": [{"expression": "true"}], "matchConditions": [{"name": "a", "expression": "1"}]},
            'spec.matchConditions[0].expression: Invalid value: "1": must evaluate to bool but got int',
        ),
    ],
)
async def test_bad_policies(spec: Obj, message: str) -> None:
    async with serving() as s:
        spec = {"matchConstraints": rules("apps", "deployments"), **spec}
        policy = {"metadata": {"name": "p"}, "spec": spec}
        refused = await s.refused("POST", f"{GROUP}/validatingadmissionpolicies", policy)
        assert message in refused["message"]
        assert refused["code"] == 422


async def test_bad_bindings() -> None:
    async with serving() as s:
        spec = {
            "policyName": "p",
            "validationActions": ["Deny", "Warn"],
            "paramRef": {"parameterNotFoundAction": "Deny"},
        }
        binding = {"metadata": {"name": "b"}, "spec": spec}
        text = (await s.refused("POST", f"{GROUP}/validatingadmissionpolicybindings", binding))["message"]
        assert "spec.paramRef: Required value: one of name or selector must be specified" in text
        assert "must not contain both Deny and Warn" in text


async def test_mutations() -> None:
    async with serving() as s:
        await mutating(
            s,
            "m",
            "Object{metadata: Object.metadata{labels: {'by': request.userInfo.username}}, ?data: optional.none()}",
            "[JSONPatch{op: 'add', path: '/metadata/annotations', value: {}}, "
            "JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('a/b'), "
            "value: object.metadata.labels.by}]",
            "[JSONPatch{op: 'test', path: '/data', value: 'x'}, JSONPatch{op: 'remove', path: '/metadata/labels'}]",
            matchConditions=[{"name": "c", "expression": "!object.metadata.name.startsWith('plain')"}],
        )
        meta = (await s.made(CONFIGMAPS, {"metadata": {"name": "c", "labels": {"own": "1"}}}))["metadata"]
        assert meta["labels"] == {"own": "1", "by": "admin"}
        assert meta["annotations"] == {"a/b": "admin"}
        assert "labels" not in (await s.made(CONFIGMAPS, {"metadata": {"name": "plain"}}))["metadata"]


async def test_mutations_merge_lists_by_their_keys() -> None:
    async with serving() as s:
        sidecar = (
            "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: ["
            "Object.spec.template.spec.containers{name: 'side', image: 'proxy:1'}]}}}}"
        )
        await mutating(s, "m", sidecar, matchConstraints=rules("apps", "deployments"))
        made = await s.made(DEPLOYMENTS, deployment("a", 1))
        containers = made["spec"]["template"]["spec"]["containers"]
        assert {c["name"]: c["imagePullPolicy"] for c in containers} == {"c": "IfNotPresent", "side": "IfNotPresent"}


async def test_a_patch_for_each_container_on_update_and_apply() -> None:
    async with serving() as s:
        each = (
            "[JSONPatch{op: 'test', path: '/spec/replicas', value: 2}] + object.spec.template.spec.containers.map(c, "
            "JSONPatch{op: 'add', path: '/spec/template/spec/containers/' + "
            "string(object.spec.template.spec.containers.indexOf(c)) + '/securityContext', value: "
            "Object.spec.template.spec.containers.securityContext{runAsNonRoot: true}})"
        )
        match = rules("apps", "deployments", operations=("UPDATE",))
        await mutating(s, "m", each, matchConstraints=match)
        await s.made(DEPLOYMENTS, deployment("a", 1))
        applied = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 2}}
        query = {"fieldManager": "m", "force": "true"}
        code, out = await s.call(
            "PATCH", f"{DEPLOYMENTS}/a", applied, content_type="application/apply-patch+yaml", query=query
        )
        assert (code, out["spec"]["replicas"], out["metadata"]["generation"]) == (200, 2, 2)
        assert out["spec"]["template"]["spec"]["containers"][0]["securityContext"] == {"runAsNonRoot": True}


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("Object{data: Object.spec{a: '1'}}", 'unexpected type name "Object.spec", expected "Object.data"'),
        ("Object{nope: 1}", "failed to convert patch object to typed object: .nope: field not declared in schema"),
        ("[JSONPatch{op: 'remove', path: '/data/x'}]", "JSONPath: "),
        ("Object{data: {'a': object.metadata.nope}}", "resulted in error: no such key: nope"),
    ],
)
async def test_mutations_that_fail(expression: str, message: str) -> None:
    async with serving() as s:
        await mutating(s, "m", expression)
        refused = await s.refused("POST", CONFIGMAPS, {"metadata": {"name": "c"}})
        assert refused["message"].startswith("policy 'm' with binding 'm-b' denied request: ")
        assert message in refused["message"]
        assert refused["reason"] == "Invalid"


async def test_atomic_lists_cannot_be_merged() -> None:
    async with serving() as s:
        args = (
            "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: ["
            "Object.spec.template.spec.containers{name: 'c', args: ['x']}]}}}}"
        )
        await mutating(s, "m", args, matchConstraints=rules("apps", "deployments"))
        refused = await s.refused("POST", DEPLOYMENTS, deployment("a", 1))
        path = ".spec.template.spec.containers[0].args"
        assert refused["message"].endswith(f"may not mutate atomic arrays, maps or structs: {path}")


async def test_a_policy_is_invoked_again_when_a_later_one_changed_the_object() -> None:
    async with serving() as s:
        count = "Object{data: {'seen': string(size(object.metadata.?labels.orValue({})))}}"
        await mutating(s, "a-counts", count, reinvocationPolicy="IfNeeded")
        await mutating(s, "b-once", count.replace("seen", "once"))
        await mutating(s, "c-labels", "Object{metadata: Object.metadata{labels: {'x': 'y'}}}")
        made = await s.made(CONFIGMAPS, {"metadata": {"name": "c"}})
        assert made["data"] == {"seen": "1", "once": "0"}


async def test_match_conditions_of_webhooks() -> None:
    async with serving() as s:
        hook: Obj = {
            "name": "h.example.com",
            "clientConfig": {"url": "https://127.0.0.1:1/"},  # nobody answers: what is asked is refused
            "rules": rules("", "configmaps")["resourceRules"],
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "matchConditions": [
                {"name": "named", "expression": "object.metadata.name != 'skipped'"},
                {"name": "labelled", "expression": "object.metadata.labels.x == 'y'"},
            ],
        }
        path = f"{GROUP}/validatingwebhookconfigurations"
        bad = {**hook, "matchConditions": [{"name": "n", "expression": "x"}]}
        refused = await s.refused("POST", path, {"metadata": {"name": "w"}, "webhooks": [bad]})
        assert 'webhooks[0].matchConditions[0].expression: Invalid value: "x": compilation failed' in refused["message"]
        await s.made(path, {"metadata": {"name": "w"}, "webhooks": [hook]})
        await s.made(CONFIGMAPS, {"metadata": {"name": "skipped"}})
        await s.made(CONFIGMAPS, {"metadata": {"name": "other", "labels": {"x": "z"}}})
        refused = await s.refused("POST", CONFIGMAPS, {"metadata": {"name": "asked", "labels": {"x": "y"}}})
        assert refused["code"] == 500
        assert refused["message"].startswith('Internal error occurred: failed calling webhook "h.example.com"')
        refused = await s.refused("POST", CONFIGMAPS, {"metadata": {"name": "broken"}})
        assert refused["message"] == (
            "configmaps \"broken\" is forbidden: expression 'object.metadata.labels.x == 'y'' resulted in error: "
            "no such key: labels"
        )


CRD: Obj = {
    "metadata": {"name": "foos.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "foos", "kind": "Foo"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "n": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 5"}]},
                                    "fixed": {
                                        "type": "string",
                                        "x-kubernetes-validations": [
                                            {"rule": "self == oldSelf", "message": "immutable"}
                                        ],
                                    },
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {"m": {"type": "integer"}},
                                "x-kubernetes-validations": [{"rule": "self.m > 0"}],
                            },
                        },
                    }
                },
            }
        ],
    },
}


async def test_rules_of_custom_resources() -> None:
    async with serving() as s:
        await s.made("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
        foos = "/apis/example.com/v1/namespaces/default/foos"
        foo = {"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "f"}, "spec": {"n": 1, "fixed": "a"}}
        for _ in range(100):
            if (await s.call("GET", foos))[0] == 200:
                break
            await asyncio.sleep(0)
        refused = await s.refused("POST", foos, {**foo, "spec": {"n": 7}})
        assert refused["message"] == 'Foo.example.com "f" is invalid: spec.n: Invalid value: 7: failed rule: self < 5'
        refused = await s.refused("POST", foos, {**foo, "spec": {"n": "x"}})
        assert refused["details"]["causes"][1]["field"] == "<nil>"
        await s.made(foos, foo)
        merge: Any = {"content_type": "application/merge-patch+json"}
        refused = await s.refused("PATCH", f"{foos}/f", {"spec": {"fixed": "b"}}, **merge)
        assert refused["details"]["causes"] == [
            {"reason": "FieldValueInvalid", "message": 'Invalid value: "b": immutable', "field": "spec.fixed"}
        ]
        refused = await s.refused("PATCH", f"{foos}/f/status", {"status": {"m": 0}}, **merge)
        assert "status: Invalid value: failed rule: self.m > 0" in refused["message"]
        code, _ = await s.call("PATCH", f"{foos}/f/status", {"status": {"m": 1}}, **merge)
        assert code == 200
