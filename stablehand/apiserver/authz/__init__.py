"""Who may do what: RBAC, the node authorizer, and the built-in roles."""
