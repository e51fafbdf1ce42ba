"""The rules of the layout: floors, heavy packages, lengths, no machine paths."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rct_tflite"

FLOORS = (
    ("errors", "native_output"),
    ("spec",),
    ("reference", "tflite", "energy", "emulator", "device"),
    ("training", "planning"),
    ("firmware",),
    ("export",),
    ("cli",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
TENSORFLOW_FILES = ("export/converter.py",)
DYNAMIC_IMPORTS = {"importlib.import_module", "import_module", "__import__"}
KERAS = {"keras", "tf_keras", "tensorflow_model_optimization"}

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
SOURCE_SUFFIXES = (".py", ".c", ".h", ".def", ".toml", ".ld", ".j2", ".in", ".txt", ".cmake", ".sh", ".md")
MACHINE_PATH = re.compile(r"/(?:work|root|farm|home)/|/(?:tmp)/[a-z]")


def files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    found = folder.rglob("*") if folder.is_dir() else [folder]
    return sorted(path for path in found if path.suffix in suffixes and "__pycache__" not in path.parts)


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in files(ROOT / folder, (".py",))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def absolute_name(path: Path, node: ast.ImportFrom) -> str:
    """The module of a `from` import, with leading dots resolved."""
    if node.level == 0:
        return node.module or ""
    package = path.relative_to(ROOT).parent.parts
    return ".".join((*package[: len(package) - node.level + 1], *filter(None, [node.module])))


def imports(path: Path, tree: ast.AST) -> Iterator[str]:
    """Dotted names that a file imports, anywhere in it: `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{absolute_name(path, node)}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in DYNAMIC_IMPORTS:
            yield from (str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))


def import_faults(path: Path, source: str) -> list[str]:
    """What a file of the package imports against the rules of the floors and of the heavy packages."""
    inner = path.relative_to(PACKAGE)
    room = inner.parts[0].removesuffix(".py")
    faults = []
    for name in imports(path, ast.parse(source)):
        top, *rest = name.split(".")
        if top in KERAS and room != "training":
            faults.append(f"{name}: only training/ sees Keras")
        if top == "tensorflow" and room != "training" and inner.as_posix() not in TENSORFLOW_FILES:
            faults.append(f"{name}: only training/ and {TENSORFLOW_FILES[0]} see TensorFlow")
        if top != "rct_tflite" or room not in FLOOR_OF:  # the public names directly in the package see all rooms
            continue
        if not rest or rest[0] not in FLOOR_OF:
            faults.append(f"{name}: import from the room itself")
        elif rest[0] != room and FLOOR_OF[rest[0]] >= FLOOR_OF[room]:
            faults.append(f"{name}: {rest[0]}/ is not below {room}/")
    return faults


def tf_keras_faults(source: str) -> list[str]:
    """Where a file writes `tf.keras`, which another package may switch to Keras 2."""
    tree = ast.parse(source)
    names = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    names += imports(ROOT / "any.py", tree)
    return [name for name in names if name.startswith(("tf.keras", "tensorflow.keras"))]


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without signature and docstring."""
    documented = ast.get_docstring(node) is not None
    statements = node.body[1:] if documented else node.body
    return (node.end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def c_functions(source: str) -> Iterator[tuple[int, int]]:
    """First line and length of each C function: its braces stand in the first column, .clang-format sees to it."""
    start = None
    for number, line in enumerate(source.splitlines(), 1):
        if line.rstrip() == "{":
            start = number
        elif line.startswith("}") and start is not None:
            yield start, number - start - 1
            start = None


@pytest.mark.parametrize("path", python_files("rct_tflite"), ids=name_of)
def test_imports_point_down(path):
    assert import_faults(path, path.read_text()) == []


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("spec/a.py", "from rct_tflite.energy.estimate import estimate"),
        ("spec/a.py", "from ..energy import estimate"),
        ("energy/a.py", "from rct_tflite.tflite import reader"),
        ("energy/a.py", "from rct_tflite import tflite"),
        ("energy/a.py", "import rct_tflite"),
        ("energy/a.py", "def f():\n    from ..cli.main import main"),
        ("planning/a.py", "import rct_tflite.training.layers"),
        ("cli/export.py", "import keras"),
        ("cli/export.py", "import importlib\nimportlib.import_module('keras.layers')"),
        ("export/report.py", "def f():\n    import tensorflow as tf"),
        ("firmware/a.py", "from tensorflow.lite import Interpreter"),
    ],
)
def test_a_wrong_import_is_seen(place, line):
    assert len(import_faults(PACKAGE / place, line)) == 1


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("spec/a.py", "from rct_tflite.errors import RCTError"),
        ("energy/a.py", "from ..spec.target import Target"),
        ("energy/a.py", "from .estimate import estimate"),
        ("cli/a.py", "from rct_tflite.export import converter"),
        ("export/converter.py", "import tensorflow as tf"),
        ("training/layers.py", "import keras"),
        ("__init__.py", "from rct_tflite.training.layers import Dense"),
    ],
)
def test_a_right_import_passes(place, line):
    assert import_faults(PACKAGE / place, line) == []


def test_every_room_has_a_floor():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms <= set(FLOOR_OF)


@pytest.mark.parametrize("path", python_files("rct_tflite", "models", "tools", "tests"), ids=name_of)
def test_no_tf_dot_keras(path):
    assert tf_keras_faults(path.read_text()) == []


@pytest.mark.parametrize(
    "line", ["x = tf.keras.Input(4)", "from tensorflow.keras import layers", "import tensorflow.keras"]
)
def test_tf_dot_keras_is_seen(line):
    assert tf_keras_faults(line)


def test_functions_are_short():
    long_ones = []
    for path in python_files("rct_tflite", "models", "tools"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > MAX_FUNCTION_LINES:
                long_ones.append(f"{name_of(path)}:{node.lineno} {node.name}: {body_lines(node)} lines")
    for path in files(ROOT / "firmware_templates", (".c", ".h")):
        for line, length in c_functions(path.read_text()):
            if length > MAX_FUNCTION_LINES:
                long_ones.append(f"{name_of(path)}:{line}: {length} lines")
    assert long_ones == []


def test_function_lengths_are_counted():
    function = ast.parse('def f(a,\n      b):\n    """One.\n\n    Two.\n    """\n    a = 1\n    return a').body[0]
    assert isinstance(function, ast.FunctionDef)
    assert body_lines(function) == 2
    assert list(c_functions("int f(int a)\n{\n    a++;\n    return a;\n}\n")) == [(2, 2)]


def test_files_are_short():
    sources = [
        path for folder in ("rct_tflite", "firmware_templates") for path in files(ROOT / folder, SOURCE_SUFFIXES)
    ]
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in sources}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_no_machine_paths():
    assert MACHINE_PATH.search("cd " + "/".join(["", "home", "me"]) + "/project")
    places = ("rct_tflite", "firmware_templates", "models", "tools", "tests", ".ci", "pyproject.toml", "README.md")
    sources = [path for place in places for path in files(ROOT / place, (*SOURCE_SUFFIXES, ""))]
    found = [name_of(path) for path in sources if path.is_file() and MACHINE_PATH.search(path.read_text())]
    assert found == []
