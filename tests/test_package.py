"""The package as such: one direction of imports, no torch where none is needed, docstrings on public names."""

import ast
import inspect
import subprocess
import sys
import types
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import orderhead

ROOT = Path(__file__).parent.parent
ROOMS = [path.parent.name for path in (ROOT / "src/orderhead").glob("*/__init__.py")]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_imports_go_one_way() -> None:
    """The contract of pyproject.toml: layers of rooms, and a report that reaches no torch."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_import_and_help_load_neither_torch_nor_numpy_and_are_quick() -> None:
    """One second of processor time, which does not depend on what else the machine is doing."""
    python(
        "import time, sys, orderhead\n"
        "from orderhead.cli import main\n"
        "assert main(['--help']) == 0 and main(['sample', '--help']) == 0\n"
        "assert not {'torch', 'numpy', 'PIL', 'scipy'} & set(sys.modules), 'heavy import'\n"
        "assert time.process_time() < 1, time.process_time()"
    )


def test_the_report_runs_without_torch() -> None:
    python("import sys, orderhead.report; assert orderhead.report.build; assert 'torch' not in sys.modules")


def test_rooms_are_reachable_after_one_import() -> None:
    python("import orderhead; assert callable(orderhead.body.official.from_state_dict)")
    assert set(orderhead._ROOMS) <= set(ROOMS)


@pytest.mark.parametrize("name", orderhead.__all__)
def test_public_names_exist_and_are_documented(name: str) -> None:
    value = getattr(orderhead, name)
    if isinstance(value, types.ModuleType) or inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value), name


@pytest.mark.parametrize("room", ROOMS)
def test_names_that_a_room_exports_are_documented(room: str) -> None:
    module = import_module(f"orderhead.{room}")
    assert module.__doc__
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{room}.{name}"


def test_type_checkers_see_what_is_imported_lazily() -> None:
    tree = ast.parse(inspect.getsource(orderhead))
    seen = {a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names}
    assert {*orderhead._HOME, *orderhead._ROOMS} <= seen
    assert {*orderhead._HOME, *orderhead._ROOMS, "__version__"} == set(orderhead.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'smaple'"):
        _ = orderhead.smaple
    assert "sample" in dir(orderhead)


def test_every_module_says_what_it_is() -> None:
    modules = (ROOT / "src/orderhead").rglob("*.py")
    assert [p for p in modules if not ast.get_docstring(ast.parse(p.read_text()))] == []


def test_pinned_versions_are_those_of_the_tests() -> None:
    """constraints.txt pins every direct dependency, and names no host."""
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert " @ " not in text
    pinned = {line.split("==")[0] for line in text.splitlines() if "==" in line}
    assert {"torch", "torchvision", "timm", "diffusers", "numpy", "tyro", "ruff", "pyright", "pytest"} <= pinned


def test_hidden_packages_look_absent_for_a_while():
    from orderhead.core.imports import hidden

    sys.modules.pop("colorsys", None)
    with hidden("colorsys", "json"):
        assert find_spec("colorsys") is None
        with pytest.raises(ImportError):
            import_module("colorsys")
        assert find_spec("json") is not None, "what is imported already stays"
    assert import_module("colorsys").rgb_to_hsv(0, 0, 0) == (0, 0, 0)


def test_the_tokenizer_drags_in_no_adapters():
    python("import sys, orderhead.body.tokenizer; assert not {'peft', 'transformers'} & set(sys.modules)")
