"""clean_text: whatever comes from outside fits its column, is visible and stays itself."""

import pytest
from django.db import connection
from hypothesis import given, strategies as st

from tcss.text import clean_text

ANY_TEXT = st.text(alphabet=st.characters(codec=None), max_size=400)


@given(value=ANY_TEXT, limit=st.integers(min_value=1, max_value=300))
def test_a_cleaned_text_always_fits_its_column(value, limit):
    assert len(clean_text(value, limit)) <= limit


@given(value=ANY_TEXT)
def test_a_cleaned_text_holds_nothing_that_a_terminal_or_a_database_obeys(value):
    cleaned = clean_text(value, 10_000)
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in cleaned)


@given(value=st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200))
def test_a_harmless_text_passes_unchanged(value):
    assert clean_text(value, 200) == value


@given(value=st.binary(max_size=200))
def test_bytes_that_are_not_utf8_are_shown_as_escapes(value):
    cleaned = clean_text(value, 2_000)
    cleaned.encode("utf-8")
    assert "\x00" not in cleaned


def test_two_long_texts_that_differ_at_the_end_stay_different():
    first, second = clean_text("a" * 999 + "1", 40), clean_text("a" * 999 + "2", 40)
    assert first != second
    assert len(first) == len(second) == 40
    assert "…" in first


def test_text_that_is_cut_only_because_of_its_escapes_is_marked_too():
    assert "…" in clean_text("\x00" * 30, 60)


def test_lines_stay_lines_where_a_column_has_several():
    assert clean_text("one\ntwo\tthree\rfour", 100, multiline=True) == "one\ntwo\tthree\\x0dfour"
    assert clean_text("one\ntwo", 100) == "one\\x0atwo"


def test_nothing_is_an_empty_text():
    assert clean_text(None, 10) == ""


def test_a_huge_text_is_cut_before_it_is_escaped():
    assert len(clean_text("\x1b" * 50_000_000, 255)) == 255


HOSTILE = [
    "\x00",
    "\x1b[31m",
    "\u202e",
    "\u2028",
    "</script>",
    "{{",
    "%s",
    "${jndi:",
    "\udcff",
    "\ud800",
    "😀" * 300,
]


@pytest.mark.django_db
@pytest.mark.parametrize("value", HOSTILE)
def test_postgresql_takes_every_cleaned_text_as_text_and_as_json(value):
    cleaned = clean_text(f"a{value}b", 255)
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::varchar(255), to_jsonb(%s::text)", [cleaned, cleaned])
        assert cursor.fetchone()[0] == cleaned
