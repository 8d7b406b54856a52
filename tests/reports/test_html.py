from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.reports import html


class Cells(HTMLParser):
    """The text of every cell, as a browser reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.scopes: list[str | None] = []
        self.tags: set[str] = set()
        self._in_cell = False

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self._in_cell = tag in ("td", "th")
        if self._in_cell:
            self.cells.append("")
            self.scopes.append(dict(attributes).get("scope"))

    def handle_endtag(self, tag):
        self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.cells[-1] += data


def read(page: str) -> Cells:
    parser = Cells()
    parser.feed(page)
    parser.close()
    return parser


# What a reader of HTML does not see differently: no carriage return, no NUL, no surrogate.
texts = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]))


@given(texts, texts)
def test_any_text_comes_out_as_it_went_in(name: str, value: str) -> None:
    page = read(html.table("caption", ("a", "b"), [(name, value)]))
    assert page.cells == ["a", "b", name, value]
    assert page.tags == {"div", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert read(html.element("td", value)).cells == [value]


def test_a_picture_is_embedded_and_says_what_it_shows() -> None:
    image = html.picture(b"abc", 'a "nice" <picture>')
    assert image == (
        '<img alt="a &quot;nice&quot; &lt;picture&gt;" src="data:image/png;base64,YWJj">'
    )


def test_headers_have_scopes() -> None:
    assert read(html.table("c", ("a", "b"), [("x", 1)])).scopes == ["col", "col", "row", None]


@pytest.mark.parametrize(
    ("cells", "numeric"),
    [((1, 2.5), True), (("12.5%", "1,234"), True), (("1", "one"), False), (("", "1"), False)],
)
def test_columns_of_nothing_but_numbers_stand_on_the_right(cells, numeric) -> None:
    page = html.table("c", ("name", "value"), [("x", cells[0]), ("y", cells[1])])
    assert page.count('class="number"') == (3 if numeric else 0)


def test_values_are_written_for_people() -> None:
    settings = {"a": None, "b": True, "c": 12345, "d": 0.1 + 0.2, "e": (1, "x"), "f": {"g": False}}
    assert html.flattened(settings) == [
        ("a", "none"),
        ("b", "yes"),
        ("c", "12,345"),
        ("d", "0.3"),
        ("e", "1, x"),
        ("f.g", "no"),
    ]


def test_a_page_has_a_language_and_loads_nothing() -> None:
    page = html.document("a & b", ["<p>text</p>"])
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "<title>a &amp; b</title>" in page
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert "<script" not in page
