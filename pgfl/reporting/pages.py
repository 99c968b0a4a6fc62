"""The skeleton of every page: one file, no script, nothing fetched, good to print."""

import base64
import io
from html import escape

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def html_page(title: str, style: str, body: str) -> str:
    """A whole page.

    Args:
        title: plain text, escaped here.
        style: CSS.
        body: HTML.
    """
    return PAGE.format(title=escape(title), style=style, body=body)


def embedded(buffer: io.BytesIO, kind: str) -> str:
    """An image file in memory as a page's `src`: `kind` is `jpeg` or `png`."""
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
