"""Doors: what other programs wrote comes in as a model folder, and a model folder goes out to them.

One module a format, each with one table of names. `incoming` finds out what a source is and writes
the folder; `outgoing` writes what `--to` names.
"""
