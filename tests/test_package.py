"""The package's surface: everything public is exported, and importing it is cheap."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import stroke_hub


def test_all_names_load() -> None:
    for name in stroke_hub.__all__:
        assert getattr(stroke_hub, name) is not None
    assert set(stroke_hub._HOME_OF) | {"__version__"} == set(stroke_hub.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        stroke_hub.nonsense  # noqa: B018


def test_every_module_says_what_is_public() -> None:
    for info in pkgutil.iter_modules(stroke_hub.__path__):
        module = importlib.import_module(f"stroke_hub.{info.name}")
        assert module.__doc__, info.name
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
