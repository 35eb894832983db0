"""Update rules of one's own: compiled functions, with everything else that a step does."""

import ctypes
from collections.abc import Mapping, Sequence
from types import new_class
from typing import Any

from . import _core
from ._hypers import DOMAINS, number, tuple_name
from ._optimizer import Optimizer
from ._step_options import OPTION_DEFAULTS

_TAKEN = {*OPTION_DEFAULTS, "params", "param_names", "frozen", "step", _core.SLOW}


def register(
    name: str,
    *,
    hypers: Mapping[str, Any],
    states: Sequence[str] = (),
    float32: Any = None,
    float64: Any = None,
    domains: Mapping[str, str] | None = None,
    doc: str | None = None,
) -> type[Optimizer]:
    """Make an optimizer of a compiled function that updates some elements of a parameter.

    It gets all that the others have: the whole list in one call, threads, groups, schedules, the
    options of a step, accumulation, saving. ``docs/own_rule.md`` leads through an example.

    Parameters
    ----------
    name : str
        Of the class that is returned.
    hypers : dict of str to number, bool or tuple of numbers
        Hyper-parameters with their defaults, at most 16 numbers; the function gets them in this
        order. The name of a tuple ends in s, as ``betas`` does.
    states : sequence of str, default=()
        Names of at most four arrays like the parameter that are kept, zero at first.
    float32, float64 : int, ctypes function or object with an attribute `address`, default=None
        The function for parameters of that dtype, one at least: ::

            void f(T *param, const T *grad, T *const *states, const double *hypers, int64_t t,
                   ptrdiff_t n)

        updates n elements and their states, of which ``states[k]`` has the k-th, in step t of
        the parameter, counted from 1. ``grad`` is unscaled and clipped, and must not be written
        to. An address is one of machine code, as C, Cython, ``cffi`` and numba's ``@cfunc`` make
        it, not of Python: the function is called without the GIL, from several threads at once,
        each time for a stretch of elements of any length. It must therefore treat each element by
        itself, and leave everything else alone.
    domains : dict of str to str, default=None
        What hyper-parameters may be: ``"nonnegative"``, ``"positive"``, ``"unit"`` (from 0 to
        below 1), ``"inside_unit"`` (above 0), ``"above_one"``, ``"flag"`` or ``"real"``, which is
        the default of all but bools. For a tuple it holds for each of its numbers.
    doc : str, default=None
        The class's docstring, without the parameters.

    Returns
    -------
    type
        A subclass of :class:`Optimizer`; that of ``fastgd.torch.register`` is one of torch's.

    Raises
    ------
    TypeError, ValueError
        If a name, a default or a function is none that can be used.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"name must be one that a class can have; got {name!r}")
    row = _hyper_rows(hypers, domains or {})
    if len(set(states)) != len(states) or len(states) > _core.MAX_STATES:
        raise ValueError(
            f"states must be at most {_core.MAX_STATES} different names; got {list(states)}"
        )
    for state in states:
        _check_name("states", state)
    given = {"float32": float32, "float64": float64}
    functions = {
        kind: _address(kind, function) for kind, function in given.items() if function is not None
    }
    if not functions:
        raise TypeError("float32 or float64 must be a function; got None for both")
    rule = f"{name} (own rule {len(_core.OWN_RULES) + 1})"
    _core.OWN_RULES[rule] = {
        "number": -1,
        "kind": "elementwise",
        "eight_bit": False,
        "states": tuple((state, "always") for state in states),
        "kept": (),
        "hypers": row,
        "functions": functions,
        "held": tuple(given.values()),  # the code may go when the object does
    }
    body = {"__doc__": doc or f"{name}, a rule of one's own.", "__qualname__": name}
    return new_class(name, (Optimizer,), {"rule": rule}, lambda space: space.update(body))


def _hyper_rows(
    hypers: Mapping[str, Any], domains: Mapping[str, str]
) -> tuple[tuple[str, float, str], ...]:
    """Return hyper-parameters as the rows of the rules have them, checked."""
    if unknown := domains.keys() - hypers.keys():
        raise ValueError(f"domains must be of hypers; got {sorted(unknown)}")
    for domain in domains.values():
        if domain not in DOMAINS:
            raise ValueError(f"domains must be one of {', '.join(DOMAINS)}; got {domain!r}")
    rows = []
    for name, default in hypers.items():
        _check_name("hypers", name)
        if hasattr(Optimizer, name) or tuple_name(name) is not None:
            raise ValueError(
                f"hypers must not hold {name!r}: optimizers have an attribute of that name, or it "
                "ends in a digit (betas=(0.9, 0.99) makes beta1 and beta2)"
            )
        domain = domains.get(name, "flag" if isinstance(default, bool) else "real")
        if not isinstance(default, tuple):
            rows.append((name, number(name, default, domain), domain))
            continue
        if not name.endswith("s") or tuple_name(f"{name[:-1]}1") != name or len(default) > 9:
            raise ValueError(f"hypers must name a tuple of up to 9 as betas is named; got {name!r}")
        for k, value in enumerate(default, 1):
            rows.append((f"{name[:-1]}{k}", number(f"{name}[{k - 1}]", value, domain), domain))
    if len(rows) > _core.MAX_HYPERS:
        raise ValueError(f"hypers must be at most {_core.MAX_HYPERS} numbers; got {len(rows)}")
    return tuple(rows)


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not name.isidentifier() or name in _TAKEN:
        raise ValueError(f"{what} must have names of their own; got {name!r}")


def _address(kind: str, function: Any) -> int:
    """Return the address of a compiled function."""
    if isinstance(function, ctypes._CFuncPtr):  # type: ignore[attr-defined]
        function = ctypes.cast(function, ctypes.c_void_p).value
    address = getattr(function, "address", function)
    if not isinstance(address, int) or isinstance(address, bool):
        raise TypeError(
            f"{kind} must be a compiled function or its address, not Python; got {function!r}"
        )
    if not 0 < address < 2**64:
        raise ValueError(f"{kind} must be the address of a function; got {address}")
    return address
