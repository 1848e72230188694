from stablehand.machinery import schema
from stablehand.machinery.resources import RESOURCES
from stablehand.machinery.structural import apply_defaults, compile_structural, validate_custom


def test_every_resource_has_a_schema() -> None:
    missing = [r for r in RESOURCES if schema.schema_for(r.api_version, r.kind) is None]
    assert not missing


def test_markers() -> None:
    deployment = schema.schema_for("apps/v1", "Deployment")
    assert deployment is not None
    spec = deployment.props["spec"]
    assert spec.props["strategy"].patch_strategy == "retainKeys"
    pod = spec.props["template"].props["spec"]
    containers = pod.props["containers"]
    assert (containers.list_type, containers.map_keys, containers.patch_merge_key) == ("map", ("name",), "name")
    ports = containers.item.props["ports"]  # type: ignore[union-attr]
    assert (ports.map_keys, ports.patch_merge_key) == (("containerPort", "protocol"), "containerPort")
    assert spec.props["selector"].atomic


def test_decode_cleans_and_normalises() -> None:
    pod_schema = schema.schema_for("v1", "Pod")
    assert pod_schema is not None
    pod = {
        "metadata": {"name": "a", "creationTimestamp": None, "labels": {}},
        "spec": {
            "tolerations": [],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "resources": {"requests": {"cpu": 1, "memory": "1024Mi"}}, "args": [None]}],
        },
        "status": {"startTime": "2026-01-01T01:00:00+01:00"},
    }
    assert schema.decode(pod_schema, pod) == ([], [])
    assert pod == {
        "metadata": {"name": "a"},
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}, "args": [""]}],
        },
        "status": {"startTime": "2026-01-01T00:00:00Z"},
    }


def test_decode_words_errors_as_go_does() -> None:
    deployment = schema.schema_for("apps/v1", "Deployment")
    assert deployment is not None
    obj = {
        "metadata": {"labels": {"a": 5}},
        "spec": {
            "foo": 1,
            "replicas": "3",
            "template": {"spec": {"containers": [{"name": 1, "foo": 2, "ports": {}}]}},
        },
    }
    errors, unknown = schema.decode(deployment, obj)
    assert errors == [
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.name of type "
        "string",
        "json: cannot unmarshal object into Go struct field Container.spec.template.spec.containers.ports of type "
        "[]v1.ContainerPort",
    ]
    assert unknown == ["spec.foo", "spec.template.spec.containers[0].foo"]
    assert "foo" not in obj["spec"]
    assert schema.strict_error(unknown).startswith('strict decoding error: unknown field "spec.foo", unknown field')


def test_decode_of_scalars() -> None:
    service = schema.schema_for("v1", "Service")
    secret = schema.schema_for("v1", "Secret")
    assert service is not None and secret is not None
    assert schema.decode(service, {"spec": {"ports": [{"port": 80, "targetPort": True}]}})[0] == [
        "json: cannot unmarshal bool into Go value of type int32"
    ]
    assert "int32" in schema.decode(service, {"spec": {"ports": [{"port": 1 << 40}]}})[0][0]
    assert schema.decode(secret, {"data": {"a": "YWJj", "b": "!"}})[0] == ["illegal base64 data at input byte 0"]
    assert schema.decode(secret, {"data": {"a": "YW\nJj"}})[0] == []


def test_legacy_versions_know_their_own_fields() -> None:
    old = schema.schema_for("extensions/v1beta1", "Deployment")
    new = schema.schema_for("apps/v1", "Deployment")
    assert old is not None and new is not None
    obj = {"spec": {"rollbackTo": {"revision": 2}}}
    assert schema.unknown_fields(old, obj) == []
    assert schema.unknown_fields(new, obj) == ["spec.rollbackTo"]


CUSTOM = {
    "type": "object",
    "description": "gone",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "default": 3},
                "name": {"type": "string", "pattern": "^a", "maxLength": 3, "enum": ["a", "b"]},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "port": {"x-kubernetes-int-or-string": True},
                "list": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}},
                },
            },
        }
    },
}


def test_custom_schemas() -> None:
    compiled = compile_structural(CUSTOM)
    obj = {
        "apiVersion": "g/v1",
        "kind": "X",
        "metadata": {"name": "x"},
        "spec": {
            "size": 0,
            "name": "bcde",
            "foo": 1,
            "free": {"x": {"y": 1}},
            "port": 1.5,
            "list": [{"k": "a"}, {"k": "a", "v": "s"}],
        },
    }
    assert schema.decode(compiled, obj) == ([], ["spec.foo"])
    assert obj["spec"]["free"] == {"x": {"y": 1}}  # type: ignore[index]
    assert [e.message() for e in validate_custom(compiled, obj)] == [
        "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        'spec.name: Unsupported value: "bcde": supported values: "a", "b"',
        "spec.name: Too long: may not be more than 3 bytes",
        "spec.name: Invalid value: \"bcde\": spec.name in body should match '^a'",
        'spec.port: Invalid value: "number": spec.port in body must be of type integer,string: "number"',
        'spec.list[1].v: Invalid value: "string": spec.list[1].v in body must be of type integer: "string"',
        'spec.list[1]: Duplicate value: {"k":"a"}',
    ]
    fresh = {"metadata": {}, "spec": {}}
    apply_defaults(compiled, fresh)
    assert fresh["spec"] == {"size": 3}
    assert [e.message() for e in validate_custom(compiled, {"spec": {"name": "a"}})] == ["spec.size: Required value"]


def test_combined_schemas() -> None:
    compiled = compile_structural(
        {"type": "object", "properties": {"a": {"type": "integer", "oneOf": [{"minimum": 5}, {"maximum": 0}]}}}
    )
    assert validate_custom(compiled, {"a": 7}) == []
    assert "must validate one and only one schema (oneOf)" in validate_custom(compiled, {"a": 3})[-1].message()
