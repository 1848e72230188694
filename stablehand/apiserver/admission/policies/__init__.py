"""Admission policies: rules in CEL that are stored as objects, and applied to the writes that their bindings choose.

source.py holds policies compiled, invocations.py finds those that concern a write, ../variables.py is what expressions
see of it; validating.py and mutating.py do what they say, and plugin.py puts both into the chain.
"""
