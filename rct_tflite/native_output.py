"""Keeps quiet what C++ libraries print past Python."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def swallowed() -> Iterator[None]:
    """Drops what C++ and Python write to stdout and stderr meanwhile; exceptions pass.

    TensorFlow logs at import, before it reads any of its log settings: only the file descriptors help.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        saved = [os.dup(1), os.dup(2)]
        try:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in enumerate(saved, start=1):
                os.dup2(copy, number)
                os.close(copy)
