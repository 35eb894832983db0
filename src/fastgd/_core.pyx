# cython: language_level=3
"""The one extension: check buffer -> hold export -> nogil -> call -> raise.

Everything that has a formula is in C (``csrc/``); everything that has an opinion is in Python.
"""
import os

import numpy as np

cimport numpy as cnp
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint32_t, uintptr_t

from . cimport cfastgd as c

cnp.import_array()

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


# ------------------------------------------------------------------------------------------- tables
cdef dict _domains = {
    c.FGD_NONNEGATIVE: "nonnegative", c.FGD_UNIT: "unit", c.FGD_FLAG: "flag", c.FGD_REAL: "real",
}


cdef dict _read_rules():
    rules = {}
    cdef const c.fgd_rule_info *rule
    for i in range(c.fgd_n_rules):
        rule = &c.fgd_rules[i]
        rules[rule.name.decode()] = {
            "number": i,
            "states": tuple((rule.states[k].name.decode(), rule.states[k].kept_if.decode())
                            for k in range(rule.n_states)),
            "hypers": tuple((rule.hypers[k].name.decode(), rule.hypers[k].value,
                             _domains[rule.hypers[k].domain]) for k in range(rule.n_hypers)),
        }
    return rules


cdef dict _read_losses():
    return {
        c.fgd_losses[i].name.decode(): {
            "number": i,
            "task": c.fgd_losses[i].task.decode(),
            "parameter": c.fgd_losses[i].parameter.decode(),
        }
        for i in range(c.fgd_n_losses)
    }


RULES = _read_rules()
LOSSES = _read_losses()


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
cdef int _dtype_of(cnp.ndarray a) noexcept:
    """Our number for the dtype of `a`, or -1."""
    cdef int type_num = cnp.PyArray_TYPE(a)
    if type_num == cnp.NPY_FLOAT32:
        return c.FGD_FLOAT32
    if type_num == cnp.NPY_FLOAT64:
        return c.FGD_FLOAT64
    return -1


cdef int _describe(object a, str name, bint writeable) except -1:
    """Refuse, by name, what the kernels cannot take as it is; return the dtype's number."""
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array; got {type(a).__name__}")
    cdef int dtype = _dtype_of(a)
    if dtype < 0:
        raise TypeError(f"{name} must be of dtype float32 or float64; got {a.dtype}")
    if not a.dtype.isnative or not a.flags.aligned:
        raise ValueError(f"{name} must be aligned and in native byte order")
    if not a.flags.c_contiguous:
        raise ValueError(
            f"{name} must be C-contiguous; got shape {a.shape} with strides {a.strides}")
    if writeable and not a.flags.writeable:
        raise ValueError(f"{name} must be writeable; got a read-only array")
    return dtype


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


# --------------------------------------------------------------------------------------- optimizers
cdef class Stepper:
    """A list of parameters, their states and a rule: the buffers behind an optimizer.

    Parameters
    ----------
    rule : str
        Name of a rule, a key of ``RULES``.
    params : list of ndarray
        Updated in place.
    states : list of tuple
        For each parameter its states' arrays in the order of the rule's row; None for a state that
        is not kept.
    hypers : sequence of float
        Values of the rule's hyper-parameters, in the order of its row.
    """

    cdef readonly str rule
    cdef readonly list params
    cdef readonly list states
    cdef public int64_t t
    cdef public int64_t since  # steps done when the states were made
    cdef int _rule, _dtype
    cdef Py_ssize_t _n
    cdef c.fgd_tensor *_tensors
    cdef double[16] _hypers
    cdef uintptr_t *_written  # begin and end of what is written to, ascending
    cdef Py_ssize_t _n_written
    cdef list _held  # the states whose addresses are noted

    def __init__(self, str rule, list params, list states, hypers):
        self.rule = rule
        self.params = params
        self.t = self.since = 0
        self._rule = RULES[rule]["number"]
        self._n = len(params)
        PyMem_Free(self._tensors)
        PyMem_Free(self._written)
        self._tensors = <c.fgd_tensor *>PyMem_Calloc(max(self._n, 1), sizeof(c.fgd_tensor))
        self._written = <uintptr_t *>PyMem_Calloc(
            2 * max(self._n, 1) * (c.FGD_MAX_STATES + 1), sizeof(uintptr_t))
        if self._tensors == NULL or self._written == NULL:
            raise MemoryError
        for k, value in enumerate(hypers):
            self._hypers[k] = value
        self.set_states(states)

    def __dealloc__(self):
        PyMem_Free(self._tensors)
        PyMem_Free(self._written)

    def set_states(self, list states):
        """Use these arrays for the states from now on; if they do not fit, nothing changes."""
        cdef Py_ssize_t i
        cdef int dtype = self._check(states)
        spans = self._spans(states)
        self._dtype = dtype
        self.states = states
        self._held = [a for arrays in states for a in arrays]
        for i in range(self._n):
            self._tensors[i].param = cnp.PyArray_DATA(self.params[i])
            self._tensors[i].size = self.params[i].size
            for k, state in enumerate(states[i]):
                self._tensors[i].state[k] = NULL if state is None else cnp.PyArray_DATA(state)
        for k, (begin, end, _) in enumerate(spans):
            self._written[2 * k] = begin
            self._written[2 * k + 1] = end
        self._n_written = len(spans)

    cdef int _check(self, list states) except -1:
        """Refuse buffers that the kernels cannot take; return the number of their dtype."""
        cdef int dtype = c.FGD_FLOAT32, first = c.FGD_FLOAT32
        for i, param in enumerate(self.params):
            dtype = _describe(param, f"params[{i}]", True)
            if i and dtype != first:
                raise TypeError(
                    "params must all be of one dtype; "
                    f"got {self.params[0].dtype} and params[{i}] of {param.dtype}")
            first = dtype
            for k, state in enumerate(states[i]):
                _data(state, f"state {k} of params[{i}]", dtype, param.size, True)
        return dtype

    def _spans(self, list states):
        """Begin, end and name of what is written to, ascending.

        No two may overlap: the result would depend on the order.
        """
        spans = []
        for i, param in enumerate(self.params):
            for name, a in ((f"params[{i}]", param), *((f"a state of params[{i}]", s)
                                                       for s in states[i] if s is not None)):
                if a.size:
                    begin = a.__array_interface__["data"][0]
                    spans.append((begin, begin + a.nbytes, name))
        spans.sort()
        for (_, end, first), (begin, _, second) in zip(spans, spans[1:]):
            if begin < end:
                raise ValueError(f"params must not overlap in memory; {first} and {second} do")
        return spans

    cdef bint _is_written(self, uintptr_t begin, uintptr_t end) noexcept:
        """Does [begin, end) overlap anything that a step writes to?"""
        cdef Py_ssize_t low = 0, high = self._n_written, middle
        while low < high:  # the first span that ends behind `begin`
            middle = (low + high) // 2
            if self._written[2 * middle + 1] > begin:
                high = middle
            else:
                low = middle + 1
        return low < self._n_written and self._written[2 * low] < end

    def hyper(self, Py_ssize_t k):
        """Value of hyper-parameter number `k`."""
        return self._hypers[k]

    def set_hyper(self, Py_ssize_t k, double value):
        """Set hyper-parameter number `k`; no check."""
        self._hypers[k] = value

    def step(self, grads):
        """Update all parameters by one step of the rule, in one call.

        Parameters
        ----------
        grads : ndarray or sequence of ndarray
            One gradient for each parameter, of its shape and dtype. Not changed.

        Raises
        ------
        ValueError, TypeError
            If the gradients do not fit the parameters; nothing has been changed then.
        """
        cdef object sequence = (grads,) if isinstance(grads, np.ndarray) and self._n == 1 else grads
        cdef list copies = None
        cdef cnp.ndarray param, grad
        cdef Py_ssize_t i
        cdef c.fgd_status status
        cdef int team = threads()
        if type(sequence) is not list and type(sequence) is not tuple:
            try:
                sequence = iter(sequence)
            except TypeError:
                raise TypeError("grads must be an array or a sequence of arrays; "
                                f"got {type(grads).__name__}") from None
            sequence = list(sequence)
        if len(sequence) != self._n:
            raise ValueError(f"grads must hold {self._n} arrays, one for each of params; "
                             f"got {len(sequence)}")
        for i in range(self._n):
            param = self.params[i]
            if (cnp.PyArray_DATA(param) != self._tensors[i].param
                    or cnp.PyArray_SIZE(param) != self._tensors[i].size
                    or not cnp.PyArray_ISCARRAY(param)):
                raise ValueError(f"params[{i}] was resized, moved or made read-only "
                                 "after it was given to the optimizer")
            item = sequence[i]
            if isinstance(item, np.generic):  # what NumPy makes of arithmetic with a 0-d array
                item = np.asarray(item)
                copies = copies or []
                copies.append(item)
            if not isinstance(item, np.ndarray):
                raise TypeError(f"grads[{i}] must be a NumPy array; got {type(item).__name__}")
            grad = item
            if _dtype_of(grad) != self._dtype:
                raise TypeError(f"grads[{i}] must be of dtype {param.dtype}, as params[{i}]; "
                                f"got {grad.dtype}")
            if not cnp.PyArray_SAMESHAPE(grad, param):
                raise ValueError(f"grads[{i}] must have the shape of params[{i}], "
                                 f"{item.shape} is not {self.params[i].shape}")
            if not cnp.PyArray_ISCARRAY_RO(grad):
                grad = np.array(item, dtype=param.dtype, order="C")
                copies = copies or []
                copies.append(grad)
            if self._is_written(<uintptr_t>cnp.PyArray_DATA(grad),
                                <uintptr_t>cnp.PyArray_DATA(grad) + cnp.PyArray_NBYTES(grad)):
                raise ValueError(f"grads[{i}] must not overlap params or their states in memory")
            self._tensors[i].grad = cnp.PyArray_DATA(grad)
        with nogil:
            status = c.fgd_step(self._tensors, self._n, self._dtype, self._rule, self._hypers,
                                self.t + 1 - self.since, team)
        _raise_status(status, 0)
        self.t += 1


# ------------------------------------------------------------------------------------ linear models
def shuffle(cnp.ndarray order, uint32_t seed):
    """Permute the int64 array `order` in place, as scikit-learn's ArrayDataset does."""
    if order.dtype != np.int64 or not order.flags.carray:
        raise TypeError("order must be a writeable C-contiguous int64 array")
    cdef int64_t *data = <int64_t *>cnp.PyArray_DATA(order)
    cdef Py_ssize_t n = order.size
    with nogil:
        c.fgd_shuffle(data, n, seed)


def evaluate_loss(str loss, object y, object prediction, double parameter=0.0):
    """Value and derivative with respect to the prediction of a loss, element by element."""
    cdef int dtype = _describe(prediction, "prediction", False)
    cdef int number = LOSSES[loss]["number"]
    cdef Py_ssize_t n = prediction.size
    value, derivative = np.empty_like(prediction), np.empty_like(prediction)
    cdef const void *targets = _data(y, "y", dtype, n, False)
    cdef const void *predictions = cnp.PyArray_DATA(prediction)
    cdef void *values = cnp.PyArray_DATA(value)
    cdef void *derivatives = cnp.PyArray_DATA(derivative)
    with nogil:
        c.fgd_active.dtype[dtype].evaluate(values, derivatives, targets, predictions, number,
                                           parameter, n)
    return value, derivative


def scratch(object X, Py_ssize_t batch_size):
    """Working memory for ``train_linear``: an array of bytes, aligned to 64."""
    cdef int dtype = _describe(X, "X", False)
    size = c.fgd_active.dtype[dtype].scratch_size(X.shape[1], batch_size)
    memory = np.empty(size + 64, dtype=np.uint8)
    offset = -memory.__array_interface__["data"][0] % 64
    return memory[offset:offset + size]


def train_linear(object params, tuple states, object X, object y, object sample_weight,
                 cnp.ndarray order, Py_ssize_t block, cnp.ndarray memory, *, int loss,
                 double loss_parameter, double alpha, bint fit_intercept, int rule, hypers,
                 cnp.ndarray lr, int64_t t, Py_ssize_t batch_size, Py_ssize_t start,
                 Py_ssize_t stop, int n_threads=0):
    """Train a linear model on the rows at positions [start, stop) of the order, in place.

    Parameters
    ----------
    params : ndarray of shape (n_features + 1,)
        Weights, then the intercept.
    states : tuple
        The rule's states, each of the shape of `params` or None.
    X : ndarray of shape (n_rows, n_features)
        Finite, C-contiguous.
    y, sample_weight : ndarray of shape (n_rows,)
        `sample_weight` may be None.
    order : ndarray of shape (n_blocks,)
        A permutation of the blocks of `block` rows, int64.
    memory : ndarray
        From ``scratch``, for this `batch_size` or a larger one.
    loss, rule : int
        Numbers from ``LOSSES`` and ``RULES``.
    hypers : sequence of float
        The rule's hyper-parameters; the first, the learning rate, is taken from `lr`.
    lr : ndarray of shape (ceil((stop - start) / batch_size),)
        A learning rate for each update, float64.
    t : int
        Updates done so far.
    n_threads : int, default=0
        Team size; 0 takes ``threads()``.

    Returns
    -------
    float
        Sum of the losses of the rows, each before the update that it took part in.

    Raises
    ------
    DivergenceError
        A prediction or loss is not finite. `params` and `states` are of no use then.
    """
    cdef int dtype = _describe(X, "X", False)
    if X.ndim != 2:
        raise ValueError(f"X must have two dimensions; got {X.ndim}")
    cdef c.fgd_rows rows
    rows.n_rows, rows.n_features = X.shape
    if rows.n_rows < 1 or rows.n_features < 1:
        raise ValueError(f"X must not be empty; got shape {X.shape}")
    rows.X = cnp.PyArray_DATA(X)
    rows.y = _data(y, "y", dtype, rows.n_rows, False)
    rows.sample_weight = _data(sample_weight, "sample_weight", dtype, rows.n_rows, False)
    if order.dtype != np.int64 or not order.flags.carray or block < 1 \
            or order.size != (rows.n_rows + block - 1) // block:
        raise ValueError(f"order must be an int64 array of {rows.n_rows} rows' blocks of {block}")
    rows.order = <const int64_t *>cnp.PyArray_DATA(order)
    rows.n_blocks = order.size
    rows.block = block

    if batch_size < 1 or not 0 <= start < stop <= rows.n_rows:
        raise ValueError(f"batch_size must be at least 1, and start < stop within the "
                         f"{rows.n_rows} rows; got {batch_size}, {start}, {stop}")
    if lr.dtype != np.float64 or not lr.flags.carray \
            or lr.size < (stop - start + batch_size - 1) // batch_size:
        raise ValueError("lr must be a float64 array with one learning rate for each update")
    if not 0 <= loss < c.fgd_n_losses or not 0 <= rule < c.fgd_n_rules:
        raise ValueError(f"loss and rule must be numbers of LOSSES and RULES; got {loss}, {rule}")
    cdef double[16] values
    for k in range(c.FGD_MAX_HYPERS):
        values[k] = hypers[k] if k < len(hypers) else 0
    cdef c.fgd_stretch stretch
    stretch.loss, stretch.loss_parameter = loss, loss_parameter
    stretch.alpha, stretch.fit_intercept = alpha, fit_intercept
    stretch.rule, stretch.hypers = rule, values
    stretch.lr, stretch.t = <const double *>cnp.PyArray_DATA(lr), t
    stretch.batch_size, stretch.start, stretch.stop = batch_size, start, stop

    cdef const c.fgd_rule_info *row = &c.fgd_rules[rule]
    if len(states) != row.n_states and states:
        raise ValueError(
            f"states must hold {row.n_states} arrays or None; got {len(states)}")
    for k in range(row.n_states):
        if row.states[k].kept_if == b"always" and (not states or states[k] is None):
            raise ValueError(
                f"states[{k}] must be an array: {row.name.decode()} needs it; got None")
    cdef void *state[4]
    cdef void *weights = _data(params, "params", dtype, rows.n_features + 1, True)
    for k in range(c.FGD_MAX_STATES):
        state[k] = _data(states[k] if k < len(states) else None, f"states[{k}]", dtype,
                         rows.n_features + 1, True)
    cdef const c.fgd_typed_kernels *kernels = c.fgd_active.dtype[dtype]
    if memory.nbytes < kernels.scratch_size(rows.n_features, batch_size):
        raise ValueError("memory must come from scratch(X, batch_size)")
    cdef void *work = cnp.PyArray_DATA(memory)
    cdef double loss_sum = 0
    cdef ptrdiff_t failed = 0
    cdef c.fgd_status status
    cdef int team = n_threads or threads()
    with nogil:
        status = kernels.train(weights, state, &loss_sum, &failed, work, &rows, &stretch, team)
    _raise_status(status, failed)
    return loss_sum


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
