# cython: language_level=3
"""The one extension: check buffer -> hold export -> nogil -> call -> raise.

Everything that has a formula is in C (``csrc/``); everything that has an opinion is in Python.
"""
import os

import numpy as np

cimport numpy as cnp
from cpython.dict cimport PyDict_GetItem
from cpython.exc cimport PyErr_Clear
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject, PyObject_TypeCheck, PyTypeObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint32_t, uintptr_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp

from . cimport cfastgd as c
from . cimport dlpack as dl

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


class NonFiniteError(FloatingPointError, ValueError):
    """A gradient is not finite; nothing was changed.

    Attributes
    ----------
    index : int
        Which parameter's gradient.
    name : str or None
        That parameter's name, if it has one.
    step : int
        Number of the step that was not taken, from 1 on.
    """

    index = -1
    name = None
    step = 0


# ------------------------------------------------------------------------------------------- tables
cdef dict _domains = {
    c.FGD_NONNEGATIVE: "nonnegative", c.FGD_UNIT: "unit", c.FGD_FLAG: "flag", c.FGD_REAL: "real",
    c.FGD_ABOVE_ONE: "above_one", c.FGD_POSITIVE: "positive", c.FGD_INSIDE_UNIT: "inside_unit",
}


cdef dict _kinds = {c.FGD_ELEMENTWISE: "elementwise", c.FGD_LAYERWISE: "layerwise"}


cdef dict _read_rules():
    rules = {}
    cdef const c.fgd_rule_info *rule
    for i in range(c.fgd_n_rules):
        rule = &c.fgd_rules[i]
        rules[rule.name.decode()] = {
            "number": i,
            "kind": _kinds[rule.kind],
            "states": tuple((rule.states[k].name.decode(), rule.states[k].kept_if.decode())
                            for k in range(rule.n_states)),
            "kept": tuple(rule.kept[k].decode() for k in range(rule.n_kept)),
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
N_KEPT = c.FGD_MAX_KEPT + 1


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


def _raise_not_finite(index, name, grad, step):
    """Say which gradient is not finite, where and in which step."""
    where = np.argwhere(~np.isfinite(grad))
    first = tuple(where[0].tolist())
    error = NonFiniteError(
        f"grads[{index}]" + (f" ({name})" if name is not None else "") + " must be finite; got "
        f"{grad[first]} at {list(first)} and {len(where) - 1} more such numbers among {grad.size} "
        f"in step {step}. Nothing was changed; nonfinite='skip' leaves such steps out.")
    error.index, error.name, error.step = index, name, step
    raise error


cdef int _by_begin(const void *a, const void *b) noexcept nogil:
    """Order of two spans of memory, for qsort."""
    cdef uintptr_t x = (<const uintptr_t *>a)[0], y = (<const uintptr_t *>b)[0]
    return (x > y) - (x < y)


# --------------------------------------------------------------------------------------- optimizers
cdef class Stepper:
    """A list of parameters in groups, their states and a rule: the buffers behind an optimizer.

    Parameters
    ----------
    rule : str
        Name of a rule, a key of ``RULES``.
    params : list of ndarray
        Updated in place.
    groups : list of int
        For each parameter the number of its group.
    hypers : list of sequence of float
        For each group the rule's hyper-parameters, in the order of its row.
    states : list of tuple
        For each parameter its states' arrays in the order of the rule's row; None for a state that
        is not kept.
    averages : list of ndarray or None
        For each parameter where its moving average is kept; None if none is.
    """

    cdef readonly str rule
    cdef readonly list params
    cdef readonly list states
    cdef readonly object averages
    cdef public int64_t t  # updates done
    cdef public int64_t skipped  # steps that were not taken because a gradient was not finite
    cdef public bint skips  # are they skipped, or is an error raised?
    cdef public bint dynamic  # is there anything to do before a step?
    cdef public object names  # of the parameters, a list or None
    cdef c.fgd_options _options
    cdef c.fgd_report _report
    cdef Py_ssize_t _n, _n_groups
    cdef c.fgd_tensor *_tensors
    cdef c.fgd_group *_groups
    cdef c.fgd_plan *_plans
    cdef double *_sums
    cdef char *_frozen  # parameters that rest, whatever their gradient
    cdef uintptr_t *_written  # begin and end of what is written to, ascending
    cdef Py_ssize_t _n_written
    cdef uintptr_t *_zeroed  # the same of the gradients that are to be zeroed
    cdef list _held  # the arrays whose addresses are noted

    def __init__(self, str rule, list params, list groups, list hypers, list states, averages):
        self._release()
        self.rule = rule
        self.params = params
        self.t = self.skipped = 0
        self._n, self._n_groups = len(params), len(hypers)
        self._tensors = <c.fgd_tensor *>PyMem_Calloc(max(self._n, 1), sizeof(c.fgd_tensor))
        self._groups = <c.fgd_group *>PyMem_Calloc(max(self._n_groups, 1), sizeof(c.fgd_group))
        self._plans = <c.fgd_plan *>PyMem_Calloc(max(self._n, 1), sizeof(c.fgd_plan))
        self._frozen = <char *>PyMem_Calloc(max(self._n, 1), 1)
        self._written = <uintptr_t *>PyMem_Calloc(
            2 * max(self._n, 1) * (c.FGD_MAX_STATES + 2), sizeof(uintptr_t))
        self._zeroed = <uintptr_t *>PyMem_Calloc(2 * max(self._n, 1), sizeof(uintptr_t))
        if not (self._tensors and self._groups and self._plans and self._frozen and self._written
                and self._zeroed):
            raise MemoryError
        for g, values in enumerate(hypers):
            self._groups[g].rule = RULES[rule]["number"]
            for k, value in enumerate(values):
                self._groups[g].hypers[k] = value
        for i, g in enumerate(groups):
            self._tensors[i].group = g
        self._options.grad_scale, self._options.average_weight = 1, 0
        self._options.max_norm = self._options.clip_value = np.inf
        self.set_buffers(states, averages)
        cdef Py_ssize_t n_sums = c.fgd_n_sums(self._tensors, self._n)
        self._sums = <double *>PyMem_Calloc(max(n_sums, 1), sizeof(double))
        if not self._sums:
            raise MemoryError

    def __dealloc__(self):
        self._release()

    cdef void _release(self) noexcept:
        PyMem_Free(self._tensors)
        PyMem_Free(self._groups)
        PyMem_Free(self._plans)
        PyMem_Free(self._sums)
        PyMem_Free(self._frozen)
        PyMem_Free(self._written)
        PyMem_Free(self._zeroed)
        self._tensors, self._groups, self._plans = NULL, NULL, NULL
        self._sums, self._frozen, self._written, self._zeroed = NULL, NULL, NULL, NULL
        self._n = 0

    def set_buffers(self, list states, averages):
        """Use these arrays from now on; if they do not fit, nothing changes."""
        cdef Py_ssize_t i
        self._check(states, averages)
        spans = self._spans(states, averages)
        self.states, self.averages = states, averages
        self._held = [a for arrays in states for a in arrays] + list(averages or ())
        for i in range(self._n):
            self._tensors[i].param = cnp.PyArray_DATA(self.params[i])
            self._tensors[i].size = self.params[i].size
            self._tensors[i].dtype = _dtype_of(self.params[i])
            self._tensors[i].average = NULL if averages is None else cnp.PyArray_DATA(averages[i])
            for k, state in enumerate(states[i]):
                self._tensors[i].state[k] = NULL if state is None else cnp.PyArray_DATA(state)
        for k, (begin, end, _) in enumerate(spans):
            self._written[2 * k] = begin
            self._written[2 * k + 1] = end
        self._n_written = len(spans)

    cdef int _check(self, list states, averages) except -1:
        """Refuse buffers that the kernels cannot take."""
        for i, param in enumerate(self.params):
            dtype = _describe(param, f"params[{i}]", True)
            for k, state in enumerate(states[i]):
                _data(state, f"state {k} of params[{i}]", dtype, param.size, True)
            if averages is not None:
                _data(averages[i], f"average of params[{i}]", dtype, param.size, True)
        return 0

    def _spans(self, list states, averages):
        """Begin, end and name of what is written to, ascending.

        No two may overlap: the result would depend on the order.
        """
        spans = []
        for i, param in enumerate(self.params):
            mine = [(f"params[{i}]", param)]
            mine += [(f"a state of params[{i}]", s) for s in states[i] if s is not None]
            if averages is not None:
                mine.append((f"the average of params[{i}]", averages[i]))
            for name, a in mine:
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

    cdef int _check_zeroed(self) except -1:
        """Refuse to zero a gradient that lies in another's memory: which is read first?"""
        cdef Py_ssize_t i, n = 0
        for i in range(self._n):
            if self._tensors[i].grad and self._tensors[i].size:
                self._zeroed[2 * n] = <uintptr_t>self._tensors[i].grad
                self._zeroed[2 * n + 1] = (<uintptr_t>self._tensors[i].grad
                                           + <uintptr_t>self.params[i].nbytes)
                n += 1
        qsort(self._zeroed, n, 2 * sizeof(uintptr_t), _by_begin)
        for i in range(1, n):
            if self._zeroed[2 * i] < self._zeroed[2 * i - 1]:
                raise ValueError("grads must not overlap in memory to be set to zero")
        return 0

    def hyper(self, Py_ssize_t group, Py_ssize_t k):
        """Value of hyper-parameter number `k` of a group."""
        return self._groups[group].hypers[k]

    def set_hyper(self, Py_ssize_t group, Py_ssize_t k, double value):
        """Set hyper-parameter number `k` of a group; no check."""
        self._groups[group].hypers[k] = value

    def progress(self, Py_ssize_t i):
        """Steps done by a parameter, those done when its states were made, and what is kept."""
        return self._tensors[i].t, self._tensors[i].since, \
            tuple([self._tensors[i].kept[k] for k in range(c.FGD_MAX_KEPT)])

    def set_progress(self, Py_ssize_t i, int64_t t, int64_t since, kept):
        """Set what ``progress`` gives; no check."""
        self._tensors[i].t, self._tensors[i].since = t, since
        for k, value in enumerate(kept):
            self._tensors[i].kept[k] = value

    def configure(self, *, double max_norm, double clip_value, bint guard, bint norms):
        """Set what a step does beside the rule; no check."""
        self._options.max_norm, self._options.clip_value = max_norm, clip_value
        self._options.guard, self._options.norms = guard, norms

    def set_average_weight(self, double weight):
        """Set the share of the parameters in their moving averages; no check."""
        self._options.average_weight = weight

    def set_frozen(self, Py_ssize_t i, bint frozen):
        """Let a parameter rest from now on, or not."""
        self._frozen[i] = frozen

    def report(self):
        """Last step's norm of the gradients, clip factor, norm of the update; was it skipped?"""
        return self._report.grad_norm, self._report.clip_factor, self._report.update_norm, \
            self._report.failed >= 0

    def accumulated(self):
        """Gradients to use where ``step`` is given none, and how many each is the sum of."""
        raise ValueError("grads must be given; got None")

    def step(self, grads=None, *, double grad_scale=1.0, bint zero_grads=False):
        """Update all parameters by one step of the rule, in one call.

        Parameters
        ----------
        grads : ndarray or sequence of ndarray, optional
            One gradient for each parameter, of its shape and dtype; None for a parameter that
            rests in this step. Not changed, unless `zero_grads`. Without it the mean of those
            given to ``accumulate`` since the last step.
        grad_scale : float, default=1.0
            How many times too large the gradients are; they are divided by it first.
        zero_grads : bool, default=False
            Set the gradients to zero afterwards.

        Raises
        ------
        ValueError, TypeError
            If the gradients do not fit the parameters; nothing has been changed then.
        NonFiniteError
            If a gradient is not finite and ``nonfinite="raise"``; nothing has been changed then.
        """
        if grads is None:
            grads, count = self.accumulated()
            grad_scale *= count
        cdef bint alone = self._n == 1 and isinstance(grads, (np.ndarray, np.generic))
        cdef object sequence = (grads,) if alone else grads
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
        if not 0 < grad_scale < np.inf:
            raise ValueError(f"grad_scale must be a finite number above 0; got {grad_scale}")
        for i in range(self._n):
            param = self.params[i]
            if (cnp.PyArray_DATA(param) != self._tensors[i].param
                    or cnp.PyArray_SIZE(param) != self._tensors[i].size
                    or not cnp.PyArray_ISCARRAY(param)):
                raise ValueError(f"params[{i}] was resized, moved or made read-only "
                                 "after it was given to the optimizer")
            item = sequence[i]
            if item is None or self._frozen[i]:
                self._tensors[i].grad = NULL
                continue
            if not zero_grads and isinstance(item, np.generic):  # what 0-d arithmetic gives
                item = np.asarray(item)
                copies = copies or []
                copies.append(item)
            if not isinstance(item, np.ndarray):
                raise TypeError(f"grads[{i}] must be a NumPy array or None; "
                                f"got {type(item).__name__}")
            grad = item
            if _dtype_of(grad) != self._tensors[i].dtype:
                raise TypeError(f"grads[{i}] must be of dtype {param.dtype}, as params[{i}]; "
                                f"got {grad.dtype}")
            if not cnp.PyArray_SAMESHAPE(grad, param):
                raise ValueError(f"grads[{i}] must have the shape of params[{i}], "
                                 f"{item.shape} is not {self.params[i].shape}")
            if zero_grads and not cnp.PyArray_ISCARRAY(grad):
                raise ValueError(f"grads[{i}] must be C-contiguous and writeable to be set to zero")
            if not cnp.PyArray_ISCARRAY_RO(grad):
                grad = np.array(item, dtype=param.dtype, order="C")
                copies = copies or []
                copies.append(grad)
            if self._is_written(<uintptr_t>cnp.PyArray_DATA(grad),
                                <uintptr_t>cnp.PyArray_DATA(grad) + cnp.PyArray_NBYTES(grad)):
                raise ValueError(f"grads[{i}] must not overlap params or their states in memory")
            self._tensors[i].grad = cnp.PyArray_DATA(grad)
        if zero_grads:
            self._check_zeroed()
        if self.dynamic:
            self.before_step()
        self._options.grad_scale, self._options.zero_grads = grad_scale, zero_grads
        with nogil:
            status = c.fgd_step(&self._report, self._tensors, self._plans, self._sums, self._groups,
                                &self._options, self._n, team)
        if status == c.FGD_NOT_FINITE:
            self.skipped += 1
            if self.skips:
                return
            i = self._report.failed
            _raise_not_finite(i, self.names[i] if self.names else None, sequence[i], self.t + 1)
        self.t += 1

    def before_step(self):
        """Set what depends on the number of the step; called if ``dynamic``."""


# ---------------------------------------------------------------------- tensors of other libraries
cdef bint _is_dense(const dl.Tensor *t) noexcept:
    """Do the elements fill their memory, in whatever order of the dimensions?"""
    cdef int64_t expected = 1
    cdef int d, _k, found
    for d in range(t.ndim - 1, -1, -1):  # most are C-contiguous
        if t.shape[d] != 1:
            if t.strides[d] != expected:
                break
            expected *= t.shape[d]
    else:
        return True
    expected = 1
    for _k in range(t.ndim):  # the dimension whose stride comes next
        found = -1
        for d in range(t.ndim):
            if t.shape[d] == 0:
                return True
            if t.shape[d] != 1 and t.strides[d] >= expected and \
                    (found < 0 or t.strides[d] < t.strides[found]):
                found = d
        if found < 0:
            break
        if t.strides[found] != expected:
            return False
        expected *= t.shape[found]
    return expected == _size(t)  # or a stride is 0, or two are the same


cdef int64_t _size(const dl.Tensor *t) noexcept:
    cdef int64_t size = 1
    cdef int d
    for d in range(t.ndim):
        size *= t.shape[d]
    return size


cdef bint _same_shape(const dl.Tensor *a, const dl.Tensor *b) noexcept:
    return a.ndim == b.ndim and memcmp(a.shape, b.shape, a.ndim * sizeof(int64_t)) == 0


cdef bint _same_layout(const dl.Tensor *a, const dl.Tensor *b) noexcept:
    """Of one shape and, where it matters, one order of elements?"""
    cdef int d
    if not _same_shape(a, b):
        return False
    for d in range(a.ndim):
        if a.strides[d] != b.strides[d] and a.shape[d] > 1:
            return False
    return True


cdef inline PyObject *_value(state, name) noexcept:
    """Item of a dict, borrowed; NULL if either or the item is None or missing."""
    cdef PyObject *found = NULL if state is None or name is None else PyDict_GetItem(state, name)
    return NULL if found == <PyObject *>None else found


cdef class TensorStepper(Stepper):
    """A Stepper over the CPU tensors of a library that speaks DLPack, such as torch.

    No address is kept: in every step the gradients, the states, and the memory of all of them are
    looked up anew, since their owners may replace any of them. Tensors may have any dense layout;
    their elements are taken in the order in which they lie in memory.

    Parameters
    ----------
    kind : type
        Of the tensors, with ``__dlpack_c_exchange_api__``.
    rule : str
        Name of a rule, a key of ``RULES``.
    params : list of tensor
        First the parameters, whose gradients are in their attribute ``grad``; then tensors
        that are averaged and not updated.
    groups : list of int
        For each parameter the number of its group.
    hypers : list of sequence of float
        For each group the rule's hyper-parameters, in the order of its row.
    averages : list of tensor or None
        For each of `params` where its moving average is kept, or None.
    counter : str or None
        Name of the 0-d tensor in a parameter's states that counts its steps.
    """

    cdef object _kind  # a type
    cdef dl.FromObject _from_object
    cdef Py_ssize_t _n_params, _room
    cdef list _entries  # of the dict of states, keys and values in turns
    cdef list _keeps  # for each group the names of the states that are kept, None for the others
    cdef list _scalars  # names of the numbers that are carried along, the counter first
    cdef bint _counts, _moved
    cdef void **_numbers  # where they are, for each parameter
    cdef char *_doubles  # is such a number a float64?

    def __init__(self, object kind, str rule, list params, list groups, list hypers,
                 list averages, counter):
        if not isinstance(kind, type):
            raise TypeError(f"kind must be a type; got {kind!r}")
        cdef dl.ExchangeAPI *api = <dl.ExchangeAPI *>PyCapsule_GetPointer(
            kind.__dlpack_c_exchange_api__, b"dlpack_exchange_api")
        if api.major != 1:
            raise ImportError(f"{kind.__name__} must speak DLPack 1; it speaks {api.major}")
        self._kind, self._from_object = kind, api.from_object
        self._counts = counter is not None
        self._scalars = ([counter] if self._counts else []) + list(RULES[rule]["kept"])
        self._keeps = [()] * len(hypers)
        self._n_params, self._entries, self._moved = len(groups), [None], True
        Stepper.__init__(self, rule, params, groups, hypers, [None] * len(groups), averages)
        self._numbers = <void **>PyMem_Calloc(max(self._n, 1) * N_KEPT, sizeof(void *))
        self._doubles = <char *>PyMem_Calloc(max(self._n, 1) * N_KEPT, 1)
        if not (self._numbers and self._doubles):
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self._numbers)
        PyMem_Free(self._doubles)

    def set_buffers(self, list states, averages):
        """Take the states' dicts and the averages; their memory is looked up in each step."""
        self.states, self.averages = states, averages

    def set_kept_states(self, Py_ssize_t group, tuple names):
        """Set the names of the states of a group, None for one that is not kept."""
        self._keeps[group] = names

    # ---- what a subclass says ----

    def set_aside(self, Py_ssize_t i, grad):
        """Raise, or let parameter `i` be: it or its gradient is nothing that can be used here."""
        raise TypeError(f"params[{i}] and its gradient must be dense tensors on the CPU")

    def start(self, Py_ssize_t i):
        """Make what is missing of the states of parameter `i`; return them and the new names."""
        raise NotImplementedError

    def undo(self, Py_ssize_t i, made):
        """Remove what ``start`` made."""

    def lay_out(self, tensor, like):
        """Copy of a tensor with the order of elements of another."""
        raise NotImplementedError

    def scalar(self, value):
        """0-d tensor of float32 or float64 of a number."""
        raise NotImplementedError

    # ---- a step ----

    def is_for(self, list param_groups):
        """Whether these groups hold the parameters that it was made for."""
        cdef Py_ssize_t i = 0, g = 0
        if len(param_groups) != self._n_groups:
            return False
        for group in param_groups:
            for param in group["params"]:
                if i >= self._n_params or self.params[i] is not param \
                        or self._tensors[i].group != g:
                    return False
                i += 1
            g += 1
        return i == self._n_params

    cdef int _read(self, object tensor, dl.Tensor *out) except -2:
        """Our number for the dtype of a tensor whose memory can be used, or -1."""
        if not PyObject_TypeCheck(tensor, <PyTypeObject *>self._kind):
            return -1
        if self._from_object(<void *>tensor, out) != 0:
            PyErr_Clear()  # sparse, without memory, of a dtype that DLPack does not have
            return -1
        out.data = <char *>out.data + out.byte_offset
        if out.device.device_type != dl.CPU or out.dtype.code != dl.FLOAT or out.dtype.lanes != 1:
            return -1
        return c.FGD_FLOAT32 if out.dtype.bits == 32 else \
            c.FGD_FLOAT64 if out.dtype.bits == 64 else -1

    cdef void _put(self, void **slot, void *address) noexcept:
        if slot[0] != address:
            slot[0], self._moved = address, True

    cdef int _find_states(self, object state) except -1:
        """Look up the parameters' dicts if the dict of all has changed."""
        cdef Py_ssize_t i = 0
        cdef list entries = self._entries
        if 2 * len(state) == len(entries):
            for key, value in (<dict>state).items():
                if entries[i] is not key or entries[i + 1] is not value:
                    break
                i += 2
            else:
                return 0
        self.states = [state.get(param) for param in self.params[:self._n_params]]
        for i, own in enumerate(self.states):
            if own is not None and not isinstance(own, dict):
                raise TypeError(f"state of {self._name(i)} must be a dict; got {own!r:.80}")
        self._entries = [item for pair in state.items() for item in pair]
        return 0

    cdef bint _collect(self, Py_ssize_t i, PyObject **found) noexcept:
        """Fetch states and numbers of parameter `i`, NULL for what is not kept; is any missing?"""
        cdef object state = self.states[i], name
        cdef Py_ssize_t at = 0
        cdef bint missing = False
        for name in <tuple>self._keeps[self._tensors[i].group]:
            found[at] = _value(state, name)
            missing |= name is not None and found[at] == NULL
            at += 1
        for name in self._scalars:
            found[at] = _value(state, name)
            missing |= found[at] == NULL
            at += 1
        return missing

    cdef int _look_up_states(self, Py_ssize_t i, const dl.Tensor *like, bint takes_part,
                             list made) except -1:
        """Find the states of parameter `i` and the numbers that belong to them."""
        cdef c.fgd_tensor *t = &self._tensors[i]
        cdef tuple names = self._keeps[t.group]
        cdef Py_ssize_t k, n_states = len(names)
        cdef PyObject *values[16]  # at least FGD_MAX_STATES + N_KEPT
        cdef dl.Tensor found
        cdef int dtype
        cdef double value
        cdef bint first = self._collect(i, values)
        if first and takes_part:
            self.states[i], new = self.start(i)
            made.append((i, new))
            self._collect(i, values)
        for k in range(n_states):
            if values[k] == NULL:
                self._put(&t.state[k], NULL)
                continue
            tensor = <object>values[k]
            dtype = self._read(tensor, &found)
            if dtype != t.dtype or not _same_shape(&found, like):
                raise ValueError(
                    f"state {names[k]!r} of {self._name(i)} must be a tensor of its shape and "
                    f"dtype; got {tensor!r:.80}")
            if not _same_layout(&found, like):
                tensor = self.states[i][names[k]] = self.lay_out(tensor, self.params[i])
                self._read(tensor, &found)
            self._put(&t.state[k], found.data)
        if not takes_part:
            return 0
        t.t = 0 if self._counts else 1
        for k in range(len(self._scalars)):
            tensor = <object>values[n_states + k]
            dtype = self._read(tensor, &found)
            if dtype < 0 or _size(&found) != 1:
                tensor = self.states[i][self._scalars[k]] = self.scalar(tensor)
                dtype = self._read(tensor, &found)
            value = (<double *>found.data)[0] if dtype == c.FGD_FLOAT64 else \
                (<float *>found.data)[0]
            self._numbers[i * N_KEPT + k] = found.data
            self._doubles[i * N_KEPT + k] = dtype == c.FGD_FLOAT64
            if k == 0 and self._counts:
                if not 0 <= value < 2.0 ** 62:
                    raise ValueError(f"state {self._scalars[0]!r} of {self._name(i)} must be 0 or "
                                     f"more; got {value}")
                t.t = <int64_t>value
            else:
                t.kept[k - self._counts] = value
        t.since = t.t if first else -1  # what was there, has been started by somebody
        return 0

    cdef int _look_up(self, list grads, list touched, list made) except -1:
        """Fill the table from the tensors as they are now; nothing is changed yet."""
        cdef Py_ssize_t i
        cdef c.fgd_tensor *t
        cdef dl.Tensor found, other
        cdef int dtype
        for i in range(self._n):
            t = &self._tensors[i]
            t.grad = NULL
            param = self.params[i]
            grad = param.grad if i < self._n_params else None
            average = (<list>self.averages)[i]
            dtype = self._read(param, &found)
            if dtype < 0 or not _is_dense(&found) \
                    or (grad is not None and self._read(grad, &other) < 0):
                if grad is not None or average is not None:
                    self.set_aside(i, grad)
                grads.append(None)
                t.size, self._moved = 0, True  # and so it is not looked at
                continue
            if t.size != _size(&found) or t.dtype != dtype:
                t.size, t.dtype, self._moved = _size(&found), dtype, True
            self._put(&t.param, found.data)
            if i < self._n_params:
                self._look_up_states(i, &found, grad is not None, made)
            if grad is not None:
                if not _same_shape(&other, &found) or 8 * _item(dtype) != other.dtype.bits:
                    raise ValueError(
                        f"the gradient of {self._name(i)} must have its shape and dtype; "
                        f"got {grad.dtype} of shape {tuple(grad.shape)}")
                if not _same_layout(&other, &found):
                    grad = self.lay_out(grad, param)
                    self._read(grad, &other)
                t.grad = other.data if t.size else <void *>t  # nobody looks behind it
                touched.append(param)
            grads.append(grad)  # and keep it alive
            if average is None:
                self._put(&t.average, NULL)
            elif self._read(average, &other) != dtype or not _same_layout(&other, &found):
                raise ValueError(f"the average of {self._name(i)} must have its shape, dtype and "
                                 f"layout; got {average.dtype} of shape {tuple(average.shape)}")
            else:
                self._put(&t.average, other.data)
                touched.append(average)
        return 0

    cdef str _name(self, Py_ssize_t i):
        named = self.names and i < len(self.names)
        return f"params[{i}]" + (f" ({self.names[i]})" if named else "")

    def _note_what_is_written(self):
        """Note the memory that a step writes to; no two parts of it may overlap."""
        cdef c.fgd_tensor *t
        cdef Py_ssize_t i
        spans = []
        for i in range(self._n):
            t = &self._tensors[i]
            each = [("the average of ", <uintptr_t>t.average)]
            if i < self._n_params:
                each.append(("", <uintptr_t>t.param))
                each += [("a state of ", <uintptr_t>t.state[k]) for k in range(c.FGD_MAX_STATES)]
            for what, begin in each:
                if begin and t.size:
                    spans.append((begin, begin + t.size * _item(t.dtype), what, i))
        spans.sort()
        for (_, end, one, i), (begin, _, other, k) in zip(spans, spans[1:]):
            if begin < end:
                raise ValueError(f"params must not overlap in memory; {one}{self._name(i)} and "
                                 f"{other}{self._name(k)} do")
        for i, span in enumerate(spans):
            self._written[2 * i], self._written[2 * i + 1] = span[0], span[1]
        self._n_written, self._moved = len(spans), False

    cdef int _check_grads(self) except -1:
        cdef Py_ssize_t i
        cdef c.fgd_tensor *t
        cdef uintptr_t begin
        for i in range(self._n_params):
            t = &self._tensors[i]
            begin = <uintptr_t>t.grad
            if begin and t.size and self._is_written(begin, begin + t.size * _item(t.dtype)):
                raise ValueError(f"the gradient of {self._name(i)} must not overlap params or "
                                 "their states in memory")
        return 0

    cdef int _make_room(self) except -1:
        cdef Py_ssize_t wanted = c.fgd_n_sums(self._tensors, self._n)
        if wanted > self._room:
            sums = PyMem_Realloc(self._sums, wanted * sizeof(double))
            if not sums:
                raise MemoryError
            self._sums, self._room = <double *>sums, wanted
        return 0

    cdef void _carry_along(self) noexcept:
        """Write the numbers of the parameters that took part back to where they came from."""
        cdef Py_ssize_t i, k, n = len(self._scalars)
        cdef double value
        cdef c.fgd_tensor *t
        for i in range(self._n_params):
            t = &self._tensors[i]
            if not t.grad:
                continue
            for k in range(n):
                value = <double>t.t if self._counts and k == 0 else t.kept[k - self._counts]
                if self._doubles[i * N_KEPT + k]:
                    (<double *>self._numbers[i * N_KEPT + k])[0] = value
                else:
                    (<float *>self._numbers[i * N_KEPT + k])[0] = <float>value

    def step_tensors(self, state, int team, double grad_scale):
        """Take one step, in one call.

        Parameters
        ----------
        state : dict
            Of each parameter to the dict of its states.
        team : int
            Number of threads.
        grad_scale : float
            How many times too large the gradients are; they are divided by it first.

        Returns
        -------
        list of tensor or None
            What was written to, states aside; None if the step was skipped.

        Raises
        ------
        ValueError, TypeError
            If tensors do not fit; nothing has been changed then.
        NonFiniteError
            If a gradient is not finite and ``nonfinite="raise"``; nothing has been changed then.
        """
        cdef list grads = [], touched = [], made = []
        cdef c.fgd_status status
        if not 0 < grad_scale < np.inf:
            raise ValueError(f"grad_scale must be a finite number above 0; got {grad_scale}")
        self._options.grad_scale, self._options.zero_grads = grad_scale, False
        if not isinstance(state, dict):
            raise TypeError(f"state must be a dict; got {type(state).__name__}")
        status = c.FGD_NOT_FINITE
        try:
            self._find_states(state)
            self._look_up(grads, touched, made)
            if self._moved:
                self._note_what_is_written()
            self._check_grads()
            self._make_room()
            with nogil:
                status = c.fgd_step(&self._report, self._tensors, self._plans, self._sums,
                                    self._groups, &self._options, self._n, team)
        finally:
            if status != c.FGD_OK:
                self._entries = [None]  # look again
                for i, names in made:
                    self.undo(i, names)
        if status == c.FGD_NOT_FINITE:
            self.skipped += 1
            if self.skips:
                return None
            i = self._report.failed
            _raise_not_finite(i, self.names[i] if self.names else None,
                              grads[i].detach().numpy(), self.t + 1)
        self._carry_along()
        self.t += 1
        return touched


cdef Py_ssize_t _item(int dtype) noexcept:
    return 4 if dtype == c.FGD_FLOAT32 else 8


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
                 cnp.ndarray lr, cnp.ndarray kept, int64_t t, Py_ssize_t batch_size,
                 Py_ssize_t start, Py_ssize_t stop, int n_threads=0):
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
    kept : ndarray of shape (N_KEPT,)
        What the rule carries from update to update, float64; zeros at first.
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
    if kept.dtype != np.float64 or not kept.flags.carray or kept.size != N_KEPT:
        raise ValueError(f"kept must be a float64 array of {N_KEPT} numbers")
    stretch.kept = <double *>cnp.PyArray_DATA(kept)
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
