"""`make install` on a fresh copy, and what it does when something is wrong with `.venv`. Needs a package index."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What a copy needs to be installed.
PARTS = (
    "Makefile",
    "README.md",
    "LICENSE",
    "pyproject.toml",
    "requirements.lock",
    "requirements-dev.lock",
    "scripts",
    "src",
)

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh copy, installed once; each test leaves it in working order."""
    place = tmp_path_factory.mktemp("fresh") / "fieldpost"
    place.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, place / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, place / part)
    _install(place)
    yield place
    shutil.rmtree(place)


def _install(place: Path) -> str:
    """What `make install` says; it works afterwards."""
    outside = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "MAKEFLAGS"}}
    command = ["make", "-C", str(place), "install", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, capture_output=True, text=True, env=outside, timeout=600, check=False)
    assert 0 == done.returncode, done.stderr
    shown = subprocess.run(
        [place / ".venv" / "bin" / "fieldpost", "version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert 0 == shown.returncode, shown.stderr
    return done.stdout


def _without_pip(place: Path) -> None:
    shutil.rmtree(place / ".venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / ".venv"], check=True, timeout=120)


def _without_python(place: Path) -> None:
    python = place / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")


def _cut_short(place: Path) -> None:
    (place / ".venv" / ".installed").unlink()
    shutil.rmtree(next((place / ".venv").glob("lib/*/site-packages/msgspec")))
    for record in (place / ".venv").glob("lib/*/site-packages/msgspec-*"):
        shutil.rmtree(record)


def _with_another_lock(place: Path) -> None:
    lock = place / "requirements.lock"
    lock.write_text(lock.read_text() + "# another\n")


def test_an_installed_copy_is_left_alone_whatever_the_times_of_its_files(copy: Path) -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        os.utime(copy / name)

    assert "installing" not in _install(copy)


@pytest.mark.parametrize("damage", [_without_pip, _without_python, _cut_short, _with_another_lock])
def test_what_is_wrong_is_mended(copy: Path, damage: Callable[[Path], None]) -> None:
    damage(copy)

    assert "installing" in _install(copy)
    assert "installing" not in _install(copy)
