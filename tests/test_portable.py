"""What runs on Linux alone is kept out: encodings and line ends are named, nothing is POSIX's own, and
workers are spawned."""

from __future__ import annotations

import ast

import pytest
from conftest import ROOT

# They kill processes and limit them, for which POSIX alone has the means, and say so.
POSIX_ONLY = {"fuzz.py", "kills.py"}
FILES = sorted(
    path
    for folder in ("raf_lite", "tools", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if path.name not in POSIX_ONLY
)
POSIX_MODULES = {"crypt", "fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = {
    "fork",
    "forkpty",
    "getegid",
    "geteuid",
    "getgid",
    "getpgid",
    "getuid",
    "killpg",
    "mkfifo",
    "sched_getaffinity",
    "setsid",
    "statvfs",
    "uname",
    "wait4",
}
OTHER_OPENS = {"archive", "av", "Image", "os", "tarfile"}  # whose `open` is not of text


def faults(source: str) -> list[tuple[int, str]]:
    """(line, what is wrong) of every place in a Python file's text that another system would run otherwise,
    or not."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [(node.lineno, f"{n} is POSIX's") for n in names if n.split(".")[0] in POSIX_MODULES]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            found += [(node.lineno, f"os.{node.attr} is POSIX's")] if node.attr in POSIX_NAMES else []
        if isinstance(node, ast.Call):
            found += [(node.lineno, fault) for fault in _call_faults(node)]
    return found


def _call_faults(call: ast.Call) -> list[str]:
    method = isinstance(call.func, ast.Attribute)
    name = call.func.attr if method else getattr(call.func, "id", "")
    owner = getattr(call.func.value, "id", "") if method else ""
    named = {k.arg: k.value for k in call.keywords}
    if name in ("read_text", "write_text") and method:
        wanted = ("encoding", "newline") if name == "write_text" else ("encoding",)
        return [f"{name} names no {k}" for k in wanted if k not in named]
    if name in ("open", "fdopen", "TemporaryFile") and owner not in OTHER_OPENS:
        place = 1 if not method or owner in ("os", "io") else 0
        mode = named.get("mode", call.args[place] if len(call.args) > place else None)
        mode = mode.value if isinstance(mode, ast.Constant) else "r" if name != "TemporaryFile" else "w+b"
        if "b" in mode:
            return []
        wanted = ("encoding", "newline") if name == "open" and set(mode) & set("wax+") else ("encoding",)
        return [f"{name} of mode {mode} names no {k}" for k in wanted if k not in named]
    if name == "NamedTemporaryFile":
        return ["Windows does not open a NamedTemporaryFile again"]
    if name == "ProcessPoolExecutor" and "mp_context" not in named:
        return ["ProcessPoolExecutor names no mp_context"]
    if name == "get_context" and [getattr(a, "value", None) for a in call.args] != ["spawn"]:
        return ["workers are not spawned"]
    if (
        name in ("run", "Popen", "check_call", "check_output")
        and owner == "subprocess"
        and call.args
        and isinstance(call.args[0], ast.List)
        and call.args[0].elts
    ):
        first = getattr(call.args[0].elts[0], "value", None)
        return ["sys.executable is the Python to start"] if str(first).startswith("python") else []
    return []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_that_other_systems_run_otherwise(path):
    name = path.relative_to(ROOT).as_posix()
    found = faults(path.read_text(encoding="utf-8"))
    if name == "raf_lite/bank/index_files.py":  # it asks first whether this is Linux
        found = [(line, fault) for line, fault in found if fault != "resource is POSIX's"]
    assert not found, "\n".join(f"{name}:{line}: {fault}" for line, fault in found)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("p.read_text()", "read_text names no encoding"),
        ("p.write_text(x, encoding='utf-8')", "write_text names no newline"),
        ("open(p)", "open of mode r names no encoding"),
        ("open(p, 'a', encoding='utf-8')", "open of mode a names no newline"),
        ("p.open('w', newline='')", "open of mode w names no encoding"),
        ("(folder / x).open()", "open of mode r names no encoding"),
        ("tempfile.TemporaryFile('w+')", "TemporaryFile of mode w+ names no encoding"),
        ("tempfile.NamedTemporaryFile()", "Windows does not open a NamedTemporaryFile again"),
        ("import resource", "resource is POSIX's"),
        ("from fcntl import flock", "fcntl is POSIX's"),
        ("os.fork()", "os.fork is POSIX's"),
        ("ProcessPoolExecutor(2)", "ProcessPoolExecutor names no mp_context"),
        ("multiprocessing.get_context('fork')", "workers are not spawned"),
        ("subprocess.run(['python', '-c', x])", "sys.executable is the Python to start"),
    ],
)
def test_each_rule_finds_its_fault(source, fault):
    assert faults(source) == [(1, fault)]


@pytest.mark.parametrize(
    "source",
    [
        "p.read_text(encoding='utf-8')",
        "p.write_text(x, encoding='utf-8', newline='\\n')",
        "open(p, 'rb')",
        "open(p, mode='wb')",
        "Image.open(p)",
        "av.open(p, 'w')",
        "p.open('r+b')",
        "tempfile.TemporaryFile()",
        "import io",
        "os.getpid()",
        "open(p, 'a', newline='', encoding='utf-8')",
        "multiprocessing.get_context('spawn')",
        "subprocess.run([sys.executable, x])",
    ],
)
def test_what_runs_everywhere_is_let_through(source):
    assert not faults(source)


def test_files_are_checked_out_byte_for_byte():
    """Git for Windows would otherwise write CR LF, and the hashes of data/MANIFEST.json would not hold
    there."""
    lines = (ROOT / ".gitattributes").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["* -text"]


def test_no_two_names_that_other_systems_take_for_one_or_refuse():
    """Names of files made by us: Windows and macOS take letters of both cases for one, Windows refuses some
    characters."""
    names = [
        path.relative_to(ROOT).as_posix()
        for folder in ("raf_lite", "tools", "benchmarks", "tests", "data", "docs", "notebooks", "examples")
        for path in (ROOT / folder).rglob("*")
        if "__pycache__" not in path.parts
    ]
    assert len({name.casefold() for name in names}) == len(names) > 100
    assert not [name for name in names if set(name) & set('<>:"|?*\\') or name.endswith((" ", "."))]
    assert max(map(len, names)) < 160  # of the 260 that Windows takes, the rest being where the repository is
