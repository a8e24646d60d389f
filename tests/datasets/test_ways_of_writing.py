"""The same records, however a file is compressed, encoded, separated and quoted."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec
from tff_tx.datasets.likely_task import likely_task
from tff_tx.datasets.overview import overview
from tff_tx.datasets.readers import opening
from tff_tx.datasets.sources import open_source

TABLE = pd.DataFrame(
    {
        "text": ['says "no", twice', "two\nlines", "Ünïcode; and more", "back\\slash\tand TAB", "five"],
        "label": ["b", "a", "b", "a", "c"],
    }
)
TEXTS = ["00", "01", "10", "11"]


def records(path, *wants, **settings):
    source = open_source(DataSpec("file", files=(str(path),), **settings))
    return pd.concat(source.pools["train"](wants or ("text", "label")), ignore_index=True)


def check(path, table=TABLE, **settings):
    found = records(path, **settings)
    assert found["text"].tolist() == table["text"].tolist()
    assert found["label"].tolist() == table["label"].tolist()


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.csv", content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("end", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zip", zipped)]
)
def test_compressed(tmp_path, end, compress):
    named, unnamed = tmp_path / f"x.csv.{end}", tmp_path / "x.csv"
    for path in (named, unnamed):
        path.write_bytes(compress(TABLE.to_csv(index=False).encode()))
        check(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.conll"])
def test_byte_order_marks_of_files_that_were_joined_are_no_text(tmp_path, name, encoding):
    parts = {
        "x.csv": ['"a",x\n', '"b",y\n'],
        "x.jsonl": ['{"text": "a", "label": "x"}\n', '{"text": "b", "label": "y"}\n'],
        "x.conll": ["a x\n\n", "b y\n\n"],
    }
    (tmp_path / name).write_bytes("".join(f"\ufeff{part}" for part in parts[name]).encode(encoding))
    wants = ("tokens", "tags") if name == "x.conll" else ("text", "label")
    found = records(tmp_path / name, *wants, columns=() if name == "x.jsonl" else wants)
    assert ["".join(value) for value in found[wants[0]]] == ["a", "b"]
    (tmp_path / "x.csv").write_text("\ufefftext,label\na,b\n" * 2)
    with pytest.raises(UserError, match="line 3: it repeats the first line, as in joined files"):
        records(tmp_path / "x.csv")


@pytest.mark.parametrize("again", ["text, label", "Text,Label", '"text","label "'])
def test_a_header_that_comes_again_may_be_written_otherwise(tmp_path, again):
    (tmp_path / "x.csv").write_text(f"text,label\na,b\n{again}\nc,d\n")
    with pytest.raises(UserError, match="line 3: it repeats the first line, as in joined files"):
        records(tmp_path / "x.csv")


def test_a_client_has_no_blanks_around_it(tmp_path):
    (tmp_path / "x.csv").write_text("text,client\na,ann\nb,ann \nc, ann\n")
    assert records(tmp_path / "x.csv", "client")["client"].tolist() == ["ann"] * 3


def test_two_colons_separate_as_movielens_has_them(tmp_path):
    (tmp_path / "x.dat").write_text("".join(f"{n}::a: text, {n}::{n % 2}\n" for n in range(4)))
    names = {"columns": ("n", "text", "label")}
    for settings in ({}, {"delimiter": "::"}):
        found = records(tmp_path / "x.dat", format="csv", **names, **settings)
        assert found["text"].tolist() == [f"a: text, {n}" for n in range(4)]


def test_lines_above_the_header(tmp_path):
    (tmp_path / "x.csv").write_text("Report 2024\n\ntext,label\na,b\n")
    with pytest.raises(UserError, match=r"line 3: 2 fields where the first line has 1 .*or remove what stands above"):
        records(tmp_path / "x.csv")


def test_recordings_in_a_folder_beside_their_table(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.wav").write_bytes(b"RIFF")
    (tmp_path / "train.tsv").write_text("path\tsentence\na.wav\tone two three four\n")
    spec = DataSpec("file", files=(str(tmp_path / "train.tsv"),))
    likely = likely_task(spec, overview(spec), open_source(spec).columns())
    assert likely == {"task.kind": "speech_recognition", "data.target_column": "sentence"}
    (found,) = records(tmp_path / "train.tsv", "audio")["audio"]
    assert found == {"path": str(tmp_path / "clips" / "a.wav")}
    (tmp_path / "noisy").mkdir()
    (tmp_path / "noisy" / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"line 2: 'a\.wav' may be .*clips/a\.wav or .*noisy/a\.wav: write its path"):
        records(tmp_path / "train.tsv", "audio")
    with pytest.raises(UserError, match=r"several formats, recordings \(noisy/a.wav\), tsv \(train.tsv\): name"):
        records(tmp_path)


def test_an_archive_that_is_called_otherwise_than_its_file(tmp_path):
    (tmp_path / "x.zip").write_bytes(zipped(TABLE.to_csv(index=False).encode()))
    check(tmp_path / "x.zip")


def test_an_archive_may_have_a_readme_but_no_other_file(tmp_path):
    """As that of the SMS Spam Collection, whose files have no endings."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme", "What this is.")
        archive.writestr("Collection", TABLE.to_csv(index=False, sep="\t"))
    check(tmp_path / "x.zip", format="tsv")
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as archive:
        archive.writestr("More", "text\tlabel\n")
    with pytest.raises(UserError, match=r"x\.zip: the archive has 2 files, not one; unpack it, and name the files"):
        records(tmp_path / "x.zip")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"text,label\n" + b"a,b\n" * 2**18), r"more than 65,536 bytes; decompress"),
        (gzip.compress(b"text,label\na,b\n" * 99)[:-12], r"x\.csv\.gz cannot be read \(.+\); replace"),
        (b"PK\x03\x04 and no archive", r"x\.csv\.gz cannot be read \(.+\); replace"),
    ],
    ids=["bomb", "cut off", "another format"],  # gzip's bytes have the time in them
)
def test_a_bomb_or_a_damaged_file_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(opening, "_ALWAYS_BYTES", 2**16)
    monkeypatch.setattr(opening, "_MOST_TIMES", 1)
    (tmp_path / "x.csv.gz").write_bytes(content)
    with pytest.raises(UserError, match=message):
        records(tmp_path / "x.csv.gz")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_with_a_mark(tmp_path, encoding):
    (tmp_path / "x.csv").write_bytes(TABLE.to_csv(index=False).encode(encoding))
    check(tmp_path / "x.csv")


@pytest.mark.parametrize("encoding", ["latin1", "cp1251"])
def test_utf_8_is_not_read_byte_by_byte(tmp_path, encoding):
    (tmp_path / "x.jsonl").write_text('{"text": "Ok ü Привет", "label": 1}\n', encoding="utf-8")
    check(tmp_path / "x.jsonl", pd.DataFrame({"text": ["Ok ü Привет"], "label": ["1"]}), encoding=encoding)
    spec = DataSpec("file", files=(str(tmp_path / "x.jsonl"),), encoding=encoding)
    assert open_source(spec).notes() == ["x.jsonl: encoded as utf-8"]


@pytest.mark.parametrize("encoding", ["latin1", "cp1252", "utf-16-le"])
def test_encodings_that_are_named(tmp_path, encoding):
    (tmp_path / "x.jsonl").write_bytes(TABLE.to_json(orient="records", lines=True, force_ascii=False).encode(encoding))
    check(tmp_path / "x.jsonl", encoding=encoding)


@pytest.mark.parametrize("separator", [",", ";", "|", "\t"])
@pytest.mark.parametrize("end", ["csv", "tsv"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_delimiters_are_recognized(tmp_path, separator, end, quoting):
    # As pandas and Excel write them: quotes where they are needed, and doubled within.
    TABLE.to_csv(tmp_path / f"x.{end}", index=False, sep=separator, quoting=quoting)
    check(tmp_path / f"x.{end}")


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        # As LJSpeech has them; the first of them begin beyond the lines by which files are recognized.
        (
            ['a|"Now," he said|b', 'c|he said "d"|e', 'f|"one" and "two|g'],
            ['"Now," he said', 'he said "d"', '"one" and "two'],
        ),
        (['a|"Now," he said|b', 'c|"e, f"|g'], ['"Now," he said', '"e, f"']),
        # Excel's text files, exports that quote all but numbers, pandas' doubled quotes
        (['1\t"one, two"\ta', "2\tthree\tb"], ["one, two", "three"]),
        (['1|"one"|"a"', '2|"say two"|"b"'], ["one", "say two"]),
        (['1|"say ""one"""|a', "2|two|b"], ['say "one"', "two"]),
        (['1|"one|two"|a', "2|three|b"], ["one|two", "three"]),
    ],
)
def test_quotes_are_text_between_tabs_and_bars_unless_lines_show_otherwise(tmp_path, lines, texts):
    separator = "\t" if "\t" in lines[0] else "|"
    plain = [separator.join(["n", "some text, too" if "Now" in lines[0] else "none", "m"])] * 600 * ("Now" in lines[0])
    (tmp_path / "x.csv").write_text("\n".join([separator.join(["id", "text", "label"]), *plain, *lines]))
    assert records(tmp_path / "x.csv", "text")["text"].tolist()[len(plain) :] == texts


@pytest.mark.parametrize("settings", [{}, {"columns": ("text",)}])
def test_a_single_column_has_no_delimiter(tmp_path, settings):
    texts = ["one; two", "three; four", "five, six; seven", "eight|nine; ten"]
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "x.csv", index=False, header=not settings)
    assert records(tmp_path / "x.csv", "text", **settings)["text"].tolist() == texts


def test_a_comma_in_every_line_is_no_delimiter_where_values_then_have_quotes(tmp_path):
    lines = ['text;"amount, EUR";label', *(f"t{n};{n},50;{'ab'[n % 2]}" for n in range(5))]
    (tmp_path / "x.csv").write_text("\r\n".join(lines), "utf-8-sig")
    found = records(tmp_path / "x.csv", "text", "label", "numbers", numeric_columns=("amount, EUR",))
    assert found["text"].tolist() == [f"t{n}" for n in range(5)]
    assert np.stack(found["numbers"])[:, 0].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]


def test_a_missing_number_is_said_to_be_missing(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,\n")
    with pytest.raises(UserError, match="x.csv, line 3: the column 'b' has no value; fill it in or remove the row"):
        records(tmp_path / "x.csv", "numbers", numeric_columns=("a", "b"))


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        (["A11 6 A34 A43 1169 1", "A12 48 A32 A43 5951 2"], ["A11", "6", "A34", "A43", "1169", "1"]),  # german.data
        ([" 0.006  18.00   2.31  0", " 0.027   0.00  17.07  0 "], ["0.006", "18.00", "2.31", "0"]),  # housing.data
        (
            ['18.   8   307.  130.  3504.  12.   70  1\t"ford torino"', '9. 8 350. ? 3693. 11. 70  1\t"audi"'],
            ["18.", "8", "307.", "130.", "3504.", "12.", "70", "1", "ford torino"],  # auto-mpg.data
        ),
        (["15.26\t14.84\t1\t5", "14.88\t14.57\t\t2\t5"], ["15.26", "14.84", "1", "5"]),  # seeds_dataset
    ],
)
def test_any_number_of_blanks_separates_numbers_and_codes(tmp_path, lines, first):
    path, names = tmp_path / "x.data", tuple(f"c{n}" for n in range(len(first)))
    path.write_text("\n".join(lines * 9) + "\n")
    for settings in ({}, {"delimiter": " "}):
        found = overview(DataSpec("file", files=(str(path),), columns=names, **settings)).rows
        assert (list(found[0].values()), len(found)) == (first, 18)
    path.write_text("\n".join([" ".join(names), *lines * 9]))
    assert overview(DataSpec("file", files=(str(path),))).rows == found


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        (["12 May 2024 10:00\t5\t3", "13 May 2024 11:00\t6\t3"], ["12 May 2024 10:00", "5", "3"]),
        (["2024-01-01 10:00,5,3", "2024-01-02 11:00,6,3"], ["2024-01-01 10:00", "5", "3"]),
        (["5\t\t7", "5\t6\t"], ["5", "", "7"]),
        (["it says that", "all are one"], ["it says that"]),
    ],
)
def test_blanks_within_values_separate_none(tmp_path, lines, first):
    path = tmp_path / "x.csv"
    path.write_text("\n".join([lines[0].replace("5", "n").replace("3", "m"), *lines * 9]))
    found = overview(DataSpec("file", files=(str(path),))).rows
    assert (list(found[0].values()), len(found)) == (first, 18)


def test_excel_says_its_delimiter(tmp_path):
    (tmp_path / "x.csv").write_text("sep=;\r\n" + TABLE.to_csv(index=False, sep=";", lineterminator="\r\n"))
    check(tmp_path / "x.csv")
    assert "line 3" in records(tmp_path / "x.csv")["where"][0]


def test_any_other_delimiter_is_named(tmp_path):
    TABLE.to_csv(tmp_path / "x.csv", index=False, sep="^")
    check(tmp_path / "x.csv", delimiter="^")
    TABLE.to_csv(tmp_path / "x.csv", index=False, sep="\t")
    check(tmp_path / "x.csv", delimiter="tab")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        # write.table(x), write.csv(x), write.csv2(x)
        ("x.csv", '"text" "label"\n"1" "one, two" "a"\n"7" "say \\"hi\\"" "b"\n'),
        ("x.csv", '"","text","label"\n"1","one, two","a"\n"2","say ""hi""","b"\n'),
        ("x.csv", '"";"text";"label"\n"1";"one, two";"a"\n"2";"say ""hi""";"b"\n'),
        # SELECT ... INTO OUTFILE ... FIELDS TERMINATED BY ',' ENCLOSED BY '"', with a header; mysql --tab
        ("x.csv", '"text","label","more"\n"one, two","a",\\N\n"say \\"hi\\"","b",\\N\n'),
        ("x.tsv", 'text\tlabel\tmore\none, two\ta\t\\N\nsay "hi"\tb\t\\N\n'),
    ],
)
def test_what_r_and_mysql_write(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    check(tmp_path / name, pd.DataFrame({"text": ["one, two", 'say "hi"'], "label": ["a", "b"]}))


def test_nulls_of_mysql_are_missing(tmp_path):
    (tmp_path / "x.tsv").write_text("text\tlabel\na\t1\nb\t\\N\n")
    with pytest.raises(UserError, match=r"line 3: the column 'label' has ''"):
        records(tmp_path / "x.tsv")


@pytest.mark.parametrize(
    "content",
    [
        "text,label,\na,x,\nb,y,\n",
        "text,label,,\na,x\nb,y,,\n",
        "text,label\na,x,,\nb,y\n",
        " text , label\na,x\nb,y\n",
        '"text", "label"\n"a", "x"\n"b", "y"\n',
    ],
)
def test_blanks_in_headers_and_columns_without_a_name(tmp_path, content):
    (tmp_path / "x.csv").write_text(content)
    check(tmp_path / "x.csv", pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}))


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.ndjson", "x.txt", "x.json.gz"])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_whatever_the_extension(tmp_path, name, indent):
    rows = TABLE.to_dict("records")
    lines = "\n".join(map(json.dumps, rows))
    for content in (lines, json.dumps(rows, indent=indent), json.dumps({"version": 1, "data": rows}, indent=indent)):
        written = gzip.compress(content.encode()) if name.endswith("gz") else content.encode()
        (tmp_path / name).write_bytes(written)
        check(tmp_path / name)


def test_columns_within_columns(tmp_path):
    rows = [{"review": {"parts": [{"title": t}], "stars": n}} for n, t in enumerate(("good", "bad"))]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    nested = {"text_column": ("review.parts.0.title",), "label_column": "review.stars"}
    check(tmp_path / "x.json", pd.DataFrame({"text": ["good", "bad"], "label": ["0", "1"]}), **nested)
    pd.DataFrame(rows).to_parquet(tmp_path / "x.parquet")
    check(tmp_path / "x.parquet", pd.DataFrame({"text": ["good", "bad"], "label": ["0", "1"]}), **nested)
    with pytest.raises(UserError, match=r"no column 'review\.gone'"):
        records(tmp_path / "x.json", label_column="review.gone")


@pytest.mark.parametrize(
    "content",
    [
        [{"page": n, "of": 2, "results": [{"a": {"text": f"{n}{k}"}, "label": k} for k in (0, 1)]} for n in (0, 1)],
        {"status": "ok", "meta": {"n": 4}, "response": {"items": [{"a": {"text": t}, "label": t[1]} for t in TEXTS]}},
        {"next": None, "items": [{"a": {"text": t}, "label": t[1]} for t in TEXTS]},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_pages_of_an_api(tmp_path, content, indent):
    (tmp_path / "x.json").write_text(json.dumps(content, indent=indent))
    table = pd.DataFrame({"text": TEXTS, "label": [text[1] for text in TEXTS]})
    check(tmp_path / "x.json", table, text_column=("a.text",))


@pytest.mark.parametrize("in_lines", [True, False])
def test_objects_in_lines_or_an_array_are_records_whatever_lists_they_have(tmp_path, in_lines):
    row = '{"text": "a", "label": 1, "items": [{"b": 1}]}'
    (tmp_path / "x.json").write_text(f"{row}\n{row}\n" if in_lines else f"[{row}, {row}]")
    check(tmp_path / "x.json", pd.DataFrame({"text": ["a", "a"], "label": ["1", "1"]}))


def test_files_of_other_programs_are_named(tmp_path):
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"^data\.files: '.*x\.xlsx' is a file of a spreadsheet; save it as CSV"):
        records(tmp_path / "x.xlsx")
    (tmp_path / "x.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"^data\.files: '.*x\.npz' is a file of NumPy; save it as CSV"):
        records(tmp_path / "x.npz")
    (tmp_path / "x.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"^data\.files: '.*x\.tar\.gz' is an archive; unpack it, and name what"):
        records(tmp_path / "x.tar.gz")


def test_numbers_are_texts_where_texts_are_wanted(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": 2024, "label": 1}\n{"text": "a", "label": 2}\n')
    check(tmp_path / "x.jsonl", pd.DataFrame({"text": ["2024", "a"], "label": ["1", "2"]}))


@pytest.mark.parametrize("form", [json.dumps, str, lambda words: str(np.array(words))])
def test_lists_in_tables(tmp_path, form):
    table = {"tokens": [["He's", "in", "Rome"], ["No"]], "ner": [[0, 0, 1], [0]]}
    pd.DataFrame({k: list(map(form, v)) for k, v in table.items()}).to_csv(tmp_path / "x.csv", index=False)
    found = records(tmp_path / "x.csv", "tokens", "tags", label_column="ner")
    assert found["tokens"].tolist() == table["tokens"]
    assert found["tags"].tolist() == [["0", "0", "1"], ["0"]]


CONLLU = """# sent_id = 1
# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\tV\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\tP\t_\t1\tobj\t_\t_
2.1\tnada\t_\tX\tZ\t_\t_\t_\t_\t_

# newdoc
1\t#\t#\tSYM\tS\t_\t0\troot\t_\t_
"""


@pytest.mark.parametrize(("settings", "tags"), [({}, ["VERB", "PRON"]), ({"label_column": "xpos"}, ["V", "P"])])
def test_conllu(tmp_path, settings, tags):
    (tmp_path / "x.conllu").write_text(CONLLU)
    found = records(tmp_path / "x.conllu", "tokens", "tags", **settings)
    assert found["tokens"].tolist() == [["Vamos", "nos"], ["#"]]
    assert found["tags"][0] == tags


def test_comments_in_conll(tmp_path):
    (tmp_path / "x.conll").write_text("# of Rome\n# id 7 b\nRome B-LOC\n# O\n\n# another one\nNo O\n")
    assert records(tmp_path / "x.conll", "tokens", "tags")["tokens"].tolist() == [["Rome", "#"], ["No"]]


def picture(mode):
    colors = Image.fromarray(np.full([2, 3, 3], [200, 100, 0], np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.full([2, 3], 2**15, np.uint16))
    return colors.convert(mode)


@pytest.mark.parametrize(
    ("mode", "shape", "value"),
    [
        *(("L", (2, 3), 118.5), ("1", (2, 3), 127), ("RGB", (2, 3, 3), 100), ("RGBA", (2, 3, 4), 139)),
        *(("P", (2, 3, 3), 100), ("I;16", (2, 3), 0.5), ("LA", (2, 3, 4), 152)),
    ],
)
def test_modes_of_pictures(tmp_path, mode, shape, value):
    png = io.BytesIO()
    picture(mode).save(png, "PNG")
    pd.DataFrame({"image": [{"bytes": png.getvalue()}], "label": [0]}).to_parquet(tmp_path / "x.parquet")
    pixels = records(tmp_path / "x.parquet", "pixels")["pixels"][0]
    assert pixels.shape == shape
    assert pixels.mean() == pytest.approx(value, rel=0.15)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_ends_of_lines(tmp_path, encoding, end):
    """A carriage return alone, as old Macs and their Excel have it, ends a line, too; of values in quotes it is one."""
    table = pd.DataFrame({"text": TEXTS, "label": [text[1] for text in TEXTS]})
    lines = ["text,label", *(f'"{text}",{label}' for text, label in table.to_numpy())]
    (tmp_path / "x.csv").write_bytes((end.join(lines) + end).encode(encoding))
    check(tmp_path / "x.csv", table)
    words = ["Anna\tB-PER", "sleeps\tO", "", "Bonn\tB-LOC", "too\tO", ""]
    (tmp_path / "x.conll").write_bytes(end.join(words).encode(encoding))
    (found,) = open_source(DataSpec("file", files=(str(tmp_path / "x.conll"),))).pools["train"](frozenset({"tokens"}))
    assert found["tokens"].tolist() == [["Anna", "sleeps"], ["Bonn", "too"]]
    (tmp_path / "x.jsonl").write_bytes((end.join(map(json.dumps, table.to_dict("records"))) + end).encode(encoding))
    check(tmp_path / "x.jsonl", table)
