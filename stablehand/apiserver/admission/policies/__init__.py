"""Admission policies: rules in CEL that are stored as objects, and applied to the writes that their bindings choose.

source.py holds policies compiled, variables.py what their expressions see, invocations.py finds those that concern a
write; validating.py and mutating.py are the two admission plugins.
"""
