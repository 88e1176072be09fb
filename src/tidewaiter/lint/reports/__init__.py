"""Findings as others read them: text with the source, JSON, SARIF, code quality, annotations."""
