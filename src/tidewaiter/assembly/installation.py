"""Where wheels are installed in an image, and how."""

FORMAT_VERSION = 2
"""Part of every layer cache key: raise it when the files that the same wheel gives change."""


def site_packages(python: str) -> str:
    """Where pure and binary modules lie, relative to the root."""
    return f"usr/local/lib/python{python}/dist-packages"


def distribution(dist_info: str) -> str:
    """Name of the package in a folder name such as `ml_dtypes-0.6.0.dist-info`."""
    return dist_info.removesuffix(".dist-info").rpartition("-")[0]
