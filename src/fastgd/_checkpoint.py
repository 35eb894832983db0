"""Optimizers in files: safetensors, written whole or not at all."""

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._low_precision import as_bits

Array = NDArray[Any]

FORMAT = "fastgd optimizer 1"


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            'saving and loading need safetensors: pip install "fastgd[safetensors]"'
        ) from error
    return safetensors


class Files:
    """Files for an optimizer, which has parameters and a state dict."""

    params: list[Array]
    state_dict: Callable[[], dict[str, Any]]
    load_state_dict: Callable[[Mapping[str, Any]], None]

    def save(self, path: str | os.PathLike[str], *, params: bool = False) -> None:
        """Write :meth:`state_dict` to a file that is whole at any moment, the old one or the new.

        Parameters
        ----------
        path : path-like
            A safetensors file; replaced if it exists. Needs the extra ``[safetensors]``.
        params : bool, default=False
            Save the parameters, too.

        Raises
        ------
        ImportError
            Without safetensors.
        TypeError
            If a group's own keys hold what JSON cannot.
        """
        more = {"params": self.params} if params else {}
        write_state(path, type(self).__name__, self.state_dict() | more)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a file of :meth:`save`, parameters included if they were saved.

        Raises
        ------
        ImportError
            Without safetensors.
        OSError, ValueError, TypeError
            If the file cannot be read or does not fit; nothing has been changed then.

        Examples
        --------
        >>> import numpy as np, tempfile, pathlib
        >>> from fastgd.optim import Lion
        >>> w = np.ones(3)
        >>> opt = Lion(w)
        >>> opt.step(np.ones(3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     opt.save(pathlib.Path(folder) / "lion.safetensors")
        ...     resumed = Lion(w)
        ...     resumed.load(pathlib.Path(folder) / "lion.safetensors")
        >>> resumed.t
        1
        """
        saved = read_state(path, type(self).__name__)
        params = saved.pop("params", None)
        mine = [as_bits(p) for p in self.params]
        if params is not None and [_fit(p) for p in params] != [_fit(p) for p in mine]:
            raise ValueError(
                f"path must hold parameters of shapes {[p.shape for p in self.params]}; "
                f"got {[p.shape for p in params]}"
            )
        self.load_state_dict(saved)
        for bits, theirs in zip(mine, params or (), strict=params is not None):
            bits[...] = theirs


def _fit(param: Array) -> tuple[Any, ...]:
    """Return what must be the same of a parameter and a saved one; numbers may be converted."""
    return param.shape, param.dtype == np.uint16


def write_state(path: str | os.PathLike[str], kind: str, saved: Mapping[str, Any]) -> None:
    """Write a state dict to a file.

    The file is written beside `path`, forced to the disk and put in its place: whoever looks, and
    whatever happens meanwhile, finds the old file or the new one.

    Parameters
    ----------
    path : path-like
        Where to.
    kind : str
        Name of the optimizer's class.
    saved : dict
        From ``state_dict``, with ``"params"``, a list of arrays, if those are to be saved, too.
    """
    save = _safetensors().numpy.save
    arrays: dict[str, Array] = {}
    rest = _without_arrays(saved, "", arrays)
    try:
        text = json.dumps({"format": FORMAT, "class": kind, "state_dict": rest})
    except TypeError as error:
        raise TypeError(f"param_groups must hold what JSON can, to be saved; got {error}") from None
    _replace(Path(path), save(arrays, metadata={"fastgd": text}))


def read_state(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read what ``write_state`` has written.

    Raises
    ------
    ValueError
        If the file is something else, or another optimizer's.
    """
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(os.fspath(path), framework="np") as file:
            described = json.loads((file.metadata() or {})["fastgd"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if described["format"] != FORMAT:
            raise ValueError(f"format {described['format']!r}")
    except (safetensors.SafetensorError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"path must be a file of Optimizer.save; got {path} ({error})") from error
    if described["class"] != kind:
        raise ValueError(f"path must be a file of {kind}; got one of {described['class']}")
    restored: dict[str, Any] = _with_arrays(described["state_dict"], arrays)
    restored["state"] = {int(i): states for i, states in restored["state"].items()}
    return restored


def _without_arrays(value: Any, name: str, arrays: dict[str, Array]) -> Any:
    """Return `value` with its arrays taken out, each to a place of its own in `arrays`."""
    if isinstance(value, np.ndarray):
        value = as_bits(value)
        arrays[name] = value if value.flags.c_contiguous else value.copy()
        return {"array": name}
    if isinstance(value, Mapping):
        return {k: _without_arrays(v, f"{name}.{k}".lstrip("."), arrays) for k, v in value.items()}
    if isinstance(value, tuple):
        return {"tuple": [_without_arrays(v, f"{name}.{i}", arrays) for i, v in enumerate(value)]}
    if isinstance(value, list):
        return [_without_arrays(v, f"{name}.{i}", arrays) for i, v in enumerate(value)]
    return value


def _with_arrays(value: Any, arrays: Mapping[str, Array]) -> Any:
    """Undo ``_without_arrays``."""
    if isinstance(value, list):
        return [_with_arrays(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array"}:
        return arrays[value["array"]]
    if value.keys() == {"tuple"}:
        return tuple(_with_arrays(value["tuple"], arrays))
    return {k: _with_arrays(v, arrays) for k, v in value.items()}


def _replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another, at once and for good."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the name, too, is to outlast a power cut
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
