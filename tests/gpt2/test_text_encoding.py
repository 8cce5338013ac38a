"""Bytes to characters: encodings found, bad bytes dropped and counted, nothing made mojibake."""

from __future__ import annotations

import io
import os
import random

import pytest

from gpt2.errors import UserError
from gpt2.text import EncodingUnclear, TextFile, check_encoding, decode_all, read_documents
from gpt2.text import encoding as encoding_module
from gpt2.text.detection import guess_encoding
from gpt2.text.encoding import Characters

GERMAN = "Über den Bächen lag früh am Morgen dünner Nebel. Die Müllerin grüßte die Schwäne. "
ENGLISH = "Plain words, and then a café, a naïve “quote” – and on. It’s nothing but the sea. "
LANGUAGES = {
    "German": (GERMAN, ["cp1252", "mac_roman"]),
    "English": (ENGLISH, ["cp1252"]),
    "French": ("L’été, la forêt était pleine d’échos ; là, une voix répétait déjà. ", ["cp1252"]),
    "Portuguese": ("Não há razão para tanta aflição; a manhã é só nossa, avó. ", ["cp1252"]),
    "Polish": ("Zażółć gęślą jaźń. Młynarz powitał łabędzie na rzece. ", ["cp1250", "iso8859_2"]),
    "Hungarian": ("Reggel köd ült a folyó fölött; őrült, hűs, űrbéli idő. ", ["cp1250"]),
    "Lithuanian": ("Rytą virš upės tvyrojo rūkas, ir jis nuėjo į kaimą. ", ["cp1257"]),
    "Turkish": ("Sabahleyin ırmağın üzerinde sis vardı, güneş doğuyordu. ", ["cp1254"]),
    "Russian": (
        "Утром над рекой лежал туман. Мельник пошёл домой. ",
        ["cp1251", "koi8_r", "cp866"],
    ),
    "Greek": ("Το πρωί πάνω από το ποτάμι υπήρχε ομίχλη. ", ["cp1253"]),
    "Japanese": ("朝の川面には薄い霧がかかっていた。粉屋は戸を開けた。", ["cp932", "iso2022_jp"]),
    "Chinese": ("清晨的河面上有一层薄雾，磨坊主人推开门，向天鹅问好。", ["gb18030"]),
    "Korean": ("아침 강 위에는 옅은 안개가 끼어 있었다. 백조에게 인사했다. ", ["cp949"]),
}


def read(data: bytes, encoding: str | None = None) -> tuple[str, Characters]:
    characters = Characters(io.BytesIO(data), "the file", encoding)
    return "".join(characters), characters


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8"),
        ("ascii", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-32", "utf-32"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32-le", "utf-32-le"),
        ("utf-32-be", "utf-32-be"),
        ("cp1252", "cp1252"),
    ],
)
def test_the_encoding_is_found(tmp_path, encoding, found):
    words = "plain words\n" if encoding == "ascii" else "Müller, “naïve” café\n"
    file = tmp_path / "a.txt"
    file.write_bytes(words.encode(encoding))
    text = TextFile(file)
    assert list(read_documents(text)) == [words]
    assert text.encoding == found
    assert (found == "utf-8") == (text.notes == ())


@pytest.mark.parametrize(
    ("language", "encoding"),
    [(language, encoding) for language, (_, codes) in LANGUAGES.items() for encoding in codes],
)
def test_other_encodings_are_read_rightly_or_asked_for(language, encoding):
    """Never as mojibake. For these, asking is not needed, but the rule is the first of the two."""
    words = LANGUAGES[language][0]
    for count in (1, 40):
        text, characters = read((words * count).encode(encoding))
        assert text == words * count
        assert encoding.startswith("iso2022") or characters.certainty >= 0.6


def test_what_is_not_certain_is_asked_for():
    data = "Příliš žluťoučký kůň úpěl ďábelské ódy. ".encode("cp852")
    with pytest.raises(EncodingUnclear, match=r"--encoding NAME.*save it as UTF-8"):
        read(data)
    assert read(data, "cp852")[0].startswith("Příliš")


def test_an_encoding_is_found_after_any_amount_of_ascii(monkeypatch):
    monkeypatch.setattr(encoding_module, "CHUNK_BYTES", 1000)
    plain = "plain words\n" * 1000
    assert read(plain.encode() + "café".encode("cp1252"))[0] == plain + "café"
    assert read((plain + GERMAN).encode())[0] == plain + GERMAN
    text, characters = read((plain + GERMAN).encode("mac_roman"))
    assert (text, characters.encoding) == (plain + GERMAN, "mac_roman")


def test_every_way_of_cutting_the_bytes_gives_the_same(monkeypatch):
    """A character, a line end, a mark or an error may lie across two chunks."""
    words = "Grüße 天鹅\r\n🙂 “x”\r\rend\r"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be"):
        data = (words * 5).encode(encoding)
        for size in (len(data), 40, 41, 43):
            monkeypatch.setattr(encoding_module, "CHUNK_BYTES", size)
            text, characters = read(data)
            assert text == words.replace("\r\n", "\n").replace("\r", "\n") * 5
            assert characters.lost == 0


def test_a_bad_byte_costs_itself_and_is_named(monkeypatch):
    """One made a whole UTF-8 file Windows-1252, and the mojibake was trained on."""
    data = (GERMAN * 20).encode()
    choose = random.Random(0)
    for size in (1 << 20, 100):
        monkeypatch.setattr(encoding_module, "CHUNK_BYTES", size)
        for bad in (b"\xe9", b"\xff", b"\x80", b"\xc3", b"\0"):
            place = data.index(b" ", choose.randrange(len(data) // 2)) + 1
            text, characters = read(data[:place] + bad + data[place:])
            assert text == GERMAN * 20
            assert (characters.encoding, characters.lost) == ("utf-8", 1)
            assert characters.first_lost == place
            assert list(characters.notes)[-1].endswith(f"dropped; the first is byte {place:,}")


@pytest.mark.parametrize("words", ["天鹅 swans 🙂", "Grüße, süß", "plain words 🙂"])
def test_a_file_may_be_cut_within_a_character(words):
    """As `head -c` leaves it."""
    for encoding in ("utf-8", "utf-16", "utf-32"):
        data = words.encode(encoding)
        text, characters = read(data[:-1])
        assert text == words[:-1]
        assert characters.encoding == encoding
        assert 1 <= characters.lost <= 3


def test_signs_at_the_end_are_not_a_cut_character():
    assert read(b"and the sea was calm\x85\x85")[0] == "and the sea was calm……"


@pytest.mark.parametrize("order", ["le", "be"])
def test_utf_16_without_a_mark_is_found_by_its_line_breaks(order):
    """Chinese has few zero bytes, and some of them, as in U+4E00, in the other place."""
    words = "清晨的河面上有一层薄雾。\n磨坊主人推开门，向天鹅问好。\n" * 20
    text, characters = read(words.encode(f"utf-16-{order}"))
    assert (text, characters.encoding) == (words, f"utf-16-{order}")


def test_a_zero_byte_does_not_make_a_text_utf_16():
    for words in ("plain words and more ", GERMAN, "天鹅 天鹅 "):
        data = (words * 10).encode()
        for place in range(20, 60):
            text, characters = read(data[:place] + b"\0" + data[place:])
            assert characters.encoding == "utf-8"
            assert len(text) >= len(words) * 10 - 1
            assert 1 <= characters.lost <= 4


def test_a_byte_that_is_missing_in_utf_16_is_told():
    """All letters behind it would be others."""
    for words in (GERMAN * 20, "清晨的河面上有一层薄雾。\n" * 100):
        for encoding in ("utf-16-le", "utf-16-be"):
            data = ("\ufeff" + words).encode(encoding)
            assert read(data)[0] == words
            for place in (len(data) // 4, len(data) // 2 + 1):
                with pytest.raises(UserError, match="one byte too many or too few"):
                    read(data[:place] + data[place + 1 :])


def test_a_single_accent_is_a_letter_not_a_bad_byte():
    assert read(b"the caf\xe9 was closed, and the boats lay still")[0].startswith("the café was")


def test_a_file_of_two_encodings_is_refused_with_the_place(monkeypatch):
    monkeypatch.setattr(encoding_module, "CHUNK_BYTES", 1 << 12)
    first, second = (GERMAN * 400).encode(), (GERMAN * 400).encode("cp1252")
    for data, begins in ((first + second, "utf-8"), (second + first, "cp1252")):
        with pytest.raises(EncodingUnclear, match=f"begins as {begins}, but from byte") as caught:
            read(data)
        place = int(str(caught.value).split("byte ")[1].split(" ")[0].replace(",", ""))
        assert abs(place - len(data[: len(data) // 2])) < 4000
    text, characters = read(first + second, "utf-8")
    assert text.startswith(GERMAN * 400)
    assert characters.lost > 1000


def test_what_is_not_text_is_refused():
    zeros = b"some words and then" + b"\0" * 4000
    for data in (zeros, b"\x89PNG\r\n\x1a\n" + os.urandom(5000), b"\x01\x02\x03\x04\xff" * 100):
        with pytest.raises(UserError, match=r"not text|not UTF-8"):
            read(data)


def test_a_given_encoding_is_taken_as_it_is():
    assert read("Grüße".encode("cp850"), "CP850")[0] == "Grüße"
    assert read("Grüße".encode("latin-1"), "latin1")[1].encoding == "iso8859-1"
    for name in ("utf-16", "UTF_16", "utf-16-le"):
        assert read("Grüße".encode("utf-16-le"), name)[0] == "Grüße"
        assert read("Grüße".encode("utf-16"), name)[0] == "Grüße"
    assert read("Grüße".encode("utf-8-sig"), "utf8")[0] == "Grüße"
    for name in ("nonsense", "base64", "rot13", "x\0", "zlib"):
        with pytest.raises(UserError, match="no text encoding"):
            check_encoding(name)


def test_what_comes_through_a_pipe_is_read_alike():
    assert decode_all("Grüße".encode("utf-8-sig"), "x") == "Grüße"
    assert decode_all("Grüße".encode("utf-16"), "x") == "Grüße"
    assert decode_all("Привет".encode("koi8_r"), "x", usual="koi8_r") == "Привет"
    assert decode_all("Привет".encode(), "x", usual="koi8_r") == "Привет"


def test_a_guess_names_others_that_it_could_be():
    guess = guess_encoding(ENGLISH.encode("cp1252"))
    assert guess.encoding == "cp1252"
    assert guess.is_certain
    assert "cp1250" in guess.others
