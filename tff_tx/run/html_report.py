"""`report.html`: `report.md` as one file that needs no other, and no network."""

from __future__ import annotations

import base64
import html
import os
import re

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 0 auto; padding: 1rem; }}
body {{ overflow-wrap: anywhere; }}
h2 {{ border-bottom: 1px solid #8886; margin-top: 2rem; }}
img {{ max-width: 100%; background: #fff; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ border: 1px solid #8886; padding: .2rem .6rem; text-align: left; overflow-wrap: normal; }}
pre {{ overflow-x: auto; background: #8881; padding: .6rem; }}
</style></head><body>
{body}
</body></html>
"""


def page(text: str, directory: str) -> str:
    """The page of a report in Markdown; pictures, named relative to the directory, become part of it."""
    import markdown

    body = markdown.markdown(_without_html(text), extensions=["tables", "fenced_code"])
    body = re.sub(r'src="([^":]+\.png)"', lambda match: f'src="{_embedded(directory, match[1])}"', body)
    return _PAGE.format(title=html.escape(text.splitlines()[0].lstrip("# ")), body=body)


def _without_html(text):
    """The text with tags as text; of code the converter takes care itself."""
    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.DOTALL)
    return "".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))


def _embedded(directory, name):
    path = os.path.join(directory, name)
    if not os.path.exists(path):
        return name
    with open(path, "rb") as file:
        return f"data:image/png;base64,{base64.b64encode(file.read()).decode('ascii')}"


class Report:
    """A run's report: shown in a notebook, `path` elsewhere."""

    def __init__(self, path: str):
        self.path = path

    def _repr_html_(self):
        with open(self.path, encoding="utf-8") as file:
            content = html.escape(file.read())
        return f'<iframe srcdoc="{content}" style="width:100%;height:40rem;border:1px solid #8886"></iframe>'

    def __repr__(self):
        return self.path
