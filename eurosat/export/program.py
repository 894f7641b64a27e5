"""Programs of torch.export (.pt2): writing them, and opening them without trusting them.

``torch.export.load`` trusts its file: it unpickles sample inputs, weights and constants, loads
compiled libraries, evaluates expressions, and calls whatever function of torch the graph names. A
program is therefore checked before torch sees it, against a list of what a classifier needs;
everything else is refused.
"""

import io
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.passes import move_to_device_pass
from torch.export.pt2_archive import PT2ArchiveReader
from torch.export.pt2_archive._package import load_pt2

from eurosat.errors import ModelFileError
from eurosat.export.card import CARD_KEY, ModelCard

_MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
    r"|\.format_version|\.storage_alignment|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    rf"|data/constants/(tensor_\d+|model_constants_config\.json)|extra/{CARD_KEY}"
)
_CALLS = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)|_operator\.(getitem|add|sub|mul|floordiv)")
# Kinds of values that a node may take; others name functions, graphs or pickled objects.
_VALUES = {
    *("as_none", "as_bool", "as_bools", "as_int", "as_ints", "as_float", "as_floats", "as_string"),
    *("as_tensor", "as_tensors", "as_optional_tensor", "as_optional_tensors", "as_expr", "as_name"),
    *("as_sym_int", "as_sym_ints", "as_scalar_type", "as_memory_format", "as_layout", "as_device"),
}
_SIZE_WORDS = {"Symbol", "Integer", "Add", "Mul", "positive", "nonnegative", "integer", "True"}
# Patches in, probabilities out: the only way in which a program of this project is called.
_IN_SPEC = (
    '[1, {"type": "builtins.tuple", "context": "null", "children_spec": '
    '[{"type": "builtins.tuple", "context": "null", "children_spec": '
    '[{"type": null, "context": null, "children_spec": []}]}, '
    '{"type": "builtins.dict", "context": "[]", "children_spec": []}]}]'
)
_OUT_SPEC = '[1, {"type": null, "context": null, "children_spec": []}]'


def trace(module: nn.Module, patches: Tensor) -> ExportedProgram:
    """Trace a module for batches of any size.

    Args:
        module: Takes raw patches.
        patches: An example, shape (B, C, size, size) with B of 2 or more.

    Returns:
        The program, without what a file does not need: sample inputs, guards, and the names of
        this machine's source files.
    """
    with torch.no_grad():
        program = torch.export.export(module, (patches,), dynamic_shapes=({0: Dim("batch")},))
    for node in list(program.graph.nodes):
        # These only say that tensors lay on the CPU when the program was traced.
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            program.graph.erase_node(node)
        else:
            node.meta = {key: node.meta[key] for key in ("val", "tensor_meta") if key in node.meta}
    private = cast(Any, program)
    private._example_inputs = None
    private._guards_code = []
    private._module_call_graph = program.module_call_graph[:1]
    return program


def save_program(program: ExportedProgram, path: Path, card: ModelCard) -> None:
    """Write a program with its card."""
    with warnings.catch_warnings():
        # Torch warns of weights with the channels last, which it writes as they are.
        warnings.filterwarnings("ignore", message="No complete tensor found")
        content = io.BytesIO()  # torch ends the process where it cannot write to a full disk
        torch.export.save(program, content, extra_files={CARD_KEY: card.to_json()})
    path.write_bytes(content.getvalue())


def open_program(path: Path, device: torch.device) -> tuple[nn.Module, ModelCard]:
    """Open a program.

    Args:
        path: A ``.pt2`` file. It is checked first: it cannot run code.
        device: Where it is to run.

    Returns:
        The program as a module, and its card.

    Raises:
        ModelFileError: The file is damaged, not of this project, or holds more than a program.
    """
    content = io.BytesIO(path.read_bytes())  # what is checked is what is loaded
    try:
        reader = PT2ArchiveReader(content)
        members = reader.get_file_names()
    except Exception as error:
        raise ModelFileError(
            f"{path} is damaged or not a program of torch.export ({error})"
        ) from error
    member = f"extra/{CARD_KEY}"
    text = reader.read_string(member) if members.count(member) == 1 else None
    card = ModelCard.from_json(text, str(path))
    try:
        _check(reader, members)
        content.seek(0)
        # Not torch.export.load, which falls back to an older format that is pickled.
        program = load_pt2(content).exported_programs["model"]
        if device.type != "cpu":
            program = move_to_device_pass(program, device)
        return program.module(check_guards=False), card
    except Exception as error:
        raise ModelFileError(
            f"{path} cannot be opened ({type(error).__name__}: {error}): export the checkpoint "
            "again, with the torch that is installed here"
        ) from error


def _check(reader: PT2ArchiveReader, members: list[str]) -> None:
    """Refuse a program that could do anything but compute.

    Raises:
        ValueError: Says what is not allowed.
    """
    for name in members:
        if not _MEMBERS.fullmatch(name) or members.count(name) > 1:
            raise ValueError(f"it holds {name}, which no file of this project has")
    if reader.read_bytes("data/sample_inputs/model.pt"):
        raise ValueError("it holds pickled sample inputs")
    for name in ("weights/model_weights", "constants/model_constants"):
        config = json.loads(reader.read_string(f"data/{name}_config.json"))["config"]
        _check_strings(config)
        if any(tensor["use_pickle"] is not False for tensor in config.values()):
            raise ValueError("it holds pickled tensors")
    content = json.loads(reader.read_string("models/model.json"))
    content.pop("torch_version")
    if content.pop("guards_code"):
        raise ValueError("it holds guards, which are code")
    module = content["graph_module"]
    (call,) = module.pop("module_call_graph")
    signature = call["signature"]
    if (signature.pop("in_spec"), signature.pop("out_spec")) != (_IN_SPEC, _OUT_SPEC):
        raise ValueError("it does not take patches alone")
    if module["metadata"] or module["treespec_namedtuple_fields"]:
        raise ValueError("it holds metadata")
    for node in module["graph"]["nodes"]:
        if node["metadata"]:
            raise ValueError("a node holds metadata")
        _check_call(node["target"])
        for value in node["inputs"]:
            if not value["arg"].keys() <= _VALUES:
                raise ValueError(f"it holds a value of kind {', '.join(value['arg'])}")
    _check_strings(content)
    _check_strings(call)


def _check_call(target: str) -> None:
    match = _CALLS.fullmatch(target)
    if match is None:
        raise ValueError(f"it calls {target}, which is not an operation on tensors")
    name, overload, _ = match.groups()
    if name is not None:
        operation = getattr(getattr(torch.ops.aten, name), overload)
        if not isinstance(operation, torch._ops.OpOverload):
            raise ValueError(f"it calls {target}, which is not an operation on tensors")
        if any(argument.name == "filename" for argument in operation._schema.arguments):
            raise ValueError(f"it calls {target}, which opens files")


def _check_strings(content: Any) -> None:
    """Names must be names: torch pastes them into code, and evaluates sizes."""
    for key, text in _strings(content):
        if key == "expr_str":
            words = re.findall(r"\w+", text)
            known = all(word in _SIZE_WORDS or re.fullmatch(r"[su]?\d+", word) for word in words)
            allowed = known and re.fullmatch(r"[\w\s(),='*+-]*", text)
        else:
            allowed = re.fullmatch(r"[\w.]*", text)
        if not allowed:
            raise ValueError(f"it holds {text[:80]!r} where a name is expected")


def _strings(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string with the key that it stands under; keys stand under nothing."""
    match content:
        case str():
            yield key, content
        case list():
            for value in content:
                yield from _strings(value, key)
        case dict():
            for name, value in content.items():
                yield "", name
                yield from _strings(value, name)
