"""SBOM documents that other programs wrote: CycloneDX, SPDX and Syft's own, bare or inside an attestation."""
