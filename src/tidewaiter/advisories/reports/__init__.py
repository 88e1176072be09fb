"""Findings as other programs want them: SARIF, CycloneDX VEX, OpenVEX, GitLab's report, JUnit.

Every document follows from its report alone: the same image, advisories and VEX statements give the same bytes.
"""
