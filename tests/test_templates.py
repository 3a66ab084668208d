"""What holds for every template: its icons exist, and nothing in it needs an exception from the policy."""

import re
from pathlib import Path

import lucide
import pytest

ROOT = Path(__file__).parent.parent
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
# A strict policy refuses these: style attributes, event attributes, code or styles in the page.
_INLINE = re.compile(r"<style|<script(?![^>]*\ssrc=)|\s(?:style|on[a-z]+)=|javascript:", re.IGNORECASE)
_ICON = re.compile(r'(?:lucide|icon=)\s*"([a-z0-9-]+)"')


@pytest.mark.parametrize("template", TEMPLATES, ids=[str(path.relative_to(ROOT)) for path in TEMPLATES])
def test_a_template_names_icons_that_exist_and_has_nothing_inline(template: Path) -> None:
    source = template.read_text(encoding="utf-8")
    for name in _ICON.findall(source):
        assert "<svg" in lucide._render_icon(name, 16)
    assert not _INLINE.search(source)
