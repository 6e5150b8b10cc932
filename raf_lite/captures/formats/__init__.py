"""Readers of the folders that other projects write, one format a file; `raf_lite.captures.open_capture`
chooses among them."""
