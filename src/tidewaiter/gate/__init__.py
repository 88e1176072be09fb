"""The gate: a registry (OCI Distribution 1.1) in front of the store. What is pushed shows once it is allowed."""
