"""The Pod Security Standards (k8s.io/pod-security-admission): which pods a level in a version allows.

`levels` reads what a namespace's labels ask for, `baseline` and `restricted` hold the checks, `evaluate` knows which check
holds in which version. Pure: who asks, and what a violation does to a request, is the API server's (admission/podsecurity).
"""
