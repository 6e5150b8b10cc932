"""The project's own files agree with each other."""

import ast
import subprocess
import sys
import tomllib

from conftest import ROOT
from packaging.requirements import Requirement

import raf_lite


def requirements():
    """pyproject.toml's [project], and all that its core and its extras ask for, but for a GPU."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [needs for extra, needs in project["optional-dependencies"].items() if extra != "gpu"]
    return project, {r for r in sum(extras, project["dependencies"]) if not r.startswith("raf_lite[")}


def test_environment_yml_says_the_same_as_pyproject():
    lines = (ROOT / "environment.yml").read_text().splitlines()
    pip = {line.strip()[2:] for line in lines[lines.index("  - pip:") + 1:]} - {"-e ."}
    project, wanted = requirements()
    assert pip == wanted
    assert f"  - python{project['requires-python']}" in lines


def test_version_is_one():
    project, _ = requirements()
    assert project["version"] == raf_lite.__version__
    assert f"version: {raf_lite.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_every_import_of_the_package_is_declared():
    declared = {Requirement(r).name.lower().replace("-", "_") for r in requirements()[1]} | {"gsplat"}
    modules = {"pil": "pillow", "faiss": "faiss_cpu", "flip_evaluator": "flip_evaluator"}
    imported = set()
    for path in (ROOT / "raf_lite").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else \
                [node.module] if isinstance(node, ast.ImportFrom) else []
            imported.update(name.split(".")[0].lower() for name in names)
    foreign = {modules.get(n, n) for n in imported if n not in sys.stdlib_module_names and n not in ("raf_lite", "__future__")}
    assert foreign <= declared, f"not declared: {sorted(foreign - declared)}"


def test_the_package_imports_without_mediapipe_gsplat_or_a_notebook():
    code = ("import sys; sys.modules.update(dict.fromkeys(('mediapipe', 'gsplat', 'cv2', 'IPython'))); "
            "import raf_lite.captures, raf_lite.descriptors, raf_lite.bank, raf_lite.retrieval, raf_lite.splatting, "
            "raf_lite.avatar, raf_lite.training")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_ci_runs_make_test_and_readme_names_both_commands():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme and "make test" in readme
