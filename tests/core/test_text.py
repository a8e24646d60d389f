"""Text of others is shown as text: to terminals, in Markdown, in spreadsheets."""

import json
import subprocess
import sys

import pytest

from tests.processes import ROOT
from tff_tx.core import text

HOSTILE = "a\x1b[2Jb\x9b1mc\u202ed\rx\udc80y\x00"


def test_controls_are_shown_and_all_other_text_stays():
    assert text.printable(HOSTILE) == r"a\x1b[2Jb\x9b1mc\u202ed\rx\udc80y\x00"
    assert text.printable("é\t\n漢 \\x1b 👍") == "é\t\n漢 \\x1b 👍"
    assert text.printable("\r50 %", kept="\r") == "\r50 %"


@pytest.mark.parametrize(
    "markup", ["<script>", "[a](http://b)", "![](x)", "a | b", "`a`", "**a**", "# a", "\n\n# a", "&lt;"]
)
def test_markup_is_text(markup):
    found = text.markdown(f"x{markup}")
    assert not set("<>[]|`*!\n") & set(found)
    assert all(found[i + 1] == "#" for i, character in enumerate(found) if character == "&")


@pytest.mark.parametrize("formula", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1"])
def test_formulas_are_text_and_numbers_are_numbers(formula):
    assert text.cell(formula) == f"'{formula}"
    assert [text.cell(value) for value in ("-1.5", "+2", "word", -3, None)] == ["-1.5", "+2", "word", -3, None]


def test_cells_and_json_have_no_controls_and_stay_the_same_text_where_that_can_be():
    assert text.cell(HOSTILE) == r"a\x1b[2Jb\x9b1mc\u202ed\rx\udc80y\x00"
    assert text.cell("\r=1") == r"'\r=1"
    found = text.json_text({HOSTILE: [HOSTILE, "é漢👍"]})
    assert text.printable(found, kept="") == found
    assert "é漢👍" in found
    assert json.loads(found) == {HOSTILE: [HOSTILE, "é漢👍"]}


def test_programs_print_no_controls():
    program = f"""
import logging, sys
from programs import cli
from tff_tx.core.errors import UserError

def main(settings):
    print({HOSTILE!r})
    logging.warning("left out: %s", {HOSTILE!r})
    raise UserError({HOSTILE!r})

sys.argv = ["x"]
cli.Program(main).run()
"""
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60)
    assert found.returncode == 2, found.stderr
    assert not {*b"\x1b\x9b\x00"} & {*found.stdout, *found.stderr}
    assert (found.stdout + found.stderr).count(rb"a\x1b[2Jb") == 3
