"""Mailrace as somebody installs it: a wheel, in a virtual environment of its own, far from the checkout."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import shutil
import site
import subprocess
import sys
import zipfile

from tests.support.program import ROOT

NOBODY = 65534


def readable_python() -> str | None:
    """An interpreter of this version that every user may run: that of the tests may lie in root's own folder."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (os.path.realpath(sys.executable), f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        test = ["-c", "import ssl, sqlite3, ctypes"]
        if pathlib.Path(path).exists():
            try:
                done = subprocess.run([path, *test], user=NOBODY, group=NOBODY, extra_groups=[], check=False)
            except PermissionError:
                continue
            if done.returncode == 0:
                return path
    return None


def build(folder: pathlib.Path) -> pathlib.Path:
    """The wheel."""
    source = folder / "source"  # a build leaves things behind
    wanted = ("settings", "operators", "pipeline", "gui")
    source.mkdir()
    for name in wanted:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mailrace.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    able = int(importlib.metadata.version("setuptools").partition(".")[0]) >= 77
    how = ["--no-build-isolation"] if able else []
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        *how,
        "--wheel-dir",
        str(folder),
        str(source),
    ]
    subprocess.run(command, check=True, timeout=300)
    return next(folder.glob("mailrace-*.whl"))


def install(wheel: pathlib.Path, folder: pathlib.Path, python: str) -> pathlib.Path:
    """A virtual environment with the wheel; what it depends on comes from that of the tests. Returns the command."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    script = folder / "bin" / "mailrace"
    script.write_text(f"#!{folder}/bin/python\nimport sys\nfrom mailrace import main\nsys.exit(main())\n")
    script.chmod(0o755)
    return script
