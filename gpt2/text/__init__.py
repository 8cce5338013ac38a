"""Text to documents: files in any encoding, tables, folders, pasted texts.

`places` opens what a person names, `source` reads it, `encoding` turns bytes into characters with
the help of `detection`, `tables` finds the texts in rows, `documents` parts them.
"""

from gpt2.text.encoding import CHOICES, EncodingUnclear, check_encoding, decode_all, is_binary
from gpt2.text.places import open_texts, refuse_idle
from gpt2.text.source import PastedText, Text, TextFile, kind_of, read_columns, read_documents
from gpt2.text.tables import TABLES

__all__ = [
    "CHOICES",
    "TABLES",
    "EncodingUnclear",
    "PastedText",
    "Text",
    "TextFile",
    "check_encoding",
    "decode_all",
    "is_binary",
    "kind_of",
    "open_texts",
    "read_columns",
    "read_documents",
    "refuse_idle",
]
