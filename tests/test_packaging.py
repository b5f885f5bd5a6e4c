"""What is published: the metadata, the wheel and the sdist, and what has to agree with them before a release."""

from __future__ import annotations

import email
import email.message
import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from trove_classifiers import classifiers

from benchmarks import figure
from scripts.lock import DJANGO
from scripts.release import problems
from tests.support.packages import build
from tests.support.processes import ROOT
from wsrt import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ADDRESS = re.compile(r"^replacement = '(.*)' # the repository's address", re.MULTILINE)
SOURCES = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore")
LINK = re.compile(r'(?:\]\(|(?:href|src|srcset)=")([^)"\s]+)')
REPOSITORY = "https://forge.example/wsrt/wsrt"


def in_wheel(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder's wheel."""
    [path] = folder.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def metadata(folder: Path) -> email.message.Message:
    return email.message_from_bytes(in_wheel(folder)[f"wsrt-{__version__}.dist-info/METADATA"])


def description(folder: Path) -> str:
    """Return the description that the package index shows."""
    text = metadata(folder).get_payload(decode=True)
    assert isinstance(text, bytes)
    return text.decode()


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def code(text: str) -> list[str]:
    return re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)


def relative(text: str) -> list[str]:
    """Return the relative links of a page, apart from those in its code."""
    return [link for link in LINK.findall(without_code(text)) if not re.match(r"[a-z]+:|#", link)]


def tracked(place: str) -> set[str]:
    """Return the files of a folder that git knows, or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", place]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line for line in lines if (ROOT / line).exists()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    # Python's own extraction has another signature before 3.11.4, and warns without it from 3.12 on.
    subprocess.run(["tar", "-xzf", built / f"wsrt-{__version__}.tar.gz", "-C", folder], check=True)
    return folder / f"wsrt-{__version__}"


def with_address(address: str, folder: Path) -> Path:
    """Build a copy of this project whose pyproject.toml has an address, or none."""
    source, output = folder / "source", folder / "dist"
    shutil.copytree(ROOT / "wsrt", source / "wsrt", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    text = (ROOT / "pyproject.toml").read_text()
    assert len(ADDRESS.findall(text)) == 1
    filled = ADDRESS.sub(lambda line: line[0].replace(f"'{line[1]}'", f"'{address}'"), text)
    (source / "pyproject.toml").write_text(filled)
    build(source, output)
    return output


def test_wheel(built: Path) -> None:
    """The wheel holds the package with all its data, its metadata and the license, and nothing else."""
    about = f"wsrt-{__version__}.dist-info"
    expected = tracked("wsrt") | {f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")}
    assert set(in_wheel(built)) == expected
    for suffix in (".py", ".typed", ".html", ".js", ".css", ".ts", ".lua", ".mo"):
        assert any(name.endswith(suffix) for name in in_wheel(built)), suffix


def test_sdist(unpacked: Path) -> None:
    """The sdist holds the sources of the wheel, and nothing else."""
    found = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert found == tracked("wsrt") | {*SOURCES, "PKG-INFO"}


def test_wheel_of_the_sdist(built: Path, unpacked: Path, tmp_path: Path) -> None:
    """The wheel that is built from the sdist is that of the repository."""
    build(unpacked, tmp_path)
    assert in_wheel(tmp_path) == in_wheel(built)


def test_absolute_links(tmp_path: Path) -> None:
    """With an address, the links of the description lead to the tag: to pages, and to pictures as files."""
    readme, text = (ROOT / "README.md").read_text(), description(with_address(REPOSITORY, tmp_path))
    assert relative(text) == []
    assert code(text) == code(readme)
    links = LINK.findall(without_code(text))
    assert f"{REPOSITORY}/blob/v{__version__}/CONTRIBUTING.md" in links
    for link in relative(readme):
        kind = "raw" if link.endswith((".png", ".svg", ".webp")) else "blob"
        assert f"{REPOSITORY}/{kind}/v{__version__}/{link}" in links
    assert "REPOSITORY" not in text
    assert "HFPR" not in text


def test_relative_links(tmp_path: Path) -> None:
    """Without an address, the description is the README."""
    assert description(with_address("", tmp_path)) == (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md"])
def test_links_of_the_repository(name: str) -> None:
    """The relative links of the repository's own pages lead to its files."""
    for link in relative((ROOT / name).read_text()):
        assert (ROOT / link.partition("#")[0]).exists(), link


def test_urls() -> None:
    """The package names its places on the web exactly if the repository has an address."""
    [address] = ADDRESS.findall((ROOT / "pyproject.toml").read_text())
    wanted = {"Repository", "Documentation", "Changelog", "Issues"} if address else set()
    assert set(PROJECT.get("urls", ())) == wanted
    assert PROJECT.get("urls", {}).get("Repository", "") == address


def test_classifiers(built: Path) -> None:
    """The classifiers are known to the package index, and name the versions that CI tests."""
    named = metadata(built).get_all("Classifier") or []
    assert set(named) <= classifiers
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    tested = workflow["jobs"]["unit"]["strategy"]["matrix"]["include"]
    for kind, key in (("Programming Language :: Python", "python"), ("Framework :: Django", "django")):
        versions = {name.rpartition(" :: ")[2] for name in named if re.fullmatch(rf"{kind} :: \d+\.\d+", name)}
        assert versions == {row[key] for row in tested}, kind
    assert set(DJANGO) == {row["django"] for row in tested}
    page = (ROOT / "docs/reference/support.md").read_text()
    for version in {row[key] for row in tested for key in ("python", "django")}:
        assert re.search(rf"\b{re.escape(version)}\b", page), version


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_forge_files(path: Path) -> None:
    """The files of the forge are YAML, and workflows name a version of every action."""
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    for job in content.get("jobs", {}).values():
        for step in job["steps"]:
            assert re.search(r"@v\d+", step.get("uses", "@v1")), step


def test_changelog() -> None:
    """The changelog begins with this version; releases have dates, the newest first."""
    lines = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    headings = re.findall(r"^## (\S+) \((unreleased|\d{4}-\d\d-\d\d)\)$", "\n".join(lines), re.MULTILINE)
    assert len(headings) == len(lines)
    assert headings[0][0] == __version__
    dates = [date for _, date in headings]
    assert "unreleased" not in dates[1:]
    assert dates == sorted(dates, reverse=True)


@pytest.mark.parametrize("palette", figure.PALETTES)
def test_figure_of_the_readme(palette: str) -> None:
    """The README's figures are drawn from the kept results, and its text names their ratio."""
    drawn = figure.draw_for_readme(palette)
    assert figure.readme_figure(palette).read_text() == drawn
    text = without_code((ROOT / "README.md").read_text())
    assert set(re.findall(r"\d+ times", text)) == set(re.findall(r"\d+ times", drawn))


PACKAGE = '__version__ = "0.2.0"\n'


@pytest.mark.parametrize(
    ("tag", "changelog", "said"),
    [
        ("v0.2.0", "# Changelog\n\n## 0.2.0 (2026-03-01)\n\n## 0.1.0 (2026-01-31)\n", []),
        ("v0.2.0", "# Changelog\n\n## 0.2.0 (unreleased)\n", ["CHANGELOG.md must begin with"]),
        ("v0.2.1", "# Changelog\n\n## 0.2.1 (2026-03-01)\n", ["The tag is v0.2.1, but"]),
        ("0.2.0", "# Changelog\n\n## 0.2.0 (2026-03-01)\n", ["The tag is 0.2.0, but", "CHANGELOG.md must"]),
        ("v0.2.0", "# Changelog\n", ["CHANGELOG.md must begin with"]),
    ],
)
def test_tag(tag: str, changelog: str, said: list[str]) -> None:
    """Only a tag that is the package's version, and has a dated entry in the changelog, is published."""
    found = problems(tag, PACKAGE, changelog)
    assert [line.startswith(start) for line, start in zip(found, said, strict=True)] == [True] * len(said)
