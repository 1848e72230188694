"""Admission webhooks: MutatingWebhookConfiguration and ValidatingWebhookConfiguration (admission.k8s.io/v1)."""
