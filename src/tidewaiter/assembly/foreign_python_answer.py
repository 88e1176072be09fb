"""Run by the Python of an image: prints its minor version and the first folder in which it looks for installed modules.

Standard library only, of any Python 3.
"""

import site
import sys

if __name__ == "__main__":
    major, minor = sys.version_info[:2]
    sys.stdout.write(f"{major}.{minor} {site.getsitepackages()[0]}\n")
