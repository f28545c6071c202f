"""docs/operators.md is what the registry and the parity cases say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "operator_table.py"


def script() -> Any:
    spec = importlib.util.spec_from_file_location("operator_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date() -> None:
    module = script()
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), (
        "docs/operators.md is old; run python scripts/operator_table.py"
    )
