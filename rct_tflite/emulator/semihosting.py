"""Arm semihosting in memory: what the port's `request.bin` and `response.bin` are when no file system is there."""

import struct
from typing import Protocol

APPLICATION_EXIT = 0x20026
"""Reason of an exit that passes a code: ADP_Stopped_ApplicationExit."""

_OPEN, _CLOSE, _WRITE0, _WRITE, _READ, _FLEN = 0x01, 0x02, 0x04, 0x05, 0x06, 0x0C
_EXIT, _EXIT_EXTENDED = 0x18, 0x20
_FAILED = 0xFFFFFFFF
_FIRST_WRITE_MODE = 4  # 0 to 3 are the modes "r", "rb", "r+", "r+b" of fopen()
_FIRST_HANDLE = 1


class GuestMemory(Protocol):
    """Memory of the emulated core."""

    def read(self, address: int, size: int) -> bytes:
        """Returns bytes of the core's memory."""

    def write(self, address: int, data: bytes) -> None:
        """Changes bytes of the core's memory."""


class _File:
    def __init__(self, name: str) -> None:
        self.name = name
        self.position = 0


class Semihosting:
    """Answers semihosting calls.

    Args:
        memory: The core's memory.
        request: Content of the file `request.bin`.

    Attributes:
        files: Content of every file, by name.
        console: Text that was printed.
        exit_code: The lowest 8 bits of what the program ended with, None until it did.
    """

    def __init__(self, memory: GuestMemory, request: bytes) -> None:
        self._memory = memory
        self._open: dict[int, _File] = {}
        self.files: dict[str, bytearray] = {"request.bin": bytearray(request)}
        self.console = bytearray()
        self.exit_code: int | None = None

    def call(self, operation: int, argument: int) -> int:
        """Runs one call.

        Args:
            operation: Number of the call, from register 0.
            argument: Register 1: an address, for most calls that of a block of words.

        Returns:
            The new value of register 0; an unknown call fails with -1, as QEMU's do.
        """
        if operation == _WRITE0:
            self.console += self._text(argument)
        elif operation == _EXIT:
            self.exit_code = 0 if argument == APPLICATION_EXIT else 1
        elif operation == _EXIT_EXTENDED:
            reason, code = self._words(argument, 2)
            self.exit_code = code & 0xFF if reason == APPLICATION_EXIT else 1
        else:
            return self._file_call(operation, argument)
        return 0

    def _file_call(self, operation: int, argument: int) -> int:
        if operation == _OPEN:
            return self._open_file(*self._words(argument, 3))
        if operation not in (_CLOSE, _WRITE, _READ, _FLEN):
            return _FAILED
        file = self._open.get(self._words(argument, 1)[0])
        if file is None:
            return _FAILED
        if operation == _CLOSE:
            del self._open[self._words(argument, 1)[0]]
            return 0
        if operation == _FLEN:
            return len(self.files[file.name])
        _, address, size = self._words(argument, 3)
        return (self._read if operation == _READ else self._write)(file, address, size)

    def _open_file(self, name_address: int, mode: int, name_length: int) -> int:
        name = self._memory.read(name_address, name_length).decode(errors="replace")
        if mode >= _FIRST_WRITE_MODE:
            self.files[name] = bytearray()
        elif name not in self.files:
            return _FAILED
        handle = max(self._open, default=_FIRST_HANDLE - 1) + 1
        self._open[handle] = _File(name)
        return handle

    def _read(self, file: _File, address: int, size: int) -> int:
        data = bytes(self.files[file.name][file.position : file.position + size])
        self._memory.write(address, data)
        file.position += len(data)
        return size - len(data)

    def _write(self, file: _File, address: int, size: int) -> int:
        self.files[file.name][file.position : file.position + size] = self._memory.read(address, size)
        file.position += size
        return 0

    def _words(self, address: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}I", self._memory.read(address, 4 * count))

    def _text(self, address: int) -> bytes:
        text = bytearray()
        while (byte := self._memory.read(address + len(text), 1)) != b"\0":
            text += byte
        return bytes(text)
