"""A reader of pickle streams that runs nothing: it follows the opcodes that plain data needs and
keeps globals as names. Calls are answered by a table of known constructors; any other global, and
any other opcode, is a ValueError that names it.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any


@dataclass(frozen=True)
class Global:
    """A reference to a Python object by name; never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class _Mark:
    pass


_MARK = _Mark()
_PLAIN = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}


class Reader:
    """Reads one pickle after another from a stream.

    `calls` answers the calls of globals: "module.name" -> function of the call's arguments.
    `known` are globals that may stand alone (types that are passed as values).
    `persistent` resolves persistent ids.
    """

    def __init__(
        self,
        calls: Mapping[str, Callable[..., Any]],
        known: frozenset[str],
        persistent: Callable[[Any], Any],
    ) -> None:
        self._calls = calls
        self._known = known
        self._persistent = persistent

    def read(self, stream: IO[bytes]) -> Any:
        """The object of the pickle that begins at the stream's position."""
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "STOP":
                    return self._pop()
                self._step(opcode.name, argument)
        except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"the pickle is damaged ({type(error).__name__}: {error})") from error
        raise ValueError("the pickle is truncated")

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("the pickle is damaged (a mark where a value was expected)")
        return value

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                items = self._stack[index + 1 :]
                del self._stack[index:]
                return items
        raise ValueError("the pickle is damaged (no mark)")

    def _global(self, name: Global) -> Global:
        if str(name) not in self._calls and str(name) not in self._known:
            raise ValueError(
                f"the file asks for the Python object {name}, which is not part of a plain state "
                "dict; nothing was executed. Save it with torch.save(model.state_dict(), path)"
            )
        return name

    def _step(self, op: str, argument: Any) -> None:
        stack = self._stack
        if op in _PLAIN:
            stack.append(argument)
        elif op in _CONSTANTS:
            stack.append(_CONSTANTS[op]())
        elif op in ("PROTO", "FRAME"):
            pass
        elif op == "MARK":
            stack.append(_MARK)
        elif op in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif op == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif op in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif op in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(op[-1])
            items = [self._pop() for _ in range(count)]
            stack.append(tuple(reversed(items)))
        elif op in ("TUPLE", "LIST"):
            items = self._pop_to_mark()
            stack.append(tuple(items) if op == "TUPLE" else items)
        elif op == "DICT":
            items = self._pop_to_mark()
            stack.append(dict(zip(items[::2], items[1::2], strict=True)))
        elif op in ("APPEND", "APPENDS"):
            items = [self._pop()] if op == "APPEND" else self._pop_to_mark()
            self._top(list).extend(items)
        elif op in ("SETITEM", "SETITEMS"):
            items = self._pop_to_mark() if op == "SETITEMS" else [self._pop(), self._pop()][::-1]
            self._top(dict).update(zip(items[::2], items[1::2], strict=True))
        elif op == "POP":
            stack.pop()
        elif op == "GLOBAL":
            module, _, name = argument.partition(" ")
            stack.append(self._global(Global(module, name)))
        elif op == "STACK_GLOBAL":
            name, module = self._pop(), self._pop()
            stack.append(self._global(Global(str(module), str(name))))
        elif op in ("REDUCE", "NEWOBJ"):
            self._call()
        elif op == "BINPERSID":
            stack.append(self._persistent(self._pop()))
        elif op == "BUILD":
            self._pop()  # attributes of an OrderedDict (`_metadata`): not data
            self._top(dict)
        else:
            raise ValueError(
                f"the pickle uses the opcode {op}, which no plain state dict needs; nothing was "
                "executed"
            )

    def _top(self, kind: type) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise ValueError(f"the pickle is damaged (a {kind.__name__} was expected)")
        return self._stack[-1]

    def _call(self) -> None:
        arguments, target = self._pop(), self._pop()
        if not isinstance(target, Global) or not isinstance(arguments, tuple):
            raise ValueError("the pickle calls something that is no global; nothing was executed")
        if str(target) not in self._calls:
            raise ValueError(f"the pickle calls {target}, which is only a type there")
        self._stack.append(self._calls[str(target)](*arguments))
