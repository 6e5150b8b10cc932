"""What `import raf_lite` and its rooms' faces offer: light, the same for editors, and all that lessons and
examples need."""

import ast
import doctest
import importlib
import re
import subprocess
import sys

import pytest
from conftest import ROOT

import raf_lite

PATTERNS = ("notebooks/sources/*.py", "examples/*.py", "examples/*.md", "*.md", "docs/*.md")
TEXTS = sorted(path.relative_to(ROOT).as_posix() for pattern in PATTERNS for path in ROOT.glob(pattern))
ROOMS = sorted(path.parent.name for path in (ROOT / "raf_lite").glob("*/__init__.py"))


def run(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def code_in(name):
    """The Python in a file: all of it, or a Markdown file's blocks, one after another."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".py"):
        return [re.sub(r"^(\s*)[%!].*", r"\1pass", text, flags=re.M)]  # a notebook's magics are no Python
    blocks = re.findall(r"^```(python|pycon)\n(.*?)^```", text, re.M | re.S)
    return [
        (
            block
            if kind == "python"
            else "".join(example.source for example in doctest.DocTestParser().get_examples(block))
        )
        for kind, block in blocks
    ]


def beside_the_faces(code):
    """Imports of raf_lite in a piece of Python that do not take an offered name from a face, as (module,
    name)."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if re.match(r"raf_lite\.\w+\.", alias.name)]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "raf_lite":
            face = importlib.import_module(node.module)
            offered = getattr(face, "__all__", None) or [
                name for name in vars(face) if not name.startswith("_")
            ]
            found += [
                (node.module, alias.name)
                for alias in node.names
                if node.module.count(".") > 1 or alias.name not in offered
            ]
    return found


def test_the_package_alone_imports_nothing_heavy():
    done = run(
        "import sys, raf_lite; heavy = {'torch', 'numba', 'faiss', 'pandas', 'mediapipe', 'numpy', 'scipy',"
        " 'PIL', 'av'}; print(sorted(heavy & set(sys.modules)), [m for m in sys.modules if"
        " m.startswith('raf_lite.')])"
    )
    assert done.stdout.strip() == "[] ['raf_lite._lazy']", done.stdout + done.stderr


def test_what_the_package_offers():
    wanted = {
        "open_capture",
        "ExpressionBank",
        "RetrievalAugmentation",
        "rasterize",
        "GaussianAvatar",
        "Trainer",
        "TrainConfig",
        "encode_video",
        "setup",
        "exercise",
        "Session",
    }
    assert set(raf_lite.__all__) == wanted and wanted | {"__version__"} <= set(dir(raf_lite))
    with pytest.raises(AttributeError, match="module 'raf_lite' has no attribute 'nothing'"):
        raf_lite.nothing  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from raf_lite import nothing  # noqa: F401


def test_editors_are_told_the_same():
    stub = ast.parse((ROOT / "raf_lite" / "__init__.pyi").read_text(encoding="utf-8"))
    told = {
        alias.asname: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told.keys() == set(raf_lite.__all__)
    for name, home in told.items():
        assert getattr(raf_lite, name) is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize("room", ROOMS)
def test_a_face_has_what_it_lists(room):
    face = importlib.import_module(f"raf_lite.{room}")
    listed = getattr(face, "__all__", [])
    assert len(set(listed)) == len(listed) and set(listed) <= set(dir(face))
    assert not [
        name for name in listed if type(getattr(face, name)) is type(sys)
    ]  # a module in the place of what it holds


@pytest.mark.parametrize(
    "room, heavy",
    [
        ("captures", "pandas"),
        ("descriptors", "pandas"),
        ("bank", "torch"),
        ("training", "torch"),
        ("viewing", "pandas"),
        ("widgets", "pandas"),
        ("rig", "numpy"),
    ],
)
def test_a_face_is_light(room, heavy):
    done = run(f"import sys, raf_lite.{room}; print({heavy!r} in sys.modules)")
    assert done.stdout.strip() == "False", done.stdout + done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "raf_lite.open_capture('film.mp4')",
        "raf_lite.encode_video('film.mp4')",
        "from raf_lite.captures import check_capture",
        "from raf_lite.evaluation import evaluate",
    ],
)
def test_a_missing_extra_is_one_sentence(code, tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"no film")
    missing = (
        "import sys, os; sys.modules.update(av=None, pandas=None, torchmetrics=None, mediapipe=None); import"
        " raf_lite"
    )
    done = run(f"{missing}; os.chdir({str(tmp_path)!r}); exec({code!r})")
    assert done.returncode == 1
    assert re.fullmatch(
        r"ImportError: \w+ is not installed, which belongs to raf_lite's extra 'captures'; run .*",
        done.stderr.splitlines()[-1],
    ), done.stderr


@pytest.mark.parametrize("name", TEXTS)
def test_lessons_examples_and_texts_import_from_the_faces(name):
    assert not [wrong for code in code_in(name) for wrong in beside_the_faces(code)]


def test_an_import_beside_the_faces_is_noticed():
    assert beside_the_faces("from raf_lite.training.trainer import Trainer") == [
        ("raf_lite.training.trainer", "Trainer")
    ]
    assert beside_the_faces("if 1:\n import raf_lite.avatar.hull") == [("raf_lite.avatar.hull", "")]
    assert beside_the_faces("from raf_lite.bank import needs") == [("raf_lite.bank", "needs")]
    assert not beside_the_faces(
        "import raf_lite\nfrom raf_lite.manifest import find_data\nfrom raf_lite import Trainer, setup"
    )
    assert sum(bool(code_in(name)) for name in TEXTS if name.endswith(".md")) >= 3


def test_the_package_itself_takes_nothing_from_its_top():
    """Such an arrow would be hidden from the contracts between rooms."""
    for path in (ROOT / "raf_lite").rglob("*.py"):
        taken = [
            alias.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and node.module == "raf_lite"
            for alias in node.names
        ]
        assert not set(taken) & set(raf_lite.__all__), path
