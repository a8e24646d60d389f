"""`report.html` is one file, and shows text as text."""

import html.parser
import os

import numpy as np
import pandas as pd
import pytest

from tff_tx import models
from tff_tx.core import plots
from tff_tx.core.errors import UserError
from tff_tx.run import held_out, html_report, reporting


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


def test_what_is_added_stands_at_the_end_and_needs_rounds(tmp_path):
    with pytest.raises(UserError, match="metrics.csv is missing or damaged"):
        reporting.add_section(str(tmp_path), "Audit", "first")
    (tmp_path / "metrics.csv").write_text("round_num\n1\n2\n")
    for title, text in (("Audit", "first"), ("Models", "theirs"), ("Audit", "second")):
        reporting.add_section(str(tmp_path), title, text)
    path = reporting.write_section(str(tmp_path), "Results", "own")
    parts = ["## Results\n\nown", *(f"## {t}\n\nOf the model after round 2.\n\n" for t in ("Models", "Audit"))]
    with open(path, encoding="utf-8") as file:
        assert file.read() == f"{parts[0]}\n\n{parts[1]}theirs\n\n{parts[2]}second\n"


@pytest.mark.parametrize("losses", [[1.0, 2.0, np.inf], [3e38, -3e38, np.nan], [np.inf, np.inf, np.nan]])
def test_metrics_that_are_not_finite_are_drawn_too(tmp_path, losses):
    """A model that diverged has been trained all the same, and its report says so."""
    loss = models.Metric("loss", "Loss")
    path = reporting.plot_spread(pd.DataFrame({"loss": np.float32(losses)}), [loss], str(tmp_path / "spread.png"))
    assert os.path.getsize(path) > 0


def test_names_with_dollars_are_drawn_as_they_are(tmp_path):
    names = [r"$\nothing$", "a$"]
    held_out.plot_confusion(np.eye(2, dtype=int), names, str(tmp_path / "confusion.png"))
    values = pd.DataFrame({"value": [0.1, 0.2], "standard_error": [0.0, 0.1]}, index=names)
    reporting.plot_values(values, "share", str(tmp_path / "values.png"))
    assert sorted(os.listdir(tmp_path)) == ["confusion.png", "values.png"]


def test_a_notebook_shows_the_page_in_a_frame(tmp_path):
    path = tmp_path / "report.html"
    path.write_text(html_report.page('# A "title" & <more>', str(tmp_path)), "utf-8")
    report = html_report.Report(str(path))
    assert repr(report) == str(path)
    (frame,) = _Tags(report._repr_html_()).found
    assert frame[0] == "iframe"
    assert frame[1]["srcdoc"] == path.read_text("utf-8")
