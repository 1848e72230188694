"""Definitions as operators bring them, made up in the style of the well-known ones. No tests here."""

from __future__ import annotations

# A gateway: keyed lists, junctors, defaults in defaults, a default status, rules over lists of bounded size.
PORTAL = r"""
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: portals.edge.stablehand.dev, labels: {suite: operators}}
spec:
  group: edge.stablehand.dev
  scope: Namespaced
  names: {plural: portals, kind: Portal, shortNames: [por], categories: [edge]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns:
    - {name: Class, type: string, jsonPath: .spec.className}
    - {name: Programmed, type: string, jsonPath: '.status.conditions[?(@.type=="Programmed")].status'}
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            description: What is wanted of a portal.
            required: [className, doors]
            properties:
              className: {type: string, minLength: 1, maxLength: 253}
              addresses:
                type: array
                maxItems: 16
                x-kubernetes-validations:
                - message: addresses differ
                  rule: "self.all(a, !has(a.value) || self.exists_one(b, b.type == a.type && has(b.value) && b.value == a.value))"
                items:
                  type: object
                  oneOf:
                  - properties: {type: {enum: [IP]}, value: {anyOf: [{format: ipv4}, {format: ipv6}]}}
                  - properties: {type: {not: {enum: [IP]}}}
                  properties:
                    type: {type: string, default: IP, maxLength: 253, pattern: '^Name|IP|[a-z]([-a-z]*[a-z])?\/[A-Za-z0-9\/\-._~%!$&''()*+,;=:]+$'}
                    value: {type: string, maxLength: 253}
              doors:
                type: array
                minItems: 1
                maxItems: 64
                description: Where to come in.
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                x-kubernetes-validations:
                - message: a door without encryption has no certificates
                  rule: "self.all(d, d.protocol in ['HTTP', 'TCP'] ? !has(d.tls) : true)"
                - message: doors differ in port, protocol or host
                  rule: "self.all(d, self.exists_one(e, d.port == e.port && d.protocol == e.protocol && (has(d.host) && has(e.host) ? d.host == e.host : !has(d.host) && !has(e.host))))"
                items:
                  type: object
                  required: [name, port, protocol]
                  properties:
                    name: {type: string, minLength: 1, maxLength: 253}
                    port: {type: integer, format: int32, minimum: 1, maximum: 65535}
                    protocol: {type: string, maxLength: 255}
                    host: {type: string, maxLength: 253}
                    tls:
                      type: object
                      properties:
                        mode: {type: string, default: Terminate, enum: [Terminate, Pass]}
                        certificates: {type: array, maxItems: 64, items: {type: object, properties: {name: {type: string}}}}
                      x-kubernetes-validations:
                      - {message: certificates are needed, rule: "self.mode == 'Terminate' ? size(self.certificates) > 0 : true"}
                    allowed:
                      type: object
                      default: {from: {scope: Same}}
                      properties:
                        from: {type: object, default: {scope: Same}, properties: {scope: {type: string, enum: [All, Same]}}}
              timeout: {type: string, pattern: '^([0-9]{1,5}(h|m|s|ms)){1,4}$'}
          status:
            type: object
            default:
              conditions:
              - {lastTransitionTime: "1970-01-01T00:00:00Z", message: Waiting, reason: Pending, status: Unknown, type: Programmed}
            properties:
              conditions:
                type: array
                maxItems: 8
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [type]
                items:
                  type: object
                  required: [lastTransitionTime, message, reason, status, type]
                  properties:
                    lastTransitionTime: {type: string, format: date-time}
                    message: {type: string}
                    reason: {type: string}
                    status: {type: string, enum: ["True", "False", Unknown]}
                    type: {type: string}
"""

# A database: a pod template taken over whole, quantities, ports as numbers or names, scale, selectable fields, an old
# version beside the stored one.
CLUSTER = r"""
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: dbclusters.data.stablehand.dev, labels: {suite: operators}}
spec:
  group: data.stablehand.dev
  scope: Namespaced
  names: {plural: dbclusters, kind: DbCluster, singular: dbcluster, shortNames: [dbc], categories: [all]}
  versions:
  - name: v1beta1
    served: true
    storage: false
    deprecated: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
  - name: v1
    served: true
    storage: true
    selectableFields: [{jsonPath: .spec.engine}]
    additionalPrinterColumns:
    - {name: Engine, type: string, jsonPath: .spec.engine}
    - {name: Instances, type: integer, jsonPath: .spec.instances}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.instances, statusReplicasPath: .status.instances, labelSelectorPath: .status.selector}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-validations:
            - {rule: "!has(oldSelf.engine) || self.engine == oldSelf.engine", message: the engine stays, reason: FieldValueForbidden, fieldPath: .engine}
            - {rule: "self.instances <= 9", messageExpression: "'at most nine, not %d'.format([self.instances])"}
            properties:
              engine: {type: string, enum: [pg, my]}
              instances: {type: integer, default: 3, minimum: 0}
              port: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}
              resources:
                type: object
                additionalProperties:
                  x-kubernetes-int-or-string: true
                  anyOf: [{type: integer}, {type: string}]
                  pattern: '^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$'
              template: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}
              parameters: {type: object, additionalProperties: {type: string}}
              users:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name, host]
                items:
                  type: object
                  required: [name]
                  properties: {name: {type: string}, host: {type: string, default: '%'}, roles: {type: array, x-kubernetes-list-type: set, items: {type: string}}}
          status:
            type: object
            properties:
              instances: {type: integer}
              selector: {type: string}
              conditions: {type: array, items: {type: object, properties: {type: {type: string}, status: {type: string}}}}
"""

GOOD_PORTAL = """
apiVersion: edge.stablehand.dev/v1
kind: Portal
metadata: {name: front}
spec:
  className: a
  addresses: [{value: 10.0.0.1}, {type: Name, value: a.example.com}]
  doors:
  - {name: http, port: 80, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS, tls: {certificates: [{name: c}]}}
  timeout: 1m30s
"""

GOOD_CLUSTER = """
apiVersion: data.stablehand.dev/v1
kind: DbCluster
metadata: {name: main}
spec:
  engine: pg
  port: sql
  resources: {cpu: 1, memory: 1Gi}
  parameters: {a: "1"}
  users: [{name: app, roles: [read]}]
  template: {apiVersion: v1, kind: Pod, metadata: {labels: {x: z}}, spec: {containers: []}}
"""
