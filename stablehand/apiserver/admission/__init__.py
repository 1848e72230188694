"""Admission: what a write is given, and why it may be refused, after authorization and before storage.

One plugin a file; the order is upstream's (kubeapiserver/options/plugins.go).
"""
