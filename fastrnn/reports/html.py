"""Pieces of a page that opens anywhere: no script, and nothing that is fetched from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

# Pictures are drawn on white; on a dark page they stand on a light card.
_STYLE = """
:root { color-scheme: light dark; --text: #1c2126; --back: #ffffff; --soft: #5b6570;
  --line: #d7dce1; --card: #f5f7f9; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ec; --back: #15191d; --soft: #a3adb7;
  --line: #3a424a; --card: #1e242a; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.5rem; }
.lead { font-size: 1.25rem; margin: 0.25rem 0 1rem; }
.note { color: var(--soft); }
img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.5rem 0; font-size: 0.95rem; }
caption { text-align: left; color: var(--soft); padding-bottom: 0.25rem; }
th, td { padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; overflow-wrap: break-word; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
tbody th { font-weight: 600; }
details { background: var(--card); border-radius: 6px; padding: 0.5rem 1rem; margin: 0.5rem 0; }
summary { cursor: pointer; font-weight: 600; }
"""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, body: Iterable[str]) -> str:
    """Put a page together; the body's pieces are HTML already."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            *body,
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def element(tag: str, text: str, **attributes: str) -> str:
    """Wrap a text.

    Examples
    --------
    >>> element("p", "R&D", id="a")
    '<p id="a">R&amp;D</p>'
    """
    words = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    return f"<{tag}{words}>{escape(text)}</{tag}>"


def picture(png: bytes, alternative: str) -> str:
    """Embed a PNG picture; `alternative` says in words what it shows."""
    data = base64.b64encode(png).decode()
    return f'<img alt="{escape(alternative)}" src="data:image/png;base64,{data}">'


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay out rows whose first cell names them; columns of nothing but numbers stand on the right.

    Strings made of a number, as "12.5%", count as numbers.
    """
    texts = [[_text(cell) for cell in row] for row in rows]
    numeric = [
        column > 0 and all(_is_number(row[column]) for row in texts)
        for column in range(len(header))
    ]
    lines = ['<div class="scroll">', "<table>", f"<caption>{escape(caption)}</caption>"]
    heads = (_cell("th", name, numeric[k], "col") for k, name in enumerate(header))
    lines += ["<thead>", f"<tr>{''.join(heads)}</tr>", "</thead>", "<tbody>"]
    for row in texts:
        cells = [_cell("th", row[0], False, "row")]
        cells += [_cell("td", text, numeric[k]) for k, text in enumerate(row) if k]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>", "</div>"])


def settings_table(caption: str, settings: Mapping[str, Any]) -> str:
    """Lay out settings, those within settings by their full names."""
    return table(caption, ("setting", "value"), flattened(settings))


def flattened(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values of settings, those within settings too.

    Examples
    --------
    >>> flattened({"epochs": 3, "augment": {"noise": None}})
    [('epochs', '3'), ('augment.noise', 'none')]
    """
    found = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found += flattened(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, _text(value)))
    return found


def details(summary: str, content: str) -> str:
    """Fold some HTML away under a line to click on."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"


def _cell(tag: str, text: str, number: bool, scope: str = "") -> str:
    attributes = f' scope="{scope}"' if scope else ""
    attributes += ' class="number"' if number else ""
    return f"<{tag}{attributes}>{escape(text)}</{tag}>"


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "").removesuffix("%"))
    except ValueError:
        return False
    return True
