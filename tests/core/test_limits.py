"""The table of bounds says each of them once."""

import ast
from collections import Counter
from pathlib import Path

from tidewaiter.core import limits


def test_no_bound_is_set_twice() -> None:
    """A second line with the same name would silently change what the first one bounds."""
    tree = ast.parse(Path(limits.__file__).read_text())
    names = Counter(
        target.id
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
        if isinstance(target, ast.Name)
    )
    assert [name for name, count in names.items() if count > 1] == []
