"""Tables to texts: every dialect that people's programs write, and errors that say where."""

from __future__ import annotations

import csv
import json
import lzma
import sys

import pytest

from gpt2.errors import UserError
from gpt2.text import TextFile, read_columns, read_documents

ROWS = [{"id": "1", "text": "first\nwith a line"}, {"id": "2", "text": 'second, "with" more;'}]
TEXTS = [row["text"] for row in ROWS]


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts_of(path, column="text"):
    return list(read_documents(TextFile(path, column)))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", list(",;\t|"))
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.CSV.xz"])
def test_separated_values_of_every_dialect(tmp_path, name, delimiter, end):
    """A line break within a cell of a Windows table was learned as \\r\\n."""
    with open(tmp_path / "plain", "w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
        writer.writerow(["id", "text"])
        writer.writerows([[row["id"], row["text"].replace("\n", end)] for row in ROWS])
    data = (tmp_path / "plain").read_bytes()
    path = write(tmp_path, name, lzma.compress(data) if name.endswith("xz") else data)
    assert texts_of(path) == TEXTS
    assert read_columns(path) == ("id", "text")
    with pytest.raises(UserError, match=r"name its text column.*id, text"):
        texts_of(path, None)
    with pytest.raises(UserError, match="no column 'body'"):
        texts_of(path, "body")


def test_json_of_every_form(tmp_path):
    lines = "\n".join(map(json.dumps, ROWS))
    forms = {
        "a.json": json.dumps(ROWS, indent=1),
        "b.json": json.dumps({"version": 1, "data": ROWS}),
        "c.json": lines,  # many a .json is one
        "d.jsonl": lines.replace("\n", "\r\n\r\n"),
        "e.ndjson": "\ufeff" + lines,
    }
    for name, content in forms.items():
        path = write(tmp_path, name, content)
        assert texts_of(path) == TEXTS, name
        assert read_columns(path) == ("id", "text")
        with pytest.raises(UserError, match=r"is a table: name its text column.*id, text"):
            texts_of(path, None)
    one = write(tmp_path, "one.json", json.dumps(ROWS[0]))
    assert texts_of(one) == TEXTS[:1]


def test_a_list_of_plain_texts_needs_no_column(tmp_path):
    for name, content in (
        ("a.json", json.dumps(TEXTS)),
        ("a.jsonl", "\n".join(map(json.dumps, TEXTS))),
    ):
        path = write(tmp_path, name, content)
        assert texts_of(path, None) == TEXTS
        assert read_columns(path) == ()
        with pytest.raises(UserError, match="a text without columns: leave out column 'text'"):
            texts_of(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "fine"}\n{"text": 3}\n', "line 2: 'text' is not a text"),
        ("a.jsonl", '{"text": "fine"}\n\n{"text": "x",}\n', "line 3, column 1[34]"),
        ("a.jsonl", '{"text": "fine"}\n[1]\n', "line 2, is neither a text nor a JSON object"),
        ("a.jsonl", '{"text": "a"}\n{"body": "b"}\n', "line 2, has no column 'text'.*: body"),
        ("a.jsonl", "[" * 100_000, "line 1"),
        ("a.json", '[{"text": "a"},\n {"text": "b"\n]', "line 3, column 1"),
        ("a.json", '[{"text": "a"}, {"text": 5}]', "record 2: 'text' is not a text"),
        ("a.json", "5", "no list of texts"),
        ("a.csv", 'id,text\n1,ok\n2,"open\n3,more\n4,end\n', "line 3, column 2: a quote opens"),
        ("a.csv", 'id,text\n1,"open\n2,"closed"\n3,x\n', "line 2, column 2: a quote opens"),
        ("a.csv", 'id,text\n1,"a\nb"\n2,"open', "line 4, column 2: a quote opens"),
        ("a.csv", 'id,text\n"1\n1","open\n', "line 3, column 2: a quote opens"),
        ("a.csv", "text,text\na,b\n", "several columns 'text'"),
        ("a.csv", "", "no column 'text'. It has: none"),
    ],
)
def test_what_is_broken_is_named_with_its_place(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(UserError, match=message) as caught:
        texts_of(path)
    assert str(path) in str(caught.value)


def test_an_untidy_quote_within_a_line_takes_nothing_away(tmp_path):
    path = write(tmp_path, "a.csv", 'id,text\n1,5" of snow\n2,"so" she said\n3,c\n')
    assert texts_of(path) == ['5" of snow', "so she said", "c"]


def test_half_a_surrogate_pair_costs_itself_and_is_told(tmp_path):
    """One tweet cut within an emoji, and the whole file was refused, without its line."""
    lines = ['{"text": "fine"}', '{"text": "half \\ud83d"}', '{"text": "whole \\ud83d\\ude42"}']
    text = TextFile(write(tmp_path, "a.jsonl", "\n".join(lines)), "text")
    assert list(read_documents(text)) == ["fine", "half ", "whole 🙂"]
    assert text.notes == (
        "half a surrogate pair dropped, the first in line 2, field 'text', character 6",
    )


def test_rows_without_a_text_are_counted(tmp_path):
    text = TextFile(write(tmp_path, "a.csv", "id,text\n1,a\n2,\n3\n4,b\n\n5,  \n"), "text")
    assert list(read_documents(text)) == ["a", "b"]
    assert text.notes == ("3 rows without a text left out",)


def test_other_line_separators_are_part_of_a_text(tmp_path):
    words = "one\u2028two\x85three\x0cfour"
    path = write(tmp_path, "a.jsonl", json.dumps({"text": words}, ensure_ascii=False))
    assert texts_of(path) == [words]


def test_tables_of_other_encodings_offer_their_columns(tmp_path):
    rows = "id;Größe\n1;für Müller, “naïve” café\n"
    assert read_columns(write(tmp_path, "a.csv", rows.encode("cp1252"))) == ("id", "Größe")
    unclear = "id,text\n" + "1,Příliš žluťoučký kůň úpěl ďábelské ódy.\n"
    assert read_columns(write(tmp_path, "b.csv", unclear.encode("cp852"))) == ("id", "text")
    assert read_columns(write(tmp_path, "c.txt", "id,text\n")) == ()
    assert read_columns(write(tmp_path, "d.csv", b"\0\0" * 99)) == ()


def test_parquet_needs_pyarrow_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        texts_of(write(tmp_path, "a.parquet", b"PAR1"))


def test_parquet_is_read_by_its_column(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    columns = {"id": [1, 2, 3], "text": [*TEXTS, None], "more": ["a", "b", "c"]}
    parquet.write_table(arrow.table(columns), path)
    text = TextFile(path, "text")
    assert list(read_documents(text)) == TEXTS
    assert text.notes == ("1 row without a text left out",)
    assert read_columns(path) == ("text", "more")
    with pytest.raises(UserError, match=r"name its text column.*text, more"):
        texts_of(path, None)
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        texts_of(write(tmp_path, "b.parquet", b"nothing of the kind"))
