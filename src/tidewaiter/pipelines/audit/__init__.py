"""Verifying, proving and exporting the audit log, and its witnesses."""
