"""Atomic writes, hashes, pinned downloads."""

import functools
import hashlib
import http.server
import threading

import numpy as np
import pytest

from raf_lite._download import fetch
from raf_lite._files import atomic_path, read_npz, sha256_file, write_json, write_npz


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(RuntimeError), atomic_path(path) as tmp:
        tmp.write_text("half")
        raise RuntimeError("killed")
    assert path.read_text() == '{\n "x": 1\n}\n' and list(tmp_path.iterdir()) == [path]


def test_npz_refuses_what_would_need_pickle(tmp_path):
    with pytest.raises(ValueError, match="field 'b' is an object array"):
        write_npz(tmp_path / "a.npz", a=np.zeros(2), b=np.array([{}, None]))
    assert not (tmp_path / "a.npz").exists()


@pytest.fixture
def stored(tmp_path):
    write_npz(tmp_path / "a.npz", x=np.arange(3), y=np.ones((2, 2), np.float16), name=np.array("b"))
    return tmp_path / "a.npz"


def test_an_npz_is_read_by_field(stored):
    found = read_npz(stored, ("y", "x"), optional=("z", "name"))
    assert list(found) == ["y", "x", "name"] and found["y"].dtype == np.float16 and found["name"] == "b"
    np.testing.assert_array_equal(found["x"], [0, 1, 2])
    assert set(read_npz(stored)) == {"x", "y", "name"}


def test_what_is_wrong_with_an_npz_is_named_with_its_field_and_the_mend(stored):
    with pytest.raises(ValueError, match=r"a\.npz has no array 'z'; ask again$"):
        read_npz(stored, ("x", "z"), mend="ask again")
    with pytest.raises(FileNotFoundError, match=r"there is no .*none\.npz; ask again$"):
        read_npz(stored.with_name("none.npz"), mend="ask again")
    with pytest.raises(
        ValueError, match=r"a\.npz: the array 'x' would unpack to 152 bytes, not 151 at most; ask again$"
    ):
        read_npz(stored, mend="ask again", most_bytes=151)
    assert len(read_npz(stored, most_bytes=152)) == 3
    np.savez(stored, x=np.zeros(2), y=np.array([{}, None]))
    assert len(read_npz(stored, ("x",))) == 1
    with pytest.raises(
        ValueError, match=r"a\.npz: the array 'y' holds object where numbers or text belong; ask again$"
    ):
        read_npz(stored, mend="ask again")


def test_damage_anywhere_in_an_npz_is_one_kind_of_error(stored):
    whole = stored.read_bytes()
    with stored.open("wb") as file:
        np.save(file, np.zeros(3))  # an npy under the name of an npz
    damaged = [stored.read_bytes(), b"", b"no zip", b"PK\x03\x04 broken", whole[:-1], b"x" + whole]
    damaged += [whole[:at] + bytes([byte ^ 255]) + whole[at + 1 :] for at, byte in enumerate(whole)]
    refused = 0
    for data in damaged:
        stored.write_bytes(data)
        try:
            read_npz(stored, ("x", "y", "name"))
        except ValueError as error:
            assert str(error).startswith(str(stored)) and str(error).endswith("; copy or write it again")
            refused += 1
    assert refused > len(whole) / 2  # the other bytes are names' times and the like


def test_sha256_of_a_known_string(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "file.bin").write_bytes(b"payload")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "served")
    )
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/file.bin"
    httpd.shutdown()
    httpd.server_close()


DIGEST = hashlib.sha256(b"payload").hexdigest()


def test_fetch_downloads_once_and_keeps_nothing_wrong(server, tmp_path):
    path = fetch(server, DIGEST, folder=tmp_path / "cache", progress=False)
    assert path.read_bytes() == b"payload"
    (tmp_path / "served" / "file.bin").unlink()
    assert fetch(server, DIGEST, folder=tmp_path / "cache", progress=False) == path
    with pytest.raises(FileNotFoundError, match="could not download"):
        fetch(server, DIGEST, folder=tmp_path / "other", progress=False)


def test_fetch_throws_away_a_file_with_another_hash(server, tmp_path):
    with pytest.raises(ValueError, match="pinned sha256"):
        fetch(server, "0" * 64, folder=tmp_path / "cache", progress=False)
    assert not list((tmp_path / "cache").iterdir())


def test_fetch_prefers_and_checks_a_local_copy(tmp_path, monkeypatch):
    (tmp_path / "mine").write_bytes(b"payload")
    monkeypatch.setenv("RAF_TEST_COPY", str(tmp_path / "mine"))
    assert fetch("http://127.0.0.1:1/x", DIGEST, env="RAF_TEST_COPY") == tmp_path / "mine"
    with pytest.raises(ValueError, match="RAF_TEST_COPY"):
        fetch("http://127.0.0.1:1/x", "0" * 64, env="RAF_TEST_COPY")
    monkeypatch.setenv("RAF_TEST_COPY", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="unset RAF_TEST_COPY"):
        fetch("http://127.0.0.1:1/x", DIGEST, env="RAF_TEST_COPY")
