"""The package's surface: everything public is exported, and importing it is cheap."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import stroke_hub

MODULE_NAMES = {
    "__builtins__",
    "__cached__",
    "__doc__",
    "__file__",
    "__loader__",
    "__name__",
    "__package__",
    "__path__",
    "__spec__",
}


def test_all_names_load() -> None:
    for name in stroke_hub.__all__:
        assert getattr(stroke_hub, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        stroke_hub.nonsense  # noqa: B018


def test_what_is_public_is_what_dir_shows() -> None:
    assert dir(stroke_hub) == sorted(stroke_hub.__all__)


def test_no_room_bears_the_name_of_a_public_one() -> None:
    rooms = {info.name for info in pkgutil.iter_modules(stroke_hub.__path__) if info.ispkg}
    assert rooms & set(stroke_hub.__all__) == set()


def test_every_module_says_what_is_public() -> None:
    for info in pkgutil.walk_packages(stroke_hub.__path__, "stroke_hub."):
        module = importlib.import_module(info.name)
        assert module.__doc__, info.name
        if info.ispkg:  # a room exports nothing: names are imported from where they are defined
            assert set(vars(module)) <= {*MODULE_NAMES, *(i.name for i in pkgutil.iter_modules(module.__path__))}
            continue
        assert sorted(module.__all__, key=str) == sorted(set(module.__all__)), info.name
        for name in module.__all__:
            assert hasattr(module, name), f"{info.name}.{name}"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, stroke_hub; heavy = {'torch', 'timm', 'gradio', 'matplotlib', 'sklearn', 'pandas', 'numpy'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
