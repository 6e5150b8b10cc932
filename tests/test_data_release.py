"""The data outside a clone: the archive is the one of data/, and `raf-lite data fetch` brings it whole or
leaves nothing."""

import http.server
import io
import json
import shutil
import sys
import tarfile
import threading
import tomllib

import pytest
from conftest import ROOT

from raf_lite import _install, data_release, manifest
from raf_lite._files import sha256_file
from raf_lite.cli import main
from raf_lite.data_release import fetch_data
from raf_lite.manifest import find_data, how_to_mend, verify_manifest, write_manifest

sys.path.insert(0, str(ROOT / "tools"))  # scripts, not a package

import course  # noqa: E402
import release_data  # noqa: E402

ADDRESS = "https://github.com/somebody/raf"


# ---------------------------------------------------------------------------------------------- the archive


def test_the_record_is_that_of_data_and_of_the_address(tmp_path):
    """Red after a change of data/ or of the study's lines: `python tools/release_data.py` writes the record
    again."""
    release_data.pack(ROOT, tmp_path / "a.tar")
    record = data_release.release()
    assert record["sha256"] == sha256_file(tmp_path / "a.tar"), (
        "run python tools/release_data.py, and commit the record"
    )
    assert record["bytes"] == (tmp_path / "a.tar").stat().st_size
    before = course.record_path().read_bytes()
    assert course.write_data_url() == record["url"] and course.record_path().read_bytes() == before
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "raf_lite"
    ]
    assert course.record_path().name in patterns


def test_the_archive_gives_data_and_lesson_07s_runs_as_they_are(tmp_path):
    release_data.pack(ROOT, tmp_path / "a.tar")
    data_release.unpack(tmp_path / "a.tar", tmp_path / "there")
    assert verify_manifest(tmp_path / "there" / "data") == []
    study = ROOT / release_data.STUDY
    lines = {path.name: path.read_bytes() for path in study.iterdir() if path.suffix in (".jsonl", ".json")}
    copied = {path.name: path.read_bytes() for path in (tmp_path / "there" / release_data.STUDY).iterdir()}
    assert copied == lines and {"confirmation.jsonl", "selection.json"} <= lines.keys()


def small_repository(root):
    """A repository with nothing but a little data/, lines, a record and the line that says where it is
    published."""
    files = {
        "data/bank/a.npz": b"one" * 50_000,
        "data/bank/b/c.json": b"{}",
        "benchmarks/results/study/seeds.jsonl": b"{}\n",
        "benchmarks/results/study/report.md": b"# not needed",
        "notebooks/manifest.toml": b'repository = ""\n',
        "data/README.md": b"hello",
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "raf_lite").mkdir()
    write_manifest(root / "data", origin={"bank": "made by a test"}, licence="none", conventions={})
    return root


def test_the_archive_depends_on_the_files_alone(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    for name in "xy":
        small_repository(tmp_path / name)
    (tmp_path / "y" / "data" / "bank" / "a.npz").chmod(0o755)
    (tmp_path / "y" / "data" / "bank" / ".DS_Store").write_bytes(b"of somebody's computer")
    for name in "xy":
        release_data.pack(tmp_path / name, tmp_path / f"{name}.tar")
    assert (tmp_path / "x.tar").read_bytes() == (tmp_path / "y.tar").read_bytes()
    with tarfile.open(tmp_path / "y.tar") as tar:
        assert tar.getnames() == [
            "benchmarks/results/study/seeds.jsonl",
            "data/MANIFEST.json",
            "data/README.md",
            "data/bank/a.npz",
            "data/bank/b/c.json",
        ]
    (tmp_path / "y" / "data" / "bank" / "a.npz").write_bytes(b"changed")
    with pytest.raises(ValueError, match=r"bank/a\.npz differs from what was built\); mend it"):
        release_data.pack(tmp_path / "y", tmp_path / "z.tar")


def test_the_line_in_the_manifest_is_what_makes_the_address(tmp_path, monkeypatch, capsys):
    root = small_repository(tmp_path)
    monkeypatch.setattr(course, "NOTEBOOKS", root / "notebooks")
    monkeypatch.setattr(release_data, "ROOT", root)
    release_data.main()
    record = json.loads((root / "raf_lite" / "data_release.json").read_text())
    (archive,) = (root / "build").iterdir()
    assert (
        archive.name == f"raf_lite_data-{record['sha256'][:12]}.tar"
        and sha256_file(archive) == record["sha256"]
    )
    assert record["url"] == "" and record["bytes"] == archive.stat().st_size
    assert "its address follows from `repository`" in capsys.readouterr().out
    (root / "notebooks" / "manifest.toml").write_text(f'repository = "{ADDRESS}"\n')
    url = f"{ADDRESS}/releases/download/data-{record['sha256'][:12]}/{archive.name}"
    assert course.write_data_url() == url
    release_data.main()
    assert json.loads((root / "raf_lite" / "data_release.json").read_text()) == record | {"url": url}
    assert url in capsys.readouterr().out
    (root / "notebooks" / "manifest.toml").write_text('repository = "somewhere"\n')
    with pytest.raises(ValueError, match="write https://github.com/OWNER/NAME"):
        course.write_data_url()


# ---------------------------------------------------------------------------------------- fetched elsewhere


class Release:
    """raf_lite as pip installs it, in a working folder without data, and a server for the archive, which
    counts requests."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.archive, self.cache = folder, folder / "served.tar", folder / "cache"
        self.address, self.requests, self.cut = "", 0, False
        (folder / "repository").mkdir()
        (folder / "work").mkdir()
        release_data.pack(small_repository(folder / "repository"), self.archive)
        monkeypatch.chdir(folder / "work")
        monkeypatch.delenv("RAF_LITE_DATA", raising=False)
        monkeypatch.setenv("RAF_LITE_CACHE", str(self.cache))
        monkeypatch.setattr(_install, "__file__", str(folder / "site-packages" / "raf_lite" / "_install.py"))
        monkeypatch.setattr(manifest, "RECORD", folder / "record.json")
        self.sha256 = sha256_file(self.archive)
        self.record()

    def record(self, **changes):
        record = {
            "url": f"{self.address}/served.tar",
            "sha256": self.sha256,
            "bytes": self.archive.stat().st_size,
        }
        (self.folder / "record.json").write_text(json.dumps(record | changes))

    def serve(self):
        release = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                release.requests += 1
                content = release.archive.read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if release.cut else content)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        self.record()
        return server

    def left(self):
        """What is in the cache, below data/."""
        return [path.name for path in self.cache.glob("data/*")]


@pytest.fixture
def release(tmp_path, monkeypatch):
    release = Release(tmp_path, monkeypatch)
    server = release.serve()
    yield release
    server.shutdown()
    server.server_close()


def test_fetched_once_and_found_from_then_on(release, capsys):
    with pytest.raises(
        FileNotFoundError, match="no data folder at .*run `raf-lite data fetch`, or set RAF_LITE_DATA"
    ) as error:
        find_data()
    assert "git" not in str(error.value) and "site-packages" not in str(error.value)
    assert not release.cache.exists()  # who only looks may have a home that cannot be written to
    assert main(["data", "fetch"]) == 0
    folder = find_data()
    assert release.cache in folder.parents and f"the data are {folder}\n" in capsys.readouterr().out
    assert verify_manifest(folder) == [] and (folder / "README.md").read_text() == "hello"
    assert (folder.parent / "benchmarks" / "results" / "study" / "seeds.jsonl").is_file()
    assert release.left() == [release.sha256[:12]]  # the archive is not kept beside what came out of it
    assert fetch_data(progress=False) == folder and release.requests == 1
    assert main(["data", "verify"]) == 0 and f"{folder}: as built" in capsys.readouterr().out


@pytest.mark.parametrize("harm", ["bank/a.npz", "MANIFEST.json"])
def test_what_lost_a_file_is_mended_as_the_message_says(release, capsys, harm):
    folder = fetch_data(progress=False)
    (folder / harm).write_text("half of")
    (folder / "bank" / "more.txt").write_text("mine")
    assert main(["data", "verify"]) == (2 if harm == "MANIFEST.json" else 1)
    assert "run `raf-lite data fetch`" in "".join(capsys.readouterr())
    assert fetch_data(progress=False) == folder and verify_manifest(folder) == [] and release.requests == 2
    (folder / "bank" / ".DS_Store").write_text("harmless")
    assert fetch_data(progress=False) == folder and release.requests == 2


def test_another_version_of_the_data_gets_another_place(release):
    before = fetch_data(progress=False)
    (release.folder / "repository" / "data" / "README.md").write_text("news")
    release_data.pack(release.folder / "repository", release.archive)
    release.sha256 = sha256_file(release.archive)
    release.record()
    with pytest.raises(FileNotFoundError, match="no data folder"):
        find_data()
    assert (fetch_data(progress=False) / "README.md").read_text() == "news" and before.is_dir()


def test_a_wrong_hash_leaves_nothing(release):
    release.record(sha256="0" * 64)
    with pytest.raises(
        ValueError, match="does not have the pinned sha256 0000000000000000.* and was thrown away"
    ):
        fetch_data(progress=False)
    assert release.requests == 1 and release.left() == []


def test_a_cut_transfer_leaves_nothing_and_the_next_try_succeeds(release):
    release.cut = True
    with pytest.raises(FileNotFoundError, match="could not download .*set RAF_LITE_DATA to a local copy"):
        fetch_data(progress=False)
    assert release.requests == 1 and release.left() == []
    release.cut = False
    assert fetch_data(progress=False) == find_data()


def test_what_was_stopped_while_it_was_unpacked_is_not_taken(release, monkeypatch):
    monkeypatch.setattr(
        "raf_lite.data_release.shutil.copyfileobj", lambda *files: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        fetch_data(progress=False)
    assert release.left() == []
    with pytest.raises(FileNotFoundError, match="no data folder"):
        find_data()


def test_offline_and_unpublished_are_one_sentence(release, capsys):
    release.record(url="http://127.0.0.1:9/served.tar")
    assert main(["data", "fetch"]) == 2
    *_, said = capsys.readouterr().err.splitlines()  # pooch logs before it
    assert (
        said == "raf-lite: could not download http://127.0.0.1:9/served.tar (ConnectionError); connect to the"
        " network, or set RAF_LITE_DATA to a local copy"
    )
    release.record(url="")
    assert main(["data", "fetch"]) == 2
    assert (
        capsys.readouterr().err
        == "raf-lite: the data's release has no address yet; set RAF_LITE_DATA to the data/ folder "
        "of a clone, or to the release's archive\n"
    )
    assert release.requests == 0


def test_a_folder_that_the_environment_names(release, monkeypatch, capsys):
    mine = release.folder / "repository" / "data"
    monkeypatch.setenv("RAF_LITE_DATA", str(mine))
    assert find_data() == mine == fetch_data()
    assert capsys.readouterr().out == f"nothing to fetch: {mine} is used, since RAF_LITE_DATA names it\n"
    assert release.requests == 0
    assert how_to_mend(mine) == f"copy that folder again, or run `raf-lite data build --out {mine}`"


def test_an_archive_that_the_environment_names(release, monkeypatch):
    release.record(url="")  # it does without an address
    monkeypatch.setenv("RAF_LITE_DATA", str(release.archive))
    with pytest.raises(
        FileNotFoundError, match=r"served\.tar, which is not unpacked yet; run `raf-lite data fetch`"
    ):
        find_data()
    assert fetch_data() == find_data() and verify_manifest(find_data()) == [] and release.requests == 0
    assert release.archive.is_file()
    other = release.folder / "other.tar"
    other.write_bytes(release.archive.read_bytes() + b"x")
    monkeypatch.setenv("RAF_LITE_DATA", str(other))
    shutil.rmtree(release.cache)
    with pytest.raises(
        ValueError,
        match=r"other\.tar \(from RAF_LITE_DATA\) is not the data of this version .*unset RAF_LITE",
    ):
        fetch_data()
    assert release.left() == []


def test_an_environment_that_names_no_data_is_an_error_and_not_other_data(release, monkeypatch):
    fetch_data(progress=False)
    for path, wrong in (
        (release.folder / "gone", "is not there"),
        (release.folder / "work", "has no MANIFEST.json, so it"),
    ):
        monkeypatch.setenv("RAF_LITE_DATA", str(path))
        for call in (find_data, fetch_data):
            with pytest.raises(
                FileNotFoundError, match=f"RAF_LITE_DATA names {path}, which {wrong}.*; correct it, or unset"
            ):
                call()


def add(name, kind=tarfile.REGTYPE):
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.linkname = kind, 1 if kind == tarfile.REGTYPE else 0, "../outside"
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        add("../outside"),
        add("data/../../outside"),
        add("/tmp/raf_lite_outside"),
        add("data/link", tarfile.SYMTYPE),
        add("data/link", tarfile.LNKTYPE),
    ],
    ids=lambda e: f"{e.name} {e.type}",
)
def test_an_archive_that_would_write_elsewhere_is_refused(release, entry):
    with tarfile.open(release.archive, "a") as tar:
        tar.addfile(entry, io.BytesIO(b"x"))
    release.sha256 = sha256_file(release.archive)
    release.record()
    with pytest.raises(ValueError, match="which is no plain file below its folder, so it was not unpacked"):
        fetch_data(progress=False)
    assert release.left() == [] and not list(release.folder.rglob("outside"))


def test_an_archive_that_is_not_what_its_manifest_lists_is_refused(release):
    with tarfile.open(release.archive, "a") as tar:
        tar.addfile(add("data/bank/stray"), io.BytesIO(b"x"))
    release.sha256 = sha256_file(release.archive)
    release.record()
    with pytest.raises(
        ValueError, match=r"does not hold what its own MANIFEST\.json lists \(bank/stray is not listed\)"
    ):
        fetch_data(progress=False)
    assert release.left() == []


# ----------------------------------------------------------------------------------------------- in a clone


@pytest.fixture
def clone(release, monkeypatch):
    """The same, from a clone."""
    root = release.folder / "repository"
    (root / "tools").mkdir()
    (root / ".git").mkdir()
    for name in ("pyproject.toml", "tools/setup.sh"):
        (root / name).touch()
    monkeypatch.setattr(_install, "__file__", str(root / "raf_lite" / "_install.py"))
    return root


def test_a_clone_fetches_nothing_and_is_mended_by_git(release, clone, monkeypatch, capsys):
    assert find_data() == fetch_data() == clone / "data"
    assert (
        capsys.readouterr().out
        == f"nothing to fetch: {clone / 'data'} is used, since it belongs to this clone\n"
    )
    assert release.requests == 0
    mend = f"run `git checkout -- data` in the repository's folder, {clone}"
    assert how_to_mend(clone / "data") == mend
    (clone / "data" / "MANIFEST.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no data folder at ") as error:
        find_data()
    assert f"; {mend}, or set RAF_LITE_DATA to a data folder" in str(error.value)
    (clone / ".git").rmdir()  # as where somebody unpacked a zip of the repository
    assert how_to_mend(clone / "data") == f"copy data/ of the repository to {clone / 'data'} again"
