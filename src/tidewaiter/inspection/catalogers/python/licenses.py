"""Licences of a Python distribution: `License-Expression` (PEP 639), else trove classifiers, else `License`."""

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers.text import clean
from tidewaiter.sbom.licenses import expression

# Classifiers with exactly one meaning. "BSD License", "Apache Software License", "GNU General Public License
# (GPL)" and the like name families, so the `License` field is asked first.
_CLASSIFIERS = {
    "BSD License": None,
    "Apache Software License": None,
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 1.1 (MPL 1.1)": "MPL-1.1",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "The Unlicense (Unlicense)": "Unlicense",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "zlib/libpng License": "Zlib",
    "Universal Permissive License (UPL)": "UPL-1.0",
    "Eclipse Public License 1.0 (EPL-1.0)": "EPL-1.0",
    "Eclipse Public License 2.0 (EPL-2.0)": "EPL-2.0",
    "Zope Public License": None,
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
}
# What people write in `License` for one licence and no other.
_WRITTEN = {
    "apache 2.0": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "mit license": "MIT",
    "the mit license": "MIT",
    "the mit license (mit)": "MIT",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause",
    "3-clause bsd": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "new bsd license": "BSD-3-Clause",
    "modified bsd license": "BSD-3-Clause",
    "bsd 2-clause": "BSD-2-Clause",
    "2-clause bsd license": "BSD-2-Clause",
    "bsd 2-clause license": "BSD-2-Clause",
    "simplified bsd": "BSD-2-Clause",
    "mpl 2.0": "MPL-2.0",
    "mozilla public license 2.0": "MPL-2.0",
    "isc license": "ISC",
    "python software foundation license": "PSF-2.0",
}


def _written(text: str) -> str:
    """SPDX expression of the `License` field where certain, else its first line."""
    line = next((line for line in text.split("\n") if line.strip()), "")
    line = clean(line, limits.LICENSE_CHARACTERS)
    if line.upper() in {"", "UNKNOWN"}:
        return ""
    return _WRITTEN.get(line.lower()) or expression(line) or line


def licenses(expressions: list[str], classifiers: list[str], written: list[str]) -> tuple[str, ...]:
    """Licences from the values of the three fields, in the order in which they are trusted."""
    for text in expressions:
        stated = clean(text, limits.LICENSE_CHARACTERS)
        if stated:
            return (expression(stated) or stated,)
    names = [name.rpartition(" :: ")[2].strip() for name in classifiers if name.startswith("License :: ")]
    certain = {found for name in names if (found := _CLASSIFIERS.get(name))}
    if certain:
        return tuple(sorted(certain))
    texts = {found for text in written if (found := _written(text))}
    if texts:
        return tuple(sorted(texts))
    vague = {clean(name, limits.LICENSE_CHARACTERS) for name in names} - {"OSI Approved", ""}
    return tuple(sorted(vague))
