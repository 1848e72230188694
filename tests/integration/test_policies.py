"""Admission policies and CRD validation rules as kubectl sees them."""

from __future__ import annotations

import pytest

from tests.integration.conftest import Cluster

POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: replicas}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  paramKind: {apiVersion: v1, kind: ConfigMap}
  variables:
  - {name: most, expression: "int(params.data.most)"}
  validations:
  - expression: object.spec.replicas <= variables.most
    messageExpression: "'no more than ' + params.data.most + ' replicas'"
  - expression: "!has(object.spec.nope)"
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: replicas-limited}
spec:
  policyName: replicas
  validationActions: [Deny]
  paramRef: {name: limit, namespace: default, parameterNotFoundAction: Deny}
  matchResources:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: limit}
data: {most: "3"}
"""
MUTATION = """
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: owner}
spec:
  reinvocationPolicy: IfNeeded
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
  matchConditions:
  - {name: ours, expression: "object.metadata.name.startsWith('ours')"}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >-
        Object{metadata: Object.metadata{labels: {"owner": request.userInfo.username}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: owner}
spec: {policyName: owner}
"""
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rings.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: rings, kind: Ring}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-validations:
            - {rule: "%s", message: too few}
            properties:
              size: {type: integer}
              metal:
                type: string
                x-kubernetes-validations: [{rule: self == oldSelf, message: metal is immutable}]
"""
RING = """
apiVersion: example.com/v1
kind: Ring
metadata: {name: one}
spec: {size: %d, metal: %s}
"""
pytestmark = pytest.mark.timeout(60)


def test_validating_policies(control_plane: Cluster) -> None:
    kubectl = control_plane.kubectl
    kubectl("apply", "-f", "-", stdin=POLICY)
    kubectl("create", "deployment", "small", "--image=x:1", "--replicas=3")
    refused = kubectl("create", "deployment", "big", "--image=x:1", "--replicas=4", check=False)
    assert refused.returncode
    assert (
        "deployments.apps \"big\" is forbidden: ValidatingAdmissionPolicy 'replicas' with binding 'replicas-limited' "
        "denied request: no more than 3 replicas"
    ) in refused.stderr
    policy = control_plane.until(lambda: _checked(control_plane), 20)
    (warning,) = policy["status"]["typeChecking"]["expressionWarnings"]
    assert warning["fieldRef"] == "spec.validations[1].expression"
    assert warning["warning"].startswith("apps/v1, Kind=Deployment: ERROR: <input>:1:5: undefined field 'nope'")
    bad = kubectl(
        "apply", "-f", "-", stdin=POLICY.replace("object.spec.replicas <=", "obj.spec.replicas <="), check=False
    )
    assert "undeclared reference to 'obj' (in container '')" in bad.stderr
    kubectl("delete", "validatingadmissionpolicy", "replicas")
    kubectl("create", "deployment", "big", "--image=x:1", "--replicas=4")


def _checked(cluster: Cluster) -> dict[str, dict[str, object]] | None:
    policy: dict[str, dict[str, object]] = cluster.get("validatingadmissionpolicy", "replicas")
    done = policy.get("status", {}).get("observedGeneration") == policy["metadata"]["generation"]
    return policy if done else None


def test_mutating_policies(control_plane: Cluster) -> None:
    control_plane.kubectl("apply", "-f", "-", stdin=MUTATION)
    control_plane.kubectl("create", "configmap", "ours-1")
    control_plane.kubectl("create", "configmap", "theirs")
    assert control_plane.get("configmap", "ours-1")["metadata"]["labels"] == {"owner": "kubernetes-admin"}
    assert "labels" not in control_plane.get("configmap", "theirs")["metadata"]
    control_plane.kubectl("delete", "mutatingadmissionpolicy", "owner")


def test_rules_of_custom_resources(control_plane: Cluster) -> None:
    kubectl = control_plane.kubectl
    refused = kubectl("apply", "-f", "-", stdin=CRD % "self.weight > 1", check=False)
    assert "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule" in refused.stderr
    assert "compilation failed: ERROR: <input>:1:5: undefined field 'weight'" in refused.stderr
    kubectl("apply", "-f", "-", stdin=CRD % "self.size > 1")
    kubectl("wait", "--for=condition=Established", "crd/rings.example.com", "--timeout=20s")
    refused = kubectl("apply", "-f", "-", stdin=RING % (1, "gold"), check=False)
    assert 'The Ring "one" is invalid: spec: Invalid value: too few' in refused.stderr
    kubectl("apply", "-f", "-", stdin=RING % (2, "gold"))
    refused = kubectl("apply", "-f", "-", stdin=RING % (2, "lead"), check=False)
    assert 'The Ring "one" is invalid: spec.metal: Invalid value: "lead": metal is immutable' in refused.stderr
