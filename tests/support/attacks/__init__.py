"""What strangers may send, as a table: a name, how it is sent, what must come back."""

from __future__ import annotations

from tests.support.attacks import controls, files, page, protocol, texts
from tests.support.attacks.table import Attack

ATTACKS: tuple[Attack, ...] = (
    *texts.attacks(),
    *controls.attacks(),
    *files.attacks(),
    *protocol.attacks(),
    *page.attacks(),
)
