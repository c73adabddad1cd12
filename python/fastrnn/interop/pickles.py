"""Pickles, read without doing what they say: an interpreter of their opcodes that makes inert objects only.

A pickle is a program: Python's own reader imports what it names and calls it. Here nothing is imported, and
of the functions that are called those of `inert.CALLS` are known, which only make data of data. Any other is
refused by its name.
"""

from __future__ import annotations

import io
import pickletools
import sys
from collections.abc import Callable, Sequence
from typing import Any

from fastrnn.interop.inert import (
    CALLS,
    COST,
    REFUSED,
    STORAGES,
    Global,
    Inert,
    Storage,
    integer,
    set_items,
)
from fastrnn.interop.tensors import Source


def load(stream: io.BytesIO, source: Source, storages: dict[str, Storage] | None = None) -> Any:
    """The object of the pickle that begins where a stream stands, and which it then stands behind.

    Parameters
    ----------
    stream : BytesIO
    source : Source
        Where the tensors' numbers are.
    storages : dict, optional
        Is given the storages that the pickle names, by their keys.

    Returns
    -------
    object
        Numbers, strings, bytes, lists (of sets too), tuples, dicts, `Global`, `Inert` and `Tensor`.

    Raises
    ------
    ValueError
        If it is no pickle, calls what is not known, or needs more memory than twice the file's size.
    """
    machine = _Machine(source, {} if storages is None else storages)
    for opcode, argument, _ in pickletools.genops(stream):
        source.spend(STEP + sys.getsizeof(argument))
        if opcode.name in _CONSTANTS:
            machine.stack.append(_CONSTANTS[opcode.name])
        elif opcode.name in _VALUES:
            machine.stack.append(argument)
        else:
            step: Callable[[Any], None] | None = getattr(machine, f"op_{opcode.name.lower()}", None)
            if step is None:
                raise ValueError(f"its pickle has an opcode {opcode.name}, which no file of weights needs")
            step(argument)
    return machine.stack.pop()


STEP = 60  # bytes that an opcode takes, without its argument: a place in a list, or some in the memo's dict

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


class _Machine:
    """A stack, and a method for each opcode that does more than to push its argument."""

    def __init__(self, source: Source, storages: dict[str, Storage]) -> None:
        self.source, self.storages = source, storages
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    # -- the stack

    def op_proto(self, argument: Any) -> None:
        """Any version: opcodes tell."""

    op_frame = op_stop = op_proto

    def op_mark(self, argument: Any) -> None:
        self.marks.append(len(self.stack))

    def op_pop(self, argument: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def op_pop_mark(self, argument: Any) -> None:
        self._since_mark()

    def op_dup(self, argument: Any) -> None:
        self.stack.append(self.stack[-1])

    def op_get(self, argument: Any) -> None:
        self.stack.append(self.memo[argument])

    op_binget = op_long_binget = op_get

    def op_put(self, argument: Any) -> None:
        self.memo[argument] = self.stack[-1]

    op_binput = op_long_binput = op_put

    def op_memoize(self, argument: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    # -- collections; sets are lists, as nothing asks what is in them

    def op_empty_list(self, argument: Any) -> None:
        self.stack.append([])

    op_empty_set = op_empty_list

    def op_empty_dict(self, argument: Any) -> None:
        self.stack.append({})

    def op_list(self, argument: Any) -> None:
        self.stack.append(self._since_mark())

    op_frozenset = op_list

    def op_tuple(self, argument: Any) -> None:
        self.stack.append((*self._since_mark(),))

    def op_tuple1(self, argument: Any) -> None:
        self._tuple(1)

    def op_tuple2(self, argument: Any) -> None:
        self._tuple(2)

    def op_tuple3(self, argument: Any) -> None:
        self._tuple(3)

    def _tuple(self, count: int) -> None:
        self.stack[-count:] = [(*self.stack[-count:],)]

    def op_dict(self, argument: Any) -> None:
        items = self._since_mark()
        self.stack.append({})
        set_items(self.stack[-1], items)

    def op_append(self, argument: Any) -> None:
        self._extend([self.stack.pop()])

    def op_appends(self, argument: Any) -> None:
        self._extend(self._since_mark())

    op_additems = op_appends

    def _extend(self, items: Sequence[Any]) -> None:
        holder = self.stack[-1]
        if isinstance(holder, Inert):  # a subclass of a list: what is in it is not weights
            return
        if type(holder) is not list:
            raise ValueError(f"its pickle appends to {type(holder).__name__}")
        holder.extend(items)

    def op_setitem(self, argument: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        set_items(self.stack[-1], [key, value])

    def op_setitems(self, argument: Any) -> None:
        items = self._since_mark()
        set_items(self.stack[-1], items)

    # -- names, objects and calls

    def op_global(self, argument: Any) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Global(module, name))

    def op_stack_global(self, argument: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("its pickle names a class by what is no string")
        self.stack.append(Global(module, name))

    def op_newobj(self, argument: Any) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(kind, Global) or not isinstance(arguments, tuple):
            raise ValueError("its pickle makes an object of what is no class")
        made = CALLS.get(kind.name)
        self.stack.append(made(self, *arguments) if made else Inert(kind.name, arguments))

    def op_newobj_ex(self, argument: Any) -> None:
        self.stack.pop()  # the arguments by name
        self.op_newobj(argument)

    def op_reduce(self, argument: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self.call(function, arguments))

    def op_obj(self, argument: Any) -> None:
        kind, *arguments = self._since_mark()
        self.stack.append(self.call(kind, (*arguments,)))

    def op_inst(self, argument: Any) -> None:
        arguments = self._since_mark()
        self.op_global(argument)
        self.stack.append(self.call(self.stack.pop(), (*arguments,)))

    def call(self, function: Any, arguments: Any) -> Any:
        """What a known function stands for."""
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise ValueError("its pickle calls what is no function by name")
        made = CALLS.get(function.name)
        if made is None:
            why = REFUSED.get(
                function.name, "which is not data; torch.save(model.state_dict(), path) needs none"
            )
            raise ValueError(f"its pickle calls {function.name!r}, {why}. Nothing was executed")
        return made(self, *arguments)

    def op_build(self, argument: Any) -> None:
        """Attributes: of tensors and collections they tell nothing that is needed."""
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, Inert):
            both = isinstance(state, tuple) and len(state) == 2  # of __dict__ and of __slots__
            for each in state if both else [state]:
                if isinstance(each, dict):
                    self.source.spend(COST * len(each))
                    made.attributes.update(each)
            made.attributes[None] = state

    def op_binpersid(self, argument: Any) -> None:
        """A storage, which is elsewhere in the file; or, in old files, the class of a module."""
        kind, *rest = self.stack.pop()
        if kind == "module":
            self.stack.append(rest[0])
            return
        storage, key, _, count, *view = rest
        if kind != "storage" or not isinstance(key, str) or any(each is not None for each in view):
            raise ValueError("it has a storage that is part of another one")
        name = storage.name.rpartition(".")[2]
        dtype = STORAGES.get(name, name)  # of others no array is made
        self.storages[key] = Storage(key, dtype, integer(count))
        self.stack.append(self.storages[key])
