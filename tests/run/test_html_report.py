"""`report.html` is one file, and shows text as text."""

import html.parser
import os

from tff_tx.core import plots
from tff_tx.run import html_report, reporting


class _Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_a_section_with_a_picture_is_in_the_one_file(tmp_path):
    os.makedirs(tmp_path / "plots")
    figure, _ = plots.pyplot().subplots()
    plots.save(figure, str(tmp_path / "plots" / "loss.png"))
    table = "| test | |\n|---|---|\n| accuracy | 0.9 |\n\n![loss](plots/loss.png)\n\n![gone](plots/gone.png)"
    reporting.write_section(str(tmp_path), "Results", table)
    reporting.write_section(str(tmp_path), "Names", '`<b>` <script>alert(1)</script> Ünï\n\n```json\n{"a": "<i>"}\n```')
    page = _Tags((tmp_path / "report.html").read_text("utf-8"))
    names = [tag for tag, _ in page.found]
    assert not {"script", "b", "i"} & set(names)
    assert "<script>alert(1)</script> Ünï" in page.text
    assert '{"a": "<i>"}' in page.text
    assert {"table", "h2", "pre"} <= set(names)
    loss, gone = (attributes["src"] for tag, attributes in page.found if tag == "img")
    assert loss.startswith("data:image/png;base64,iVBOR")
    assert gone == "plots/gone.png"


def test_a_notebook_shows_the_page_in_a_frame(tmp_path):
    path = tmp_path / "report.html"
    path.write_text(html_report.page('# A "title" & <more>', str(tmp_path)), "utf-8")
    report = html_report.Report(str(path))
    assert repr(report) == str(path)
    (frame,) = _Tags(report._repr_html_()).found
    assert frame[0] == "iframe"
    assert frame[1]["srcdoc"] == path.read_text("utf-8")
