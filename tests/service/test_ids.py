"""Ids that cannot be guessed, and everything that is not an id."""

from __future__ import annotations

import hashlib

import pytest

from service.ids import digest, find_id, is_id, new_id


def test_ids_are_random_and_of_one_form():
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_id(one) and len(bytes.fromhex(one)) == 16 for one in ids)


@pytest.mark.parametrize(
    "value",
    [None, 5, True, [], "", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0" * 32 + "\n", b"0" * 32],
)
def test_what_is_no_id(value):
    assert not is_id(value)
    assert find_id(value, ["0" * 32]) is None
    assert digest(value) is None


def test_a_known_id_is_found_among_many():
    ids = [new_id() for _ in range(50)]
    assert [find_id(one, ids) for one in ids] == ids
    assert find_id(new_id(), ids) is None


def test_only_the_digest_of_a_visitor_is_kept():
    owner = "0123456789abcdef" * 2
    assert digest(owner) == hashlib.sha256(owner.encode()).hexdigest()
