"""The package as a whole: types, program, examples."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import ferroflow

PYTHON = ROOT / "python"


def run(*command: str, cwd: Path = ROOT, **more: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done  # type: ignore[no-any-return]


def test_everything_is_documented() -> None:
    for name in ferroflow.__all__:
        thing = getattr(ferroflow, name)
        assert thing.__doc__, name
        for method in vars(thing) if isinstance(thing, type) else ():
            assert method.startswith("_") or getattr(thing, method).__doc__, f"{name}.{method}"


def test_types() -> None:
    pytest.importorskip("mypy")
    run(sys.executable, "-m", "mypy.stubtest", "ferroflow", cwd=PYTHON)
    run(sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "src", "tests", cwd=PYTHON)


def test_the_program(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("ferroflow")
    for command in ([str(program)], [sys.executable, "-m", "ferroflow"]):
        assert run(*command, "--version").stdout.strip() == f"ferroflow {ferroflow.__version__}"
        wrong = subprocess.run([*command, "estimat"], capture_output=True, text=True)
        assert wrong.returncode == 2 and "estimate" in wrong.stderr
    frames = [f"examples/bunny{i}.jpg" for i in (1, 2)]
    out = tmp_path / "flow.flo"
    assert "rill" in run(str(program), "estimate", *frames, "-o", str(out)).stderr
    assert ferroflow.read_flow(out).shape[2] == 2


def test_the_program_needs_no_numpy() -> None:
    # NumPy would start threads before the program can block the signals that it listens to.
    run(sys.executable, "-c", "import ferroflow, sys; assert 'numpy' not in sys.modules")


@pytest.mark.parametrize("example", sorted((ROOT / "examples" / "python").glob("*.py")), ids=lambda path: path.stem)
def test_examples(example: Path, tmp_path: Path) -> None:
    for module in ("cv2", "torch"):
        if f"import {module}" in example.read_text():
            pytest.importorskip(module)
    run(sys.executable, str(example), cwd=tmp_path)
