"""What people look for in a repository says what is so: guides, policies, data card, citation, issue forms
and hosted CI."""

import ast
import json
import re
import tomllib

import numpy as np
import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import raf_lite
from raf_lite.bank import ExpressionBank
from raf_lite.captures import open_capture, pictures
from raf_lite.captures.formats import _files
from raf_lite.cli.commands import COMMANDS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [f"3.{minor}" for minor in range(30) if f"3.{minor}" in SpecifierSet(PROJECT["requires-python"])]
WORKFLOW = ".github/workflows/tests.yml"
FORMS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")
    if path.name != "config.yml"
)
GUIDES = ("CONTRIBUTING.md", "SECURITY.md", "docs/data_card.md", "data/README.md", *FORMS)
TEXTS = (
    *GUIDES,
    "CHANGELOG.md",
    "CITATION.cff",
    ".pre-commit-config.yaml",
    ".devcontainer/devcontainer.json",
    WORKFLOW,
)
# The paper, as arXiv lists it.
AUTHORS = [
    "Matan Levy",
    "Gavriel Habib",
    "Issar Tzachor",
    "Dvir Samuel",
    "Rami Ben-Ari",
    "Nir Darshan",
    "Or Litany",
    "Dani Lischinski",
]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def flat(name):
    """A text in one line, wherever it was wrapped."""
    return " ".join(read(name).split())


def make_targets():
    return set(re.findall(r"^([\w-]+):", read("Makefile"), re.M))


def wrong_command(words):
    """What is wrong with the words behind `raf-lite`, or None: each that chooses a command must be one."""
    known = [name.split() for name in COMMANDS]
    for number, word in enumerate(words):
        here = [name for name in known if name[:number] == words[:number]]
        if any(len(name) == number for name in here):
            return None
        if word not in (choices := {name[number]: None for name in here}):
            return f"no command '{word}' among {', '.join(choices)}"
    return None


def code_of(text):
    """What a Markdown text shows as code: in backticks, and the lines of indented blocks without their
    comments."""
    blocks = [line.split("  #")[0].strip() for line in re.findall(r"^ {4}(\S.*)$", text, re.M)]
    return re.findall(r"`([^`\n]+)`", text) + [
        line for line in blocks if line.startswith((".venv/", "make ", "raf-lite "))
    ]


# ---------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", TEXTS)
def test_lines_are_short(name):
    assert [line for line in read(name).splitlines() if len(line) > 130 and not line.startswith("|")] == []


def test_yaml_parses():
    files = [
        *ROOT.glob(".github/**/*.yml"),
        ROOT / ".pre-commit-config.yaml",
        ROOT / "CITATION.cff",
        ROOT / "environment.yml",
    ]
    assert len(files) >= 7
    for path in files:
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), path


@pytest.mark.parametrize("name", GUIDES)
def test_files_targets_and_commands_that_are_named_exist(name):
    installed = {
        "python",
        *PROJECT["scripts"],
        *(Requirement(r).name for r in PROJECT["optional-dependencies"]["dev"]),
    }
    for code in code_of(read(name)):
        words = [word for word in code.split() if not re.match(r"[A-Z_]+=", word)]
        for target in words[1:] if words[:1] == ["make"] else ():
            assert target in make_targets(), f"{name}: {code}"
        for k, word in enumerate(words):
            program = word.removeprefix(".venv/bin/")
            if program == "raf-lite":
                assert not wrong_command(words[k + 1 :]), f"{name}: {code}: {wrong_command(words[k + 1 :])}"
            elif program != word:
                assert program in installed, f"{name}: {code}: {program} is not installed by make setup"
            elif re.fullmatch(
                r"[\w.-]+(/[\w.-]+)*(/|\.(py|md|toml|yml|cff|json|npz))", word
            ) and not re.search("NAME|NN_", word):
                beside = [ROOT / word, (ROOT / name).parent / word, *(ROOT / "data/bank").glob(word)]
                assert any(path.exists() for path in beside), f"{name}: {word}"


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "data/README.md"])
def test_links_lead_to_files(name):
    for target in re.findall(r"\]\(([^)#]+)", read(name)):
        assert re.match("https:", target) or ((ROOT / name).parent / target).is_file(), target


def test_a_wrong_command_is_found():
    assert wrong_command(["study", "run", "PLAN"]) is None and wrong_command(["doctor"]) is None
    assert "no command 'strut'" in wrong_command(
        ["study", "strut"]
    ) and "no command 'dance'" in wrong_command(["dance"])


# --------------------------------------------------------------------------------------------------- guides


def test_names_in_the_guide_for_contributors_stand_in_files_that_it_names():
    codes = code_of(read("CONTRIBUTING.md"))
    files = [ROOT / code for code in codes if (ROOT / code).is_file() and code != "CONTRIBUTING.md"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    names = {
        code.split(".")[-1]
        for code in codes
        if re.fullmatch(r"[A-Za-z_]+(\._?\w+)?", code)
        and "NAME" not in code
        and not code.endswith((".py", ".md", ".toml", ".yml", ".json", ".cff"))
    }
    assert {
        "Parsed",
        "Source",
        "PARSERS",
        "PLANS",
        "STUDY_VARIANTS",
        "CONTROLS",
        "Augmentation",
        "may_skip",
    } <= names
    missing = [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)]
    assert missing == []


def test_the_changelog_knows_this_version():
    text = read("CHANGELOG.md")
    titles = re.findall(r"^## \[(.+?)\]", text, re.M)
    assert titles[0] == "Unreleased" and titles[1] == raf_lite.__version__
    kinds = re.findall(r"^### (.+)$", text, re.M)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_citation_has_the_eight_authors_of_the_paper():
    (paper,) = yaml.safe_load(read("CITATION.cff"))["references"]
    assert [f"{author['given-names']} {author['family-names']}" for author in paper["authors"]] == AUTHORS
    assert (
        paper["year"] == 2026
        and "2603.08645" in paper["url"]
        and {"type": "other", "value": "arXiv:2603.08645"} in paper["identifiers"]
    )


# ------------------------------------------------------------------------------------------------- security


def package_trees():
    for path in sorted((ROOT / "raf_lite").rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def test_nothing_is_unpickled_or_evaluated():
    for path, tree in package_trees():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = (
                    {node.module}
                    if isinstance(node, ast.ImportFrom)
                    else {alias.name for alias in node.names}
                )
                assert names.isdisjoint({"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}), (
                    path
                )
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load", "yaml.load"), f"{path}:{node.lineno}"
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert keywords.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"


def test_the_policy_names_all_that_is_fetched_and_its_limits():
    text, hosts, variables = read("SECURITY.md"), set(), set()
    for _, tree in package_trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name, value = node.targets[0].id, ast.unparse(node.value)
                hosts.update(re.findall(r"https://([\w.-]+)", value) if name.endswith("URL") else ())
                variables.update(re.findall(r"^'(RAF_LITE_\w+)'$", value) if name.endswith("ENV") else ())
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Model", "SourceArchive"):
                told = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                hosts.update(re.findall(r"https://([\w.-]+)", told.get("url", "")))
                variables.add(told["env"].strip("'"))
    hosts.update(re.findall(r"https://([\w.-]+)", json.loads(read("raf_lite/data_release.json"))["url"]))
    assert len(hosts) >= 2 and len(variables) >= 5
    assert [host for host in sorted(hosts) if f"`{host}`" not in text] == []
    assert [name for name in sorted(variables) if f"`{name}`" not in text] == []
    assert f"more than {pictures.MAX_PIXELS // 10**6} million pixels" in flat("SECURITY.md")
    assert f"more than {_files.MAX_ARRAY_BYTES >> 20} MiB" in flat("SECURITY.md")


# ------------------------------------------------------------------------------------------------ data card


def test_the_data_cards_counts_of_files_are_the_manifests(data_dir):
    manifest = json.loads((data_dir / "MANIFEST.json").read_text(encoding="utf-8"))
    told = {
        part.strip("`"): (int(files.replace(",", "")), int(size.replace(",", "")))
        for part, files, size in re.findall(
            r"^\| (`[\w.]+`|together) \|[^|]*\| ([\d,]+) \| ([\d,]+) \|$", read("docs/data_card.md"), re.M
        )
    }
    wanted = {}
    for part in manifest["origins"]:
        sizes = [file["bytes"] for file in manifest["files"] if file["origin"] == part]
        wanted[part] = (len(sizes), sum(sizes))
    assert told == wanted | {"together": (len(manifest["files"]), manifest["total_bytes"])}
    assert manifest["licence"].startswith("CC-BY-4.0") and "CC BY 4.0" in read("docs/data_card.md")
    assert re.search(r"commit ([0-9a-f]{40})", manifest["origins"]["mini_nersemble"])[1] in read(
        "docs/data_card.md"
    )


def test_the_data_cards_counts_of_the_bank_are_the_banks(data_dir):
    text, notes = (
        flat("docs/data_card.md"),
        json.loads((data_dir / "bank" / "bank.json").read_text(encoding="utf-8")),
    )
    bank = ExpressionBank.load(data_dir / "bank", descriptor="blendshapes")
    donors, counts = np.unique(bank.donors, return_counts=True)
    assert len(bank) == notes["rows"] and len(donors) == notes["donors"] and set(counts) == {counts[0]}
    assert f"{len(bank):,} rows, {counts[0]} of each of {len(donors)} donors" in text
    assert f"**{len(donors)} donors.**" in text
    columns = notes["descriptors"]
    assert f"{columns['blendshapes']} blendshapes, {columns['landmarks_pca']} landmark components" in text
    assert f"{len(bank.thumbnail_rows):,} rows have a thumbnail" in text


def test_the_data_cards_dead_blendshapes_are_dead(data_dir):
    from raf_lite.descriptors.mediapipe import BLENDSHAPE_NAMES

    highest = ExpressionBank.load(data_dir / "bank", descriptor="blendshapes").descriptors.max(0)
    line = re.search(r"seven never exceed 0\.01 in the bank: (.+?)\. ", flat("docs/data_card.md"))[1]
    dead = [name for name, value in zip(BLENDSHAPE_NAMES, highest, strict=True) if value <= 0.01]
    assert re.findall(r"`(\w+)`", line) == sorted(dead) and len(dead) == 7


def test_the_data_cards_captures_and_avatars_are_those_that_ship(data_dir):
    from raf_lite.avatar import GaussianAvatar

    text = flat("docs/data_card.md")

    def row(people):
        captures = [open_capture(data_dir / "mini_nersemble" / person) for person in people]
        splits = [capture.split() for capture in captures]
        told = {
            (
                len(c.sequences),
                sum(c.n_frames(s) for s in c.sequences),
                len(s.train_sequences),
                len(s.holdout_sequences),
                len(c.cross_sequences),
                sum(c.n_frames(x) for x in c.cross_sequences),
                len(c.cameras),
                len(s.train_cameras),
                len(s.holdout_cameras),
                c.fps,
            )
            for c, s in zip(captures, splits, strict=True)
        }
        (same,) = told
        return same

    sequences, frames, trained, held, crossed, crossed_frames, cameras, training, apart, fps = row(
        ("001", "002")
    )
    acted, acted_frames, *_ = row(("101", "102", "103"))
    assert (
        f"| own sequences | {sequences} ({trained} to train on, {held} held out), {frames} frames | {acted},"
        f" {acted_frames} frames |" in text
    )
    assert f"the exact answers | {crossed}, {crossed_frames} frames | none |" in text
    assert (
        f"| cameras | {cameras} ({training} to train on, {apart} held out); cross sequences 3 | 1, from the"
        " front |" in text
    )
    assert f"256x256 pixels, {fps:g} frames a second" in text
    for path in (data_dir / "checkpoints").iterdir():
        config = GaussianAvatar.load(path).provenance["config"]
        assert f"{config['gaussians']:,} Gaussians and {config['steps']:,} steps each" in text


def test_the_data_card_is_a_page_of_the_site():
    assert re.search(r"```\{toctree\}[^`]*^data_card$", read("docs/index.md"), re.M)


# ------------------------------------------------------------------------------------ issues, dev container


@pytest.mark.parametrize("name", FORMS)
def test_issue_forms_have_the_form_that_github_takes_and_ask_for_no_face(name):
    form = yaml.safe_load(read(name))
    assert form["name"] and form["description"] and form["body"]
    for part in form["body"]:
        assert part["type"] in ("markdown", "textarea", "input", "dropdown", "checkboxes")
        assert part["attributes"]["value" if part["type"] == "markdown" else "label"]
        assert part["type"] == "markdown" or re.fullmatch(r"\w+", part["id"])
    ids = [part["id"] for part in form["body"] if "id" in part]
    assert len(ids) == len(set(ids)) >= 2
    assert re.search(r"do not attach a face", form["body"][0]["attributes"]["value"])


def test_a_bug_report_says_what_is_needed():
    body = {part.get("id"): part for part in yaml.safe_load(read(".github/ISSUE_TEMPLATE/bug.yml"))["body"]}
    for part in ("doctor", "command", "happened", "expected"):
        assert body[part]["validations"]["required"] is True
    assert "`raf-lite doctor`" in body["doctor"]["attributes"]["label"]


def test_the_dev_container_has_a_python_that_is_supported_and_makes_what_there_is():
    container = json.loads(read(".devcontainer/devcontainer.json"))
    assert re.search(r"/python:(3\.\d+)\b", container["image"])[1] in PYTHONS
    program, *targets = container["postCreateCommand"].split()
    assert program == "make" and "setup" in targets and set(targets) <= make_targets()
    assert container["hostRequirements"]["cpus"] == 2
    assert {str(port) for port in container["forwardPorts"]} == container["portsAttributes"].keys()


def test_the_commit_hook_runs_the_installed_ruff():
    (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    hooks = repository["hooks"]
    assert repository["repo"] == "local" and {hook["language"] for hook in hooks} == {"system"}
    assert [hook["entry"].split()[:2] for hook in hooks] == [
        [".venv/bin/ruff", "check"],
        [".venv/bin/ruff", "format"],
    ]
    assert {"ruff", "pre-commit"} <= {Requirement(r).name for r in PROJECT["optional-dependencies"]["dev"]}


# ------------------------------------------------------------------------------------------------ hosted CI


@pytest.fixture
def jobs():
    return yaml.safe_load(read(WORKFLOW))["jobs"]


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_hosted_ci_has_every_supported_python_on_three_systems(jobs):
    matrix = jobs["matrix"]["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS and all(isinstance(python, str) for python in matrix["python"])
    assert [name.split("-")[0] for name in matrix["os"]] == ["ubuntu", "windows", "macos"]
    for job in jobs.values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/setup-python"):
                assert step["with"]["python-version"] in (*PYTHONS, "${{ matrix.python }}")


def test_hosted_ci_only_calls_what_runs_locally(jobs):
    everything = [command for job in jobs.values() for command in commands(job)]
    assert "python tools/matrix.py --here" in everything and {"make test", "make lint"} <= set(everything)
    for command in everything:
        for script in re.findall(r"\btools/\w+\.py", command):
            assert (ROOT / script).is_file(), script
        for target in re.findall(r"\bmake ([\w-]+)", command):
            assert target in make_targets()
        for extras in re.findall(r"-e \"\.\[(.+)\]\"", command):
            assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
        alone = command.partition("--no-deps ")[2]
        assert not alone or re.search(rf"--no-deps {re.escape(alone)}( |$)", read("tools/setup.sh"), re.M)


def test_hosted_ci_may_only_read_ends_and_pins_its_actions(jobs):
    workflow = yaml.safe_load(read(WORKFLOW))
    assert (
        workflow["permissions"] == {"contents": "read"}
        and workflow["concurrency"]["cancel-in-progress"] is True
    )
    assert len(workflow[True]["schedule"]) == 1  # YAML 1.1 reads `on` as true
    for job in jobs.values():
        assert 0 < job["timeout-minutes"] <= 90 and "permissions" not in job
        for step in job["steps"]:
            assert "uses" not in step or re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])
