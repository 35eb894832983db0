# cython: language_level=3
"""The one extension: check buffer -> hold export -> nogil -> call -> raise.

Everything that has a formula is in C (``csrc/``); everything that has an opinion is in Python.
"""
import math
import os

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.dict cimport PyDict_GetItem
from cpython.exc cimport PyErr_Clear
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject, PyObject_TypeCheck, PyTypeObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.math cimport INFINITY
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memset, strcmp

from . cimport cfastgd as c
from . cimport dlpack as dl

cnp.import_array()

cdef object _INT64 = np.dtype(np.int64)

__version__ = c.FASTGD_VERSION.decode()


class DivergenceError(ValueError, FloatingPointError):
    """Training left the finite numbers: a prediction, a loss or a weight overflowed.

    Attributes
    ----------
    position : int
        Position in the epoch's order of the row (for mini-batches: of the batch's last row) at
        which it showed.
    """

    position = -1


class NonFiniteError(FloatingPointError, ValueError):
    """A gradient is not finite; nothing was changed (by L-BFGS: since the last accepted point).

    Attributes
    ----------
    index : int
        Which parameter's gradient; -1 if it is the loss (L-BFGS).
    name : str or None
        That parameter's name, if it has one.
    step : int
        Number of the step that was not taken, from 1 on.
    evaluation : int
        Number of the closure's evaluation in that step, from 1 on (L-BFGS).
    """

    index = -1
    name = None
    step = 0
    evaluation = 0


# ------------------------------------------------------------------------------------------- tables
cdef enum:
    RULE_KEPT = c.FGD_MAX_KEPT + 1  # numbers that a rule carries on, and whether it has begun


cdef dict _domains = {
    c.FGD_NONNEGATIVE: "nonnegative", c.FGD_UNIT: "unit", c.FGD_FLAG: "flag", c.FGD_REAL: "real",
    c.FGD_ABOVE_ONE: "above_one", c.FGD_POSITIVE: "positive", c.FGD_INSIDE_UNIT: "inside_unit",
    c.FGD_OPTIONAL_UNIT: "optional_unit", c.FGD_OPTIONAL: "optional",
    c.FGD_NONPOSITIVE: "nonpositive", c.FGD_AT_LEAST_ONE: "at_least_one",
    c.FGD_COUNT: "count", c.FGD_ADJUST_LR: "adjust_lr",
}


cdef dict _kinds = {
    c.FGD_ELEMENTWISE: "elementwise", c.FGD_CODED: "elementwise", c.FGD_LAYERWISE: "layerwise",
    c.FGD_LISTWISE: "listwise", c.FGD_FACTORED: "factored", c.FGD_MATRIX: "matrix",
    c.FGD_HYBRID: "hybrid", c.FGD_ONLINE: "online",
}


cdef object _number_or_none(double value):
    return None if value != value else value


cdef dict _read_rules():
    rules = {}
    cdef const c.fgd_rule_info *rule
    for i in range(c.fgd_n_rules):
        rule = &c.fgd_rules[i]
        rules[rule.name.decode()] = {
            "number": i,
            "kind": _kinds[rule.kind],
            "eight_bit": rule.kind == c.FGD_CODED,
            "states": tuple((rule.states[k].name.decode(), rule.states[k].kept_if.decode())
                            for k in range(rule.n_states)),
            "kept": tuple(rule.kept[k].decode() for k in range(rule.n_kept)),
            "hypers": tuple((rule.hypers[k].name.decode(), _number_or_none(rule.hypers[k].value),
                             _domains[rule.hypers[k].domain]) for k in range(rule.n_hypers)),
        }
    return rules


cdef dict _read_losses():
    losses = {}
    cdef const c.fgd_loss_info *loss
    for i in range(c.fgd_n_losses):
        loss = &c.fgd_losses[i]
        losses[loss.name.decode()] = {
            "number": i,
            "task": loss.task.decode(),
            "parameter": loss.parameter.name.decode(),
            "default": loss.parameter.value,
            "domain": _domains[loss.parameter.domain],
            "targets": loss.targets.decode(),
            "link": loss.link.decode(),
            "bounded": bool(loss.bounded),
        }
    return losses


class _Rules(dict):
    """The rules of C that step arrays.

    By name, also those that see rows, and those that users have added, which no iteration shows.
    """

    def __missing__(self, name):
        return ONLINE_RULES[name] if name in ONLINE_RULES else OWN_RULES[name]


OWN_RULES = {}  # as RULES; "functions" by dtype are the addresses of their code
_all_rules = _read_rules()
ONLINE_RULES = {name: row for name, row in _all_rules.items() if row["kind"] == "online"}
RULES = _Rules((name, row) for name, row in _all_rules.items() if name not in ONLINE_RULES)
LOSSES = _read_losses()
N_KEPT_BY_RULE = RULE_KEPT  # numbers that a rule carries on, the first
N_KEPT = RULE_KEPT + c.FGD_ROWS_KEPT  # of those that a linear model carries on
MAX_STATES = c.FGD_MAX_STATES
MAX_HYPERS = c.FGD_MAX_HYPERS
SLOW = "slow_param"  # name of the slow weights of look-ahead among a parameter's states


def state_shape(str kept_if, tuple shape):
    """Shape of a state of a parameter of this shape; None if there is none.

    `kept_if` is that of the rule's row. A number for each row or column of the matrices, the last
    two axes, has the axis that it is the mean of with length 1, as in torch.
    """
    if kept_if in ("rows", "columns", "vector") and (len(shape) < 2) != (kept_if == "vector"):
        return None
    if kept_if == "rows":
        return (*shape[:-1], 1)
    if kept_if == "columns":
        return (*shape[:-2], 1, shape[-1])
    return shape


# --------------------------------------------------------------------------------- instruction sets
cdef tuple _read_isas():
    names = []
    cdef const char *name = c.fgd_isa_name(0)
    while name != NULL:
        names.append(name.decode())
        name = c.fgd_isa_name(<int>len(names))
    return tuple(names)


ISAS = _read_isas()
SUPPORTED_ISAS = tuple(name for i, name in enumerate(ISAS) if c.fgd_isa_supported(<int>i))


def use_isa(str name):
    """Take the kernels of instruction set `name`, one of ``SUPPORTED_ISAS``."""
    if name not in SUPPORTED_ISAS:
        who = "processor does not support" if name in ISAS else "build does not have"
        raise ValueError(
            f"instruction set (FASTGD_ISA) is {name!r}: this {who} it\n"
            f"choices: {', '.join(SUPPORTED_ISAS)}")
    c.fgd_use(<int>ISAS.index(name))


def active_isa():
    """Name of the instruction set in use."""
    return c.fgd_active.isa.decode()


def _choose_isa():
    wanted = os.environ.get("FASTGD_ISA") or SUPPORTED_ISAS[-1]
    try:
        use_isa(wanted)
    except ValueError as error:
        raise ImportError(str(error)) from None


_choose_isa()


# ------------------------------------------------------------------------------------------ threads
cdef int _threads = 1
# What OpenMP allowed when we were loaded. If it allows less now, somebody limited it since
# (threadpoolctl, torch.set_num_threads), and that holds for us too.
cdef int _openmp_at_first = c.fgd_openmp_max_threads()


def set_threads(int n):
    """Set the team size that the kernels get; no check."""
    global _threads
    _threads = n


cpdef int threads() noexcept:
    """Team size that a kernel called now may use."""
    cdef int limit = c.fgd_openmp_max_threads()
    return limit if limit < _openmp_at_first and limit < _threads else _threads


def build_info():
    """Compiler, and the OpenMP runtime in use ("" without OpenMP)."""
    return {
        "compiler": c.fgd_compiler().decode(),
        "openmp": bool(c.fgd_has_openmp()),
        "openmp_file": os.fsdecode(c.fgd_openmp_file()),
        "openmp_max_threads": c.fgd_openmp_max_threads(),
    }


# ------------------------------------------------------------------------------------------ buffers
cdef dict _dtypes = {"float32": c.FGD_FLOAT32, "float64": c.FGD_FLOAT64}
cdef dict _dtype_names = {number: name for name, number in _dtypes.items()}


cdef int _dtype_of(cnp.ndarray a) noexcept:
    """Our number for the dtype of `a` if it can be computed with, or -1."""
    cdef int type_num = cnp.PyArray_TYPE(a)
    if type_num == cnp.NPY_FLOAT32:
        return c.FGD_FLOAT32
    if type_num == cnp.NPY_FLOAT64:
        return c.FGD_FLOAT64
    return -1


cdef int _param_dtype_of(cnp.ndarray a) except -2:
    """The same, or that of one of 16 bits; bfloat16 is ml_dtypes' and goes by its name."""
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT16:
        return c.FGD_FLOAT16
    return c.FGD_BFLOAT16 if a.dtype.name == "bfloat16" else _dtype_of(a)


cdef int _computed(int dtype) noexcept:
    """Dtype that numbers of a dtype are computed with."""
    return dtype if dtype < c.FGD_DTYPES else c.FGD_FLOAT32


cdef Py_ssize_t _item(int dtype) noexcept:
    """Bytes of an element."""
    return 4 if dtype == c.FGD_FLOAT32 else 8 if dtype == c.FGD_FLOAT64 else \
        2 if dtype in (c.FGD_BFLOAT16, c.FGD_FLOAT16) else 1


cpdef Py_ssize_t code_bytes(Py_ssize_t size):
    """Bytes of a state of `size` elements in 8 bits: scales of whole blocks, then their codes."""
    return (4 + c.FGD_CODE_BLOCK) * ((size + c.FGD_CODE_BLOCK - 1) // c.FGD_CODE_BLOCK)


cdef int _code_dtype(str name):
    """Dtype of a state in 8 bits: averages of squares have no sign."""
    return c.FGD_UNSIGNED8 if name.endswith("_sq") else c.FGD_SIGNED8


cdef int _describe(object a, str name, bint writeable) except -1:
    """Refuse, by name, what the kernels cannot take as it is; return the dtype's number."""
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array; got {type(a).__name__}")
    cdef int dtype = _dtype_of(a)
    if dtype < 0:
        raise TypeError(f"{name} must be of dtype float32 or float64; got {a.dtype}")
    _check_layout(a, name, writeable)
    return dtype


cdef int _check_layout(cnp.ndarray a, str name, bint writeable) except -1:
    if not cnp.PyArray_ISNOTSWAPPED(a) or not cnp.PyArray_ISALIGNED(a):
        raise ValueError(f"{name} must be aligned and in native byte order")
    if not cnp.PyArray_IS_C_CONTIGUOUS(a):
        given = <object>a
        raise ValueError(f"{name} must be C-contiguous; got shape {given.shape} with strides "
                         f"{given.strides}")
    if writeable and not cnp.PyArray_ISWRITEABLE(a):
        raise ValueError(f"{name} must be writeable; got a read-only array")
    return 0


cdef int _describe_param(object a, str name) except -1:
    """The same as ``_describe`` of a parameter, which may have 16 bits."""
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array; got {type(a).__name__}")
    cdef int dtype = _param_dtype_of(a)
    if dtype < 0:
        raise TypeError(
            f"{name} must be of dtype float32, float64, float16 or bfloat16; got {a.dtype}")
    _check_layout(a, name, True)
    return dtype


cdef int _state_dtype_of(cnp.ndarray a, int dtype, int code) noexcept:
    """Our number for the dtype of a state: `dtype`, bfloat16 or `code`."""
    cdef int type_num = cnp.PyArray_TYPE(a)
    return c.FGD_BFLOAT16 if type_num == cnp.NPY_UINT16 else \
        code if type_num == cnp.NPY_UINT8 else dtype


cdef int _describe_state(object a, str name, int dtype, ptrdiff_t size, int code) except -1:
    """Refuse, by name, what cannot be a state.

    It must be of `dtype`, or of uint16 for bfloat16, or of uint8 for the codes `code`.
    """
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array; got {type(a).__name__}")
    cdef int kept_in = _state_dtype_of(a, dtype, code)
    if kept_in == dtype:
        _data(a, name, dtype, size, True)
        return 0
    _check_layout(a, name, True)
    cdef Py_ssize_t expected = code_bytes(size) if kept_in == code else size
    if a.size != expected:
        raise ValueError(f"{name} must hold {expected} elements; got {a.size}")
    return 0


cdef void *_data(object a, str name, int dtype, ptrdiff_t size, bint writeable) except? NULL:
    """Address of an array of `size` elements of `dtype`, checked; NULL for None."""
    if a is None:
        return NULL
    if _describe(a, name, writeable) != dtype:
        raise TypeError(f"{name} must have the dtype of the other arrays; got {a.dtype}")
    if a.size != size:
        raise ValueError(f"{name} must hold {size} elements; got {a.size}")
    return cnp.PyArray_DATA(a)


cdef int _raise_status(c.fgd_status status, ptrdiff_t position) except -1:
    """Turn a status code of the C side into an exception: the only place that does."""
    if status == c.FGD_OK:
        return 0
    error = DivergenceError(f"training diverged at row {position} of the epoch's order")
    error.position = position
    raise error


def not_finite_text(index, name, grad):
    """Say which gradient is not finite, and where."""
    where = np.argwhere(~np.isfinite(grad))
    first = tuple(where[0].tolist())
    return (f"grads[{index}]" + (f" ({name})" if name is not None else "") + " must be finite; got "
            f"{grad[first]} at {list(first)} and {len(where) - 1} more such numbers among "
            f"{grad.size}")


def _raise_not_finite(index, name, grad, step):
    """Say which gradient is not finite, where and in which step."""
    error = NonFiniteError(
        f"{not_finite_text(index, name, grad)} in step {step}. Nothing was changed; "
        "nonfinite='skip' leaves such steps out.")
    error.index, error.name, error.step = index, name, step
    raise error


cdef int _by_begin(const void *a, const void *b) noexcept nogil:
    """Order of two spans of memory, for qsort."""
    cdef uintptr_t x = (<const uintptr_t *>a)[0], y = (<const uintptr_t *>b)[0]
    return (x > y) - (x < y)


include "_examples.pxi"
include "_stepper.pxi"
include "_tensor_stepper.pxi"
include "_lbfgs.pxi"
include "_quantization.pxi"


# ------------------------------------------------------------------------------------ linear models
def shuffle(cnp.ndarray order, uint32_t seed):
    """Permute the int64 array `order` in place, as scikit-learn's ArrayDataset does."""
    if order.dtype != _INT64 or not cnp.PyArray_ISCARRAY(order):
        raise TypeError("order must be a writeable C-contiguous int64 array")
    cdef int64_t *data = <int64_t *>cnp.PyArray_DATA(order)
    cdef Py_ssize_t n = order.size
    with nogil:
        c.fgd_shuffle(data, n, seed)


def evaluate_loss(str loss, object y, object prediction, parameter=None):
    """Value and derivative with respect to the prediction of a loss, element by element.

    `parameter` is the loss's own; by default that of its row.
    """
    cdef int dtype = _describe(prediction, "prediction", False)
    cdef int number = LOSSES[loss]["number"]
    cdef double own = LOSSES[loss]["default"] if parameter is None else parameter
    cdef Py_ssize_t n = prediction.size
    value, derivative = np.empty_like(prediction), np.empty_like(prediction)
    cdef const void *targets = _data(y, "y", dtype, n, False)
    cdef const void *predictions = cnp.PyArray_DATA(prediction)
    cdef void *values = cnp.PyArray_DATA(value)
    cdef void *derivatives = cnp.PyArray_DATA(derivative)
    with nogil:
        c.fgd_active.dtype[dtype].evaluate(values, derivatives, targets, predictions, number,
                                           own, n)
    return value, derivative


def scratch(object X, Py_ssize_t batch_size, Py_ssize_t n_classes=1):
    """Working memory for ``train_linear``: an array of bytes, aligned to 64."""
    cdef c.fgd_rows rows
    cdef int dtype = _fill_rows(&rows, X, None, None)
    _at_least(1, n_classes, "n_classes")
    size = c.fgd_active.dtype[dtype].scratch_size(&rows, n_classes, batch_size)
    memory = np.empty(size + 64, dtype=np.uint8)
    offset = -memory.__array_interface__["data"][0] % 64
    return memory[offset:offset + size]


def train_linear(object params, tuple states, object X, object y, object sample_weight,
                 cnp.ndarray order, Py_ssize_t block, cnp.ndarray memory, *, int loss,
                 double loss_parameter, double alpha, bint fit_intercept, int rule, hypers,
                 cnp.ndarray lr, cnp.ndarray kept, int64_t t, Py_ssize_t batch_size,
                 Py_ssize_t start, Py_ssize_t stop, int n_threads=0, Py_ssize_t n_classes=1,
                 double l1=0.0, l1_state=None,
                 average=None, int64_t average_from=0, int aggressive=0, double one_class=0.0,
                 double intercept_decay=1.0, penalties=None, bint positive=False,
                 double group=0.0, groups=None):
    """Train a linear model on the rows at positions [start, stop) of the order, in place.

    What stands from `l1_state` to `penalties`, but for `one_class`, is for plain sgd, one class,
    `batch_size` 1, and neither `positive` nor `group`: row by row.

    Parameters
    ----------
    params : ndarray of shape (n_features + 1,)
        Weights, then the intercept.
    states : tuple
        The rule's states, each of the shape of `params` or None.
    X : ndarray or CSR matrix of shape (n_rows, n_features)
        Finite; an array C-contiguous. A matrix of SciPy is checked at each call, a ``CSR`` is not.
    y, sample_weight : ndarray of shape (n_rows,)
        `sample_weight` may be None.
    order : ndarray of shape (n_blocks,)
        A permutation of the blocks of `block` rows, int64. If `block` is 1, rows may be left out.
    memory : ndarray
        From ``scratch``, for this `batch_size` or a larger one.
    loss, rule : int
        Numbers from ``LOSSES`` and ``RULES``.
    hypers : sequence of float
        The rule's hyper-parameters; the first, the learning rate, is taken from `lr`.
    lr : ndarray of shape (ceil((stop - start) / batch_size),)
        A learning rate for each update, float64.
    kept : ndarray of shape (N_KEPT,)
        What is carried from update to update, float64; zeros at first.
    t : int
        Updates done so far.
    n_threads : int, default=0
        Team size; 0 takes ``threads()``.
    n_classes : int, default=1
        Above 1, a softmax model of so many classes instead of one with `loss`: `params` and states
        hold the weights of each class, then the intercept of each, and `y` the class's number.
    l1 : float, default=0.0
        Strength of the L1 penalty l1 ||w||_1, which comes beside that of L2, alpha / 2 ||w||^2.
        Also with mini-batches, where it is proximal, of plain sgd and adagrad: each update takes l1
        times each weight's rate from its magnitude, at most to zero. What is `positive` has it so
        with batches of one row, too.
    l1_state : ndarray of shape (n_features + 1,), default=None
        What each weight has got of the L1 penalty, then the most that it may, float64; zeros at
        first. Needed with `l1` row by row, where the penalty is scikit-learn's, cumulative.
    average : ndarray of shape (n_features + 1,), default=None
        Gets the average of the parameters after each update, from update `average_from` on,
        counted from 1.
    average_from : int, default=0
        At least 1 with `average`.
    aggressive : {0, 1, 2}, default=0
        1 and 2 are the passive-aggressive steps PA-I and PA-II, with the aggressiveness `lr`,
        instead of the gradient's.
    one_class : float, default=0.0
        The nu of the one-class support vector machine: the objective has nu times the intercept.
    intercept_decay : float, default=1.0
        Factor of the intercept's steps.
    penalties : ndarray of shape (1,), default=None
        float64; what scikit-learn's objective has beside the weighted losses is added to it: of
        each row the penalty before its update, and what sample weights take from its loss.
    positive : bool, default=False
        Weights, not the intercept, become zero where they are less, at first and after every
        update, of all rules but those that see rows.
    group : float, default=0.0
        Strength of the penalty on groups of weights, group * sum_g sqrt(|g|) ||w_g||, for plain
        sgd. It is proximal: each update takes weights towards zero by groups.
    groups : (ndarray of shape (n_features,), ndarray of shape (n_groups + 1,)), default=None
        The features, a group after the other, and where each group begins there, both int64. The
        weights of a group are those of its features in all classes. Needed with `group`.

    Returns
    -------
    float
        Sum of the losses of the rows, each before the update that it took part in.

    Raises
    ------
    DivergenceError
        A prediction or loss is not finite. `params` and `states` are of no use then.
    """
    cdef c.fgd_rows rows
    cdef int dtype = _fill_rows(&rows, X, y, sample_weight)
    if y is None:
        raise TypeError("y must be a NumPy array; got NoneType")
    _fill_order(&rows, order, block)
    cdef ptrdiff_t n_visited = c.fgd_n_visited(&rows)
    if batch_size < 1 or not 0 <= start < stop <= n_visited:
        raise ValueError(f"batch_size must be at least 1, and start < stop within the "
                         f"{n_visited} rows; got {batch_size}, {start}, {stop}")
    if cnp.PyArray_TYPE(lr) != cnp.NPY_FLOAT64 or not cnp.PyArray_ISCARRAY(lr) \
            or lr.size < (stop - start + batch_size - 1) // batch_size:
        raise ValueError("lr must be a float64 array with one learning rate for each update")
    if not 0 <= loss < c.fgd_n_losses or not 0 <= rule < c.fgd_n_rules:
        raise ValueError(f"loss and rule must be numbers of LOSSES and RULES; got {loss}, {rule}")
    cdef double[16] values
    memset(values, 0, sizeof(values))
    for k in range(min(len(hypers), c.FGD_MAX_HYPERS)):
        values[k] = hypers[k]
    cdef c.fgd_stretch stretch
    stretch.loss, stretch.loss_parameter = loss, loss_parameter
    stretch.alpha, stretch.fit_intercept = alpha, fit_intercept
    stretch.rule, stretch.hypers = rule, values
    stretch.lr, stretch.t = <const double *>cnp.PyArray_DATA(lr), t
    if cnp.PyArray_TYPE(kept) != cnp.NPY_FLOAT64 or not cnp.PyArray_ISCARRAY(kept) \
            or kept.size != N_KEPT:
        raise ValueError(f"kept must be a float64 array of {N_KEPT} numbers")
    stretch.kept = <double *>cnp.PyArray_DATA(kept)
    stretch.batch_size, stretch.start, stretch.stop = batch_size, start, stop

    cdef const c.fgd_rule_info *row = &c.fgd_rules[rule]
    if row.kind == c.FGD_ONLINE and batch_size * n_classes > 1:
        raise ValueError(f"batch_size and n_classes must be 1 for {row.name.decode()!r}, which "
                         f"learns row by row; got {batch_size} and {n_classes}")
    stretch.outputs = <ptrdiff_t>_at_least(1, n_classes, "n_classes")
    cdef Py_ssize_t n_params = (rows.n_features + 1) * n_classes
    stretch.positive = positive
    _fill_groups(&stretch, group, groups, rows.n_features)
    cdef bint by_row = c.fgd_goes_by_rows(&stretch)
    if not c.fgd_takes_l1(&stretch):
        _refuse_others("the rule is plain sgd or adagrad", l1=(l1, 0.0))
    if not c.fgd_is_plain_sgd(&stretch) or l1:
        _refuse_others("the rule is plain sgd and l1 is 0", group=(group, 0.0))
    if row.kind == c.FGD_ONLINE:
        _refuse_others("the rule steps arrays", positive=(positive, False))
    if not by_row:
        _refuse_others("batch_size and n_classes are 1, the rule is plain sgd, and there is "
                       "neither positive nor group",
                       average=(average, None), aggressive=(aggressive, 0),
                       intercept_decay=(intercept_decay, 1.0), penalties=(penalties, None))
    if n_classes > 1 or row.kind == c.FGD_ONLINE:
        _refuse_others("n_classes is 1 and the rule steps arrays", one_class=(one_class, 0.0))
    stretch.l1 = _at_least(0, l1, "l1")
    stretch.l1_state = <double *>_data(l1_state, "l1_state", c.FGD_FLOAT64, n_params, True)
    if l1 and l1_state is None and by_row:
        raise TypeError(f"l1_state must be an array with l1={l1}; got None")
    stretch.average = _data(average, "average", dtype, n_params, True)
    stretch.average_from = average_from
    if average is not None:
        _at_least(1, average_from, "average_from")
    if aggressive not in (0, 1, 2):
        raise ValueError(f"aggressive must be 0, 1 or 2; got {aggressive}")
    stretch.aggressive, stretch.one_class = aggressive, one_class
    stretch.intercept_decay = intercept_decay
    stretch.penalties = <double *>_data(penalties, "penalties", c.FGD_FLOAT64, 1, True)

    if row.kind == c.FGD_MATRIX:
        raise ValueError(f"rule must take vectors; got {row.name.decode()!r}, which takes matrices")
    if len(states) != row.n_states and states:
        raise ValueError(
            f"states must hold {row.n_states} arrays or None; got {len(states)}")
    for k in range(row.n_states):
        if (row.states[k].kept_if in (b"always", b"vector") or _sees_state(row, k, values)) \
                and (not states or states[k] is None):
            raise ValueError(
                f"states[{k}] must be an array: {row.name.decode()} needs it; got None")
    cdef void *state[4]
    cdef void *weights = _data(params, "params", dtype, n_params, True)
    memset(state, 0, sizeof(state))
    for k in range(len(states)):
        state[k] = _data(states[k], f"states[{k}]", dtype, n_params, True)
    cdef const c.fgd_typed_kernels *kernels = c.fgd_active.dtype[dtype]
    if memory.nbytes < kernels.scratch_size(&rows, n_classes, batch_size):
        raise ValueError("memory must come from scratch(X, batch_size, n_classes)")
    cdef void *work = cnp.PyArray_DATA(memory)
    cdef double loss_sum = 0
    cdef ptrdiff_t failed = 0
    cdef c.fgd_status status
    cdef int team = n_threads or threads()
    with nogil:
        status = kernels.train(weights, state, &loss_sum, &failed, work, &rows, &stretch, team)
    _raise_status(status, failed)
    return loss_sum


cdef bint _sees_state(const c.fgd_rule_info *row, int state, const double *hypers) noexcept:
    """Whether a rule that sees rows keeps a state: while this hyper-parameter is not zero."""
    cdef int k
    for k in range(row.n_hypers):
        if strcmp(row.hypers[k].name, row.states[state].kept_if) == 0:
            return row.kind == c.FGD_ONLINE and hypers[k] != 0
    return False


cdef int _fill_order(c.fgd_rows *rows, cnp.ndarray order, Py_ssize_t block) except -1:
    """Describe the order that rows are visited in."""
    if order.dtype != _INT64 or not cnp.PyArray_ISCARRAY(order) or block < 1:
        raise ValueError(f"order must be an int64 array of blocks of at least 1 row; got "
                         f"{order.dtype}, {block}")
    cdef Py_ssize_t n_blocks = (rows.n_rows + block - 1) // block
    if order.size > n_blocks or (order.size < n_blocks and block > 1):
        raise ValueError(f"order must be of all {n_blocks} blocks of {block} of the {rows.n_rows} "
                         f"rows, or of some rows alone; got {order.size}")
    rows.order = <const int64_t *>cnp.PyArray_DATA(order)
    rows.n_blocks = order.size
    rows.block = block
    return 0


cdef int _fill_groups(c.fgd_stretch *stretch, double strength, object groups,
                      Py_ssize_t n_features) except -1:
    """Describe a penalty on groups of features."""
    stretch.group = _at_least(0, strength, "group")
    stretch.n_groups = 0
    if strength == 0:
        return 0
    if groups is None:
        raise TypeError(f"groups must be a pair of arrays with group={strength}; got None")
    members, offsets = groups
    _index_type(members, "groups[0]", n_features)
    _index_type(offsets, "groups[1]", offsets.size)
    if members.dtype != np.int64 or offsets.dtype != np.int64:
        raise TypeError(f"groups must be of dtype int64; got {members.dtype}, {offsets.dtype}")
    if members.min() < 0 or members.max() >= n_features:
        raise ValueError(f"groups[0] must hold features from 0 to {n_features - 1}; got "
                         f"{members.min()} to {members.max()}")
    if offsets.size < 2 or offsets[0] != 0 or offsets[-1] != n_features \
            or (np.diff(offsets) < 0).any():
        raise ValueError(f"groups[1] must rise from 0 to {n_features}; got {offsets}")
    stretch.members = <const int64_t *>cnp.PyArray_DATA(members)
    stretch.offsets = <const int64_t *>cnp.PyArray_DATA(offsets)
    stretch.n_groups = offsets.size - 1
    return 0


def _refuse_others(str unless, **options):
    """Refuse each option that is not its second value, which stands for nothing."""
    for name, (given, nothing) in options.items():
        if isinstance(given, np.ndarray) or given != nothing:
            raise ValueError(f"{name} must be {nothing} unless {unless}; got {given}")


cdef double _at_least(double least, double given, str name) except? -1:
    if not least <= given < INFINITY:
        raise ValueError(f"{name} must be finite and at least {least:g}; got {given}")
    return given


include "_full.pxi"
include "_network.pxi"


# --------------------------------------------------------------------------------------- reductions
def all_finite(object x):
    """Whether an array of float32 or float64 holds finite numbers only."""
    cdef int dtype = _describe(x, "x", False)
    cdef const void *data = cnp.PyArray_DATA(x)
    cdef Py_ssize_t n = x.size
    cdef bint finite
    with nogil:
        finite = c.fgd_active.dtype[dtype].all_finite(data, n)
    return finite


def sum_all(object x):
    """Sum of an array of float32 or float64, read once: the benchmarks' measure of bandwidth."""
    cdef int dtype = _describe(x, "x", False)
    cdef const void *data = cnp.PyArray_DATA(x)
    cdef Py_ssize_t n = x.size
    cdef int team = threads()
    cdef double total
    with nogil:
        total = c.fgd_sum(data, n, dtype, team)
    return total
