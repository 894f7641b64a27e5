"""What the service overrides and uses of LitServe is listed, and is what the list says."""

import ast
import importlib
import inspect
import pkgutil
import textwrap
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import eurosat.serving
from eurosat.serving.litserve_internals import OVERRIDDEN, USED, Internal

ROOT = Path(__file__).parents[2]


def owner_of(internal: Internal) -> Any:
    """The module or class that has the name."""
    try:
        return importlib.import_module(internal.owner)
    except ModuleNotFoundError:
        module, _, name = internal.owner.rpartition(".")
        return getattr(importlib.import_module(module), name)


def signature(found: Any) -> str:
    """Parameters without annotations, which look different from one Python to the next."""
    bare = inspect.signature(found)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in bare.parameters.values()
    ]
    return str(bare.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def names_of_self(cls: type) -> set[str]:
    """What a class's source reads or sets of ``self`` or ``super()``: ``app``, ``app.title``."""
    found = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls)))):
        names: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            names.insert(0, inner.attr)
            inner = inner.value
        is_super = isinstance(inner, ast.Call) and ast.unparse(inner) == "super()"
        if names and (is_super or (isinstance(inner, ast.Name) and inner.id == "self")):
            found.add(".".join(names))
    return found


def methods(cls: type) -> set[str]:
    """What a class's source defines."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def litserve_bases(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "litserve"]


def modules() -> list[Any]:
    return [
        importlib.import_module(f"eurosat.serving.{module.name}")
        for module in pkgutil.iter_modules(eurosat.serving.__path__)
    ]


def subclasses() -> list[type]:
    """The service's classes that derive from LitServe's."""
    found = [
        item
        for module in modules()
        for item in vars(module).values()
        if inspect.isclass(item) and item.__module__ == module.__name__ and litserve_bases(item)
    ]
    assert {cls.__name__ for cls in found} >= {"Server", "ClassifierAPI", "GreedyBatchLoop"}
    return found


@pytest.mark.parametrize("internal", OVERRIDDEN + USED, ids=lambda internal: internal.name)
def test_litserve_still_has_the_name_as_it_was(internal: Internal) -> None:
    owner = owner_of(internal)
    where = f"{internal.owner}.{internal.name} of LitServe {version('litserve')}"
    if internal.signature is not None:
        assert hasattr(owner, internal.name), f"{where} is gone: {internal.reason}"
        assert signature(getattr(owner, internal.name)) == internal.signature, where
    elif inspect.ismodule(owner):
        assert hasattr(owner, internal.name), f"{where} is gone: {internal.reason}"
    else:
        used = set.union(*(names_of_self(base) | set(vars(base)) for base in litserve_bases(owner)))
        assert internal.name in used, f"{where} is gone: {internal.reason}"


def listed(internals: tuple[Internal, ...], base: type) -> set[str]:
    owner = f"{base.__module__}.{base.__qualname__}"
    return {internal.name for internal in internals if internal.owner == owner}


@pytest.mark.parametrize("cls", subclasses(), ids=lambda cls: cls.__name__)
def test_every_override_and_use_is_listed(cls: type) -> None:
    """``__init__`` is LitServe's documented face and needs no entry."""
    bases = litserve_bases(cls)
    theirs = set.union(*(names_of_self(base) | set(vars(base)) for base in bases))
    overridden = set.union(*(listed(OVERRIDDEN, base) for base in bases))
    used = set.union(*(listed(USED, base) for base in bases))
    own = methods(cls) - {"__init__"}
    assert own & set.union(*(set(vars(base)) for base in bases)) == overridden
    # A method that is overridden and then called as super()'s is an override.
    touched = (names_of_self(cls) & theirs) - own - {"__init__"}
    assert touched <= used
    assert not used - touched - names_of_parameters(cls), "listed, but used nowhere"


def names_of_parameters(cls: type) -> set[str]:
    """Attributes that any module of the service reads of a parameter ``lit_api``."""
    return {
        node.attr
        for module in modules()
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "lit_api"
    }


def test_every_import_from_an_inner_module_is_listed() -> None:
    imported = {
        (node.module, name.name)
        for path in (ROOT / "eurosat").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("litserve.")
        for name in node.names
    }
    assert imported <= {(internal.owner, internal.name) for internal in USED}


def test_the_bound_is_the_version_that_was_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    serve = project["optional-dependencies"]["serve"]
    assert f"litserve=={version('litserve')}" in serve
