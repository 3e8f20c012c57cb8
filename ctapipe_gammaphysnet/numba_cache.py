"""Keep compiled functions on disk."""

import hashlib
import pickle

from ctapipe.core import ToolConfigurationError
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache
from numba.core.serialize import dumps

from .announce import warn_once

__all__ = [
    "CompilationError",
    "keep_compiled",
    "require_compilation",
    "stamp_of",
    "warn_not_kept",
]


class CompilationError(ToolConfigurationError, ValueError):
    """Code must be compiled, but numba is not allowed to compile."""


def keep_compiled(announcement, stamp=None):
    """Keep compiled functions for other processes, if a folder is writable.

    The folder is the environment's ``NUMBA_CACHE_DIR``, the folder of the function's
    source, or the user's cache. If nothing can be kept, or what was kept is damaged, a
    function is compiled all the same, and a warning says so once. Another warning
    announces the compilation.

    Parameters
    ----------
    announcement : str
        Text that says what is compiled, and how long that takes.
    stamp : str, optional
        Functions kept with another stamp are not used. Default: the stamp of the
        function's source file.

    Returns
    -------
    callable
        Decorator of a function that is compiled when it is first called.
    """

    def _keep(function):
        if config.DISABLE_JIT:  # then numba has not wrapped it
            return function
        try:
            function._cache = _Cache(function.py_func, announcement, stamp)
        except RuntimeError as error:  # "no locator available"
            function._cache = _NoCache(announcement, error)
        return function

    return _keep


def stamp_of(folder):
    """Make a stamp that changes with any source in a folder.

    numba compiles again if the file of a function has changed, but not if functions or
    constants from other files have, which it has built in.

    Parameters
    ----------
    folder : pathlib.Path
        The folder.

    Returns
    -------
    str
        The stamp.
    """
    sources = sorted(folder.glob("*.py"))
    return hashlib.sha256(b"".join(s.read_bytes() for s in sources)).hexdigest()


def require_compilation(what, alternative=""):
    """Check that numba is allowed to compile.

    Parameters
    ----------
    what : str
        The code that must be compiled.
    alternative : str
        Alternative to compiling, for the message.

    Raises
    ------
    CompilationError
        If ``NUMBA_DISABLE_JIT`` is set.
    """
    if config.DISABLE_JIT:
        raise CompilationError(
            f"{what} needs compiled code, which NUMBA_DISABLE_JIT in the environment "
            f"switches off: unset it{alternative}"
        )


def warn_not_kept(error):
    """Warn that each run will compile again, and say how to avoid it.

    Parameters
    ----------
    error : Exception
        The reason.
    """
    warn_once(
        f"Compiled code cannot be kept ({_reason(error)}): other runs compile again. "
        "Set NUMBA_CACHE_DIR to a writable folder with free space"
    )


def _reason(error):
    """The same few words for all functions, so that there is one warning."""
    if isinstance(error, OSError):
        return error.strerror
    if isinstance(error, RuntimeError):  # "no locator available"
        return "numba finds no writable folder"
    return "it is damaged"


class _NoCache(NullCache):
    """The cache of a function that cannot be kept."""

    def __init__(self, announcement, error):
        self._announcement, self._error = announcement, error

    def load_overload(self, sig, target_context):
        warn_once(self._announcement)
        warn_not_kept(self._error)


class _CheckedResult(CompileResultCacheImpl):
    """Compiled code with its SHA-256: damaged code could crash, or do anything."""

    def reduce(self, cres):
        code = dumps(super().reduce(cres))
        return hashlib.sha256(code).hexdigest(), code

    def rebuild(self, target_context, reduced_data):
        sha256, code = reduced_data
        if hashlib.sha256(code).hexdigest() != sha256:
            raise ValueError("its SHA-256 is not the stored one")
        return super().rebuild(target_context, pickle.loads(code))


class _Cache(FunctionCache):
    """The cache of a function on disk, if it can be kept."""

    _impl_class = _CheckedResult

    def __init__(self, py_func, announcement, stamp):
        super().__init__(py_func)
        self._announcement = announcement
        if stamp is not None:
            # numba compares this with the stamp of what was kept.
            self._cache_file._source_stamp = stamp

    def load_overload(self, sig, target_context):
        try:
            compiled = super().load_overload(sig, target_context)
        except Exception as error:  # unpickling damaged bytes may raise any
            warn_once(
                f"{self._announcement}. What was kept in {self.cache_path} cannot be "
                f"used ({_reason(error)})"
            )
            self._forget()
            return None
        if compiled is None:
            warn_once(f"{self._announcement}, the first time only")
        return compiled

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as error:
            warn_not_kept(error)

    def _forget(self):
        """Start afresh, so that the next run finds something usable."""
        try:
            self.flush()
        except OSError:
            pass  # then keeping fails, too, and warns
