"""Reads pickles in time and memory that grow with their bytes, and calls only what is named beforehand.

The opcodes are those of `torch.load(weights_only=True)`, and those of later protocols that do the same. There are none
that copy the top of the stack, claim a size of their own, or contain numbers as text.
"""

from __future__ import annotations

import gc
import reprlib
import struct
from collections import OrderedDict
from collections.abc import Callable, Sized
from typing import Any, BinaryIO, ClassVar

MOST_BYTES = 2**26
"""Largest pickle. That of ResNet-1202 with an optimizer's state has 4 MB."""

_MOST_OBJECTS = 2**20  # on the stack or copied by a call; ResNet-1202's weights, their average, and Adam have 990,113
_MOST_LINE = 1000
_MOST_NAME = 100
_MOST_IN_KEY = 16
_TUPLE_AS_KEY = 1000  # objects that it counts for: their hashes can be made to collide
_MOST_LONG = 2**31  # likewise those of longer integers
_short = reprlib.Repr()
_short.maxlevel = 2


class Inert:
    """Stands for something that is not known, and for all that a pickle makes of it; nothing is ever run.

    Attributes:
        name: What the pickle names, e.g. `argparse.Namespace`; a long name is cut.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name[:_MOST_NAME]


_KEYS = (str, int, float, bool, bytes, type(None), Inert)


def shown(value: Any) -> str:
    """Returns what a message shows of an object of any size."""
    return _short.repr(value)


def check_key(key: Any) -> None:
    """Checks what a dictionary is to hash: the hash of nested tuples takes any time.

    Raises:
        ValueError: It is not a text, a number, an `Inert`, or a tuple of a few of them.
    """
    parts = key[: _MOST_IN_KEY + 1] if type(key) is tuple else (key,)
    known = all(type(part) in _KEYS and (type(part) is not int or abs(part) < _MOST_LONG) for part in parts)
    if len(parts) > _MOST_IN_KEY or not known:
        raise ValueError(f"it has a key that is neither text nor a number: {shown(key)}")


class BoundedUnpickler:
    """Interpreter of one pickle.

    Args:
        file: The pickle begins at its position; afterwards, it is at the pickle's end.
        size: Bytes from there to the end of the file.

    Raises:
        ValueError: In `load`, that the pickle is malformed, has an opcode that is not known, more than 2^20 objects, or
            something as the key of a dictionary that is neither a text nor a number nor a few of them.
        EOFError: In `load`, that it is truncated.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left, self._objects = file, min(size, MOST_BYTES), _MOST_OBJECTS
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._callable: dict[int, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Returns what a name of the pickle stands for, which the pickle may call; or an `Inert`."""
        raise NotImplementedError

    def persistent_load(self, identity: Any) -> Any:
        """Returns the object outside the pickle that `identity` refers to; by default there is none."""
        raise ValueError("it refers to an object outside the pickle")

    def build(self, instance: Any, state: Any) -> None:
        """Sets the state of an object; by default nothing has any, and the attributes of a dictionary are ignored."""
        if not isinstance(instance, (OrderedDict, Inert)):
            raise ValueError("it sets the state of a part of a tensor")

    def load(self) -> Any:
        """Returns the object in the pickle."""
        collecting = gc.isenabled()
        gc.disable()  # a look at all objects every few thousand would take half of the time
        try:
            return self._run()
        finally:
            if collecting:
                gc.enable()

    def _run(self) -> Any:
        read, operations = self._file.read, self._OPERATIONS
        while True:
            # As in `_bytes` and `get`, without their calls: it is done a million times.
            opcode = read(1) if self._left > 0 else b""
            self._left -= 1
            if opcode in operations:
                operations[opcode](self)
            elif opcode == b".":
                return self._pop()
            elif not opcode:
                raise EOFError("it ends before its last opcode")
            else:
                raise ValueError(f"it has the opcode {opcode!r}, which no tensor needs")

    def _bytes(self, count: int) -> bytes:
        if count > self._left:
            raise EOFError("it ends within a value")
        self._left -= count
        content = self._file.read(count)
        if len(content) != count:
            raise EOFError("it ends within a value")
        return content

    def _number(self, width: int) -> int:
        return int.from_bytes(self._bytes(width), "little")

    def _line(self) -> str:
        line = self._file.readline(min(_MOST_LINE, self._left))
        self._left -= len(line)
        if not line.endswith(b"\n"):
            raise EOFError("it ends within a line")
        return line[:-1].decode()

    def _charge(self, count: int) -> None:
        self._objects -= count
        if self._objects < 0:
            raise ValueError(f"it has more than {_MOST_OBJECTS:,} objects")

    def _push(self, value: Any) -> None:
        self._objects -= 1
        if self._objects < 0:
            self._charge(0)
        self._stack.append(value)

    def _pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError("it takes an object where there is none")
        return self._stack.pop()

    def _top(self, *types: type) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0) or type(self._stack[-1]) not in (*types, Inert):
            raise ValueError("it adds to what is no collection")
        return self._stack[-1]

    def _marked(self) -> list[Any]:
        if not self._marks:
            raise ValueError("it has an end of a collection without a beginning")
        start = self._marks.pop()
        found = self._stack[start:]
        del self._stack[start:]
        return found

    def _mark(self) -> None:
        self._charge(1)
        self._marks.append(len(self._stack))

    def _proto(self) -> None:
        if self._number(1) > 5:
            raise ValueError("its protocol is not known")

    def _frame(self) -> None:
        self._bytes(8)

    def _signed(self) -> None:
        self._push(int.from_bytes(self._bytes(4), "little", signed=True))

    def _long(self) -> None:
        self._push(int.from_bytes(self._bytes(self._number(1)), "little", signed=True))

    def _float(self) -> None:
        self._push(struct.unpack(">d", self._bytes(8))[0])

    def _text(self, width: int) -> None:
        self._push(str(self._bytes(self._number(width)), "utf-8", "surrogatepass"))

    def _tuple(self, count: int) -> None:
        start = len(self._stack) - count
        if start < (self._marks[-1] if self._marks else 0):
            raise ValueError("it takes an object where there is none")
        items = tuple(self._stack[start:])
        del self._stack[start:]
        self._push(items)

    def _marked_tuple(self) -> None:
        self._push(tuple(self._marked()))

    def _append(self) -> None:
        value = self._pop()
        self._extend([value])

    def _appends(self) -> None:
        self._extend(self._marked())

    def _extend(self, values: list[Any]) -> None:
        into = self._top(list)
        if not isinstance(into, Inert):
            into.extend(values)

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._update([key, value])

    def _set_items(self) -> None:
        self._update(self._marked())

    def _update(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise ValueError("it has a key without a value")
        into = self._top(dict, OrderedDict)
        if isinstance(into, Inert):
            return
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._check_key(key)
            into[key] = value

    def _add_items(self) -> None:
        values = self._marked()
        into = self._top(set)
        for value in values if isinstance(into, set) else ():
            self._check_key(value)
            into.add(value)

    def _check_key(self, key: Any) -> None:
        if type(key) is tuple:
            self._charge(_TUPLE_AS_KEY)
        check_key(key)

    def _global(self) -> None:
        module, name = self._line(), self._line()
        self._push(self._found(module, name))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise ValueError("it has a name that is no text")
        self._push(self._found(module, name))

    def _instance(self) -> None:
        self._push_inert(self.find_class(self._line(), self._line()), self._marked())

    def _object(self) -> None:
        made, *arguments = self._marked() or [None]
        self._push_inert(made, arguments)

    def _push_inert(self, made: Any, arguments: list[Any]) -> None:
        """Pushes what an older opcode makes of something that is not known; nothing else is made so."""
        if not isinstance(made, Inert):
            raise ValueError(f"it makes an object of {len(arguments)} arguments, which no tensor needs")
        self._push(Inert(made.name))

    def _found(self, module: str, name: str) -> Any:
        found = self.find_class(module, name)
        self._callable[id(found)] = found
        return found

    def _call(self) -> None:
        arguments, function = self._pop(), self._pop()
        if isinstance(function, Inert):
            self._push(Inert(function.name))
            return
        if self._callable.get(id(function)) is not function or not callable(function) or type(arguments) is not tuple:
            raise ValueError("it calls what is no function")
        # A call may copy what it is given, and the same can be given to any number of calls.
        self._charge(len(arguments) + sum(len(each) for each in arguments if isinstance(each, Sized)))
        self._push(function(*arguments))

    def _call_with_names(self) -> None:
        names, _, function = self._pop(), self._pop(), self._pop()
        self._push_inert(function, [names])

    def _build(self) -> None:
        state = self._pop()
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError("it sets the state of nothing")
        if isinstance(state, Sized):
            self._charge(len(state))
        self.build(self._stack[-1], state)

    def _persistent(self) -> None:
        self._push(self.persistent_load(self._pop()))

    def _get(self, width: int) -> None:
        index = self._number(width)
        if index not in self._memo:
            raise ValueError("it refers to an object that is not there")
        self._push(self._memo[index])

    def _put(self, index: int) -> None:
        if not self._stack:
            raise ValueError("it keeps an object where there is none")
        self._charge(1)
        self._memo[index] = self._stack[-1]

    _OPERATIONS: ClassVar[dict[bytes, Callable[[BoundedUnpickler], None]]] = {
        b"\x80": _proto,
        b"\x95": _frame,
        b"(": _mark,
        b"N": lambda self: self._push(None),
        b"\x88": lambda self: self._push(True),
        b"\x89": lambda self: self._push(False),
        b"K": lambda self: self._push(self._number(1)),
        b"M": lambda self: self._push(self._number(2)),
        b"J": _signed,
        b"\x8a": _long,
        b"G": _float,
        b"U": lambda self: self._text(1),  # of Python 2, as the next one
        b"T": lambda self: self._text(4),
        b"\x8c": lambda self: self._text(1),
        b"X": lambda self: self._text(4),
        b"\x8d": lambda self: self._text(8),
        b"C": lambda self: self._push(self._bytes(self._number(1))),
        b"B": lambda self: self._push(self._bytes(self._number(4))),
        b"\x8e": lambda self: self._push(self._bytes(self._number(8))),
        b")": lambda self: self._push(()),
        b"\x85": lambda self: self._tuple(1),
        b"\x86": lambda self: self._tuple(2),
        b"\x87": lambda self: self._tuple(3),
        b"t": _marked_tuple,
        b"]": lambda self: self._push([]),
        b"a": _append,
        b"e": _appends,
        b"}": lambda self: self._push({}),
        b"s": _set_item,
        b"u": _set_items,
        b"\x8f": lambda self: self._push(set()),
        b"\x90": _add_items,
        b"c": _global,
        b"\x93": _stack_global,
        b"i": _instance,
        b"o": _object,
        b"R": _call,
        b"\x81": _call,
        b"\x92": _call_with_names,
        b"b": _build,
        b"Q": _persistent,
        b"h": lambda self: self._get(1),
        b"j": lambda self: self._get(4),
        b"q": lambda self: self._put(self._number(1)),
        b"r": lambda self: self._put(self._number(4)),
        b"\x94": lambda self: self._put(len(self._memo)),
    }
