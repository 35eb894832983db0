# Optimizers: the buffers of NumPy arrays. A part of _core.pyx.

# the kinds of rules whose step takes a tensor block by block, and so can convert it on the way
BLOCKWISE = ("elementwise", "layerwise", "listwise")


cdef int _note_units(c.fgd_tensor *t, tuple shape) except -1:
    """Say which elements of a C-contiguous array of `t.size` elements share the first index."""
    t.n_dims = <int>len(shape)
    t.n_units = shape[0] if t.n_dims > 1 else 1
    t.unit_stride = t.size // t.n_units if t.n_units else 0
    return 0


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
        is not kept. Of the parameter's dtype (float32 for one of 16 bits), of uint16 for bfloat16
        or of uint8, ``code_bytes(size)`` of them. Behind them the float32 master copy of a
        parameter of 16 bits; without it, it is rounded stochastically.
    averages : list of ndarray or None
        For each parameter where its moving average is kept; None if none is.
    slow : list of ndarray or None
        For each parameter the slow weights of look-ahead; None if there are none.
    """

    cdef readonly str rule
    cdef readonly list params
    cdef readonly list states
    cdef readonly object averages
    cdef readonly object slow
    cdef public int64_t t  # updates done
    cdef public int64_t skipped  # steps that were not taken because a gradient was not finite
    cdef public bint skips  # are they skipped, or is an error raised?
    cdef public bint dynamic  # is there anything to do before a step?
    cdef public object names  # of the parameters, a list or None
    cdef list _wholes  # for each group the projection of whole tensors, or None
    cdef bint _has_wholes
    cdef int64_t _period  # of look-ahead; 0 for none
    cdef c.fgd_options _options
    cdef c.fgd_report _report
    cdef Py_ssize_t _n, _n_groups
    cdef c.fgd_tensor *_tensors
    cdef c.fgd_group *_groups
    cdef c.fgd_plan *_plans
    cdef double *_sums
    cdef Py_ssize_t _room  # for so many sums
    cdef void *_desks  # to work on matrices at
    cdef size_t _desks_size
    cdef char *_frozen  # parameters that rest, whatever their gradient
    cdef uintptr_t *_written  # begin and end of what is written to, ascending
    cdef Py_ssize_t _n_written
    cdef uintptr_t *_zeroed  # the same of the gradients that are to be zeroed
    cdef list _held  # the arrays whose addresses are noted

    def __init__(self, str rule, list params, list groups, list hypers, list states, averages,
                 slow=None):
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
            2 * max(self._n, 1) * (c.FGD_MAX_STATES + 3), sizeof(uintptr_t))
        self._zeroed = <uintptr_t *>PyMem_Calloc(2 * max(self._n, 1), sizeof(uintptr_t))
        if not (self._tensors and self._groups and self._plans and self._frozen and self._written
                and self._zeroed):
            raise MemoryError
        functions = RULES[rule].get("functions", {})
        for g, values in enumerate(hypers):
            self._groups[g].rule = RULES[rule]["number"]
            for dtype, address in functions.items():
                self._groups[g].own[_dtypes[dtype]] = <c.fgd_function><uintptr_t>address
            for k, value in enumerate(values):
                self._groups[g].hypers[k] = value
        for i, g in enumerate(groups):
            self._tensors[i].group = g
        self._wholes = [None] * self._n_groups
        for g in range(self._n_groups):
            self.set_projection(g, None)
        self._options.grad_scale, self._options.average_weight = 1, 0
        self._options.max_norm = self._options.agc = self._options.clip_value = np.inf
        self.set_buffers(states, averages, slow)
        self._make_room()

    def __dealloc__(self):
        self._release()

    cdef void _release(self) noexcept:
        PyMem_Free(self._tensors)
        PyMem_Free(self._groups)
        PyMem_Free(self._plans)
        PyMem_Free(self._sums)
        PyMem_Free(self._desks)
        PyMem_Free(self._frozen)
        PyMem_Free(self._written)
        PyMem_Free(self._zeroed)
        self._tensors, self._groups, self._plans = NULL, NULL, NULL
        self._sums, self._frozen, self._written, self._zeroed = NULL, NULL, NULL, NULL
        self._desks, self._desks_size = NULL, 0
        self._n = self._room = 0

    cdef int _make_room(self) except -1:
        """Have as much scratch as a step with these tensors and options takes."""
        cdef Py_ssize_t wanted = max(
            c.fgd_n_sums(self._tensors, &self._options, self._n), 1)
        if wanted > self._room:
            sums = PyMem_Realloc(self._sums, wanted * sizeof(double))
            if not sums:
                raise MemoryError
            self._sums, self._room = <double *>sums, wanted
        return 0

    def set_buffers(self, list states, averages, slow):
        """Use these arrays from now on; if they do not fit, nothing changes."""
        cdef Py_ssize_t i, n_states = len(RULES[self.rule]["states"])
        self._check(states, averages, slow)
        spans = self._spans(states, averages, slow)
        self.states, self.averages, self.slow = states, averages, slow
        self._held = [a for arrays in states for a in arrays] + list(averages or ()) + list(
            slow or ())
        for i in range(self._n):
            self._tensors[i].param = cnp.PyArray_DATA(self.params[i])
            self._tensors[i].size = self.params[i].size
            self._set_dtypes(i, states[i])
            _note_units(&self._tensors[i], self.params[i].shape)
            self._tensors[i].slow = NULL if slow is None else cnp.PyArray_DATA(slow[i])
            if self.params[i].ndim >= 2:
                self._tensors[i].outer = self.params[i].shape[0]
                self._tensors[i].sides[0], self._tensors[i].sides[1] = self.params[i].shape[-2:]
            self._tensors[i].average = NULL if averages is None else cnp.PyArray_DATA(averages[i])
            self._note_matrices(i, self.params[i].shape)
            for k, state in enumerate(states[i][:n_states]):
                self._tensors[i].state[k] = NULL if state is None else cnp.PyArray_DATA(state)
            master = states[i][n_states] if len(states[i]) > n_states else None
            self._tensors[i].master = NULL if master is None else cnp.PyArray_DATA(master)
        for k, (begin, end, _) in enumerate(spans):
            self._written[2 * k] = begin
            self._written[2 * k + 1] = end
        self._n_written = len(spans)

    cdef int _make_matrix_room(self, int team) except -1:
        cdef size_t wanted = c.fgd_matrix_room(self._tensors, self._groups, self._n, team)
        if wanted > self._desks_size:
            room = PyMem_Realloc(self._desks, wanted)
            if not room:
                raise MemoryError
            self._desks, self._desks_size = room, wanted
        return 0

    cdef int _check(self, list states, averages, slow) except -1:
        """Refuse buffers that the kernels cannot take."""
        cdef int dtype, param_dtype
        rows = RULES[self.rule]["states"]
        for i, param in enumerate(self.params):
            param_dtype = _describe_param(param, f"params[{i}]")
            dtype = _computed(param_dtype)
            self._check_rule(i, dtype)
            if param_dtype != dtype and RULES[self.rule]["kind"] not in BLOCKWISE:
                raise TypeError(f"params[{i}] must be of dtype float32 or float64 for "
                                f"{self.rule!r}; got {param.dtype}")
            for k, state in enumerate(states[i]):
                if state is None:
                    continue
                what = f"state {k} of params[{i}]"
                if k < len(rows):
                    shape = state_shape(rows[k][1], param.shape)
                    size = 0 if shape is None else math.prod(shape)
                    _describe_state(state, what, dtype, size, _code_dtype(rows[k][0]))
                elif param_dtype != dtype:
                    _data(state, what, dtype, param.size, True)
                else:
                    raise TypeError(f"{what} must be None; params[{i}] has no master copy")
            if averages is not None:
                _data(averages[i], f"average of params[{i}]", dtype, param.size, True)
            if slow is not None:
                _data(slow[i], f"slow weights of params[{i}]", dtype, param.size, True)
        return 0

    cdef int _check_rule(self, Py_ssize_t i, int dtype) except -1:
        """Refuse a parameter of a dtype for which a user's own rule has no function."""
        cdef c.fgd_group *group = &self._groups[self._tensors[i].group]
        if group.rule < 0 and not group.own[dtype]:
            known = ", ".join(RULES[self.rule]["functions"])
            raise TypeError(f"params[{i}] must be of dtype {known}: "
                            "there is no function for others")
        return 0

    cdef int _note_matrices(self, Py_ssize_t i, tuple shape) except -1:
        """Tell a rule that keeps moments of rows and columns which parameters have some."""
        cdef bint has = RULES[self.rule]["kind"] == "factored" and len(shape) > 1 and 0 not in shape
        self._tensors[i].rows = shape[len(shape) - 2] if has else 0
        self._tensors[i].columns = shape[len(shape) - 1] if has else 0

    cdef int _set_dtypes(self, Py_ssize_t i, tuple states) except -1:
        """Note what the parts of a parameter are kept in; they have been checked."""
        cdef c.fgd_tensor *t = &self._tensors[i]
        t.param_dtype = t.grad_dtype = _param_dtype_of(self.params[i])
        t.dtype = _computed(t.param_dtype)
        t.low = t.param_dtype != t.dtype
        for k, (name, _) in enumerate(RULES[self.rule]["states"]):
            if states[k] is not None:
                t.state_dtype[k] = _state_dtype_of(states[k], t.dtype, _code_dtype(name))
                t.low |= t.state_dtype[k] != t.dtype
        return 0

    def _spans(self, list states, averages, slow):
        """Begin, end and name of what is written to, ascending.

        No two may overlap: the result would depend on the order.
        """
        spans = []
        for i, param in enumerate(self.params):
            mine = [(f"params[{i}]", param)]
            mine += [(f"a state of params[{i}]", s) for s in states[i] if s is not None]
            if averages is not None:
                mine.append((f"the average of params[{i}]", averages[i]))
            if slow is not None:
                mine.append((f"the slow weights of params[{i}]", slow[i]))
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

    cdef Py_ssize_t _grad_size(self, Py_ssize_t i) noexcept:
        """Number of elements of a gradient: those of its rows, or all."""
        cdef c.fgd_tensor *t = &self._tensors[i]
        return t.n_index * t.row if t.index else t.size

    cdef void _set_rows(self, Py_ssize_t i, void *indices, Py_ssize_t n, Py_ssize_t of) noexcept:
        """Say which `n` rows, of `of` that the parameter has, its gradient's elements are."""
        cdef c.fgd_tensor *t = &self._tensors[i]
        t.index, t.n_index = <const int64_t *>(indices if n else t), n  # NULL would be all rows
        t.row = t.size // max(of, 1)

    cdef int _check_place(self, Py_ssize_t i) except -1:
        """Refuse a parameter that is no longer where it was."""
        cdef cnp.ndarray param = self.params[i]
        if (cnp.PyArray_DATA(param) != self._tensors[i].param
                or cnp.PyArray_SIZE(param) != self._tensors[i].size
                or not cnp.PyArray_ISCARRAY(param)):
            raise ValueError(f"params[{i}] was resized, moved or made read-only "
                             "after it was given to the optimizer")
        return 0

    cdef tuple _steps_ahead(self, Py_ssize_t n):
        """Hyper-parameters of each group, and the share in the averages, of the next n steps."""
        cdef int64_t t = self.t
        cdef Py_ssize_t j, g, k
        hypers, shares = np.zeros((n, self._n_groups, c.FGD_MAX_HYPERS)), np.zeros(n)
        cdef double *hyper = <double *>cnp.PyArray_DATA(hypers)
        cdef double *share = <double *>cnp.PyArray_DATA(shares)
        try:
            for j in range(n):
                self.t = t + j
                self.before_step()
                share[j] = self._options.average_weight
                for g in range(self._n_groups):
                    for k in range(c.FGD_MAX_HYPERS):
                        hyper[(j * self._n_groups + g) * c.FGD_MAX_HYPERS + k] = \
                            self._groups[g].hypers[k]
        finally:
            self.t = t
        return hypers, shares

    cdef int _take_grad(self, Py_ssize_t i, cnp.ndarray grad) except -1:
        """Note a gradient's address."""
        if self._is_written(<uintptr_t>cnp.PyArray_DATA(grad),
                            <uintptr_t>cnp.PyArray_DATA(grad) + cnp.PyArray_NBYTES(grad)):
            raise ValueError(f"grads[{i}] must not overlap params or their states in memory")
        self._tensors[i].grad = cnp.PyArray_DATA(grad)
        return 0

    def is_rows(self, grad):
        """Whether a gradient has some rows only."""
        return False

    def rows_of(self, Py_ssize_t i, grad):
        """Rows of such a gradient, ascending, their values, checked, and what holds them."""
        raise TypeError(f"grads[{i}] must be an array; got {type(grad).__name__}")

    cdef int _check_zeroed(self) except -1:
        """Refuse to zero a gradient that lies in another's memory: which is read first?"""
        cdef Py_ssize_t i, n = 0
        for i in range(self._n):
            if self._tensors[i].grad and self._tensors[i].size:
                self._zeroed[2 * n] = <uintptr_t>self._tensors[i].grad
                self._zeroed[2 * n + 1] = (<uintptr_t>self._tensors[i].grad
                                           + <uintptr_t>(self._grad_size(i)
                                                         * _item(self._tensors[i].grad_dtype)))
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

    def configure(self, *, double max_norm, bint centralize, double agc, double clip_value,
                  bint guard, bint norms):
        """Set what a step does beside the rule; no check."""
        self._options.max_norm, self._options.clip_value = max_norm, clip_value
        self._options.centralize, self._options.agc = centralize, agc
        self._options.guard, self._options.norms = guard, norms
        self._make_room()

    def set_lookahead(self, int64_t period, double weight):
        """Look ahead every so many steps, 0 for never; no check."""
        self._period, self._options.slow_weight = period, weight

    cdef void _note_what_is_due(self) noexcept:
        """Set what depends on the number of the step that comes."""
        self._options.looks_ahead = self._period > 0 and (self.t + 1) % self._period == 0

    def set_projection(self, Py_ssize_t g, projection):
        """Project a group's parameters after each step; no check."""
        bounds = (-np.inf, np.inf) if projection is None else projection.bounds
        self._groups[g].lower, self._groups[g].upper = bounds
        whole = projection is not None and projection.is_whole
        self._groups[g].averages_wait = whole
        self._wholes[g] = projection if whole else None
        self._has_wholes = any(each is not None for each in self._wholes)

    @property
    def projects_wholes(self):
        """Whether a step ends with projections of whole tensors, in Python."""
        return self._has_wholes

    def as_array(self, Py_ssize_t i):
        """Parameter `i` as a NumPy array: its own memory."""
        return self.params[i]

    cdef int _project_wholes(self, int team) except -1:
        """Project the tensors that were updated and are projected as a whole; average them."""
        cdef Py_ssize_t i
        for i in range(self._n):
            projection = self._wholes[self._tensors[i].group]
            if projection is not None and self._tensors[i].grad:
                param = self.as_array(i)
                projection(param, out=param)
        with nogil:
            c.fgd_average(self._tensors, self._groups, &self._options, self._n, team)
        return 0

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
            One gradient for each parameter, of its shape and dtype (or float32, if that has 16
            bits); None for a parameter that rests in this step; a :class:`RowGradient`, or a sparse
            matrix of SciPy, for rules that take some rows. Not changed, unless `zero_grads`.
            Without it the mean of those given to ``accumulate`` since the last step.
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
        cdef bint alone = self._n == 1 and not isinstance(grads, (list, tuple)) and (
            isinstance(grads, (np.ndarray, np.generic)) or self.is_rows(grads))
        cdef object sequence = (grads,) if alone else grads
        cdef list copies = None, rows = None
        cdef cnp.ndarray param, grad, indices
        cdef Py_ssize_t i
        cdef bint as_param
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
            self._check_place(i)
            item = sequence[i]
            if item is None or self._frozen[i]:
                self._tensors[i].grad = self._tensors[i].index = NULL
                continue
            if not isinstance(item, (np.ndarray, np.generic)) and self.is_rows(item):
                rows = rows or [None] * self._n
                indices, grad, holder = rows[i] = self.rows_of(i, item)
                if zero_grads and not holder.flags.writeable:
                    raise ValueError(f"grads[{i}] must be writeable to be set to zero")
                if self._tensors[i].low:
                    raise TypeError(f"grads[{i}] must be an array: states or parameters of fewer "
                                    "bits have no gradients of some rows")
                self._set_rows(i, cnp.PyArray_DATA(indices), len(indices), len(param))
                self._take_grad(i, grad)
                continue
            self._tensors[i].index = NULL
            if not zero_grads and isinstance(item, np.generic):  # what 0-d arithmetic gives
                item = np.asarray(item)
                copies = copies or []
                copies.append(item)
            if not isinstance(item, np.ndarray):
                raise TypeError(f"grads[{i}] must be a NumPy array or None; "
                                f"got {type(item).__name__}")
            grad = item
            as_param = cnp.PyArray_TYPE(grad) == cnp.PyArray_TYPE(param)
            self._tensors[i].grad_dtype = self._tensors[i].param_dtype if as_param else \
                self._tensors[i].dtype
            if not as_param and _dtype_of(grad) != self._tensors[i].dtype:
                raise TypeError(f"grads[{i}] must be of dtype {param.dtype}, as params[{i}]; "
                                f"got {grad.dtype}")
            if not cnp.PyArray_SAMESHAPE(grad, param):
                raise ValueError(f"grads[{i}] must have the shape of params[{i}], "
                                 f"{item.shape} is not {self.params[i].shape}")
            if zero_grads and not cnp.PyArray_ISCARRAY(grad):
                raise ValueError(f"grads[{i}] must be C-contiguous and writeable to be set to zero")
            if not cnp.PyArray_ISCARRAY_RO(grad):
                grad = np.array(item, dtype=param.dtype if as_param else np.float32, order="C")
                copies = copies or []
                copies.append(grad)
            self._take_grad(i, grad)
        if zero_grads:
            self._check_zeroed()
        if self.dynamic:
            self.before_step()
        self._options.grad_scale, self._options.zero_grads = grad_scale, zero_grads
        self._note_what_is_due()
        self._options.step = self.t
        self._make_matrix_room(team)
        with nogil:
            status = c.fgd_step(&self._report, self._tensors, self._plans, self._sums, self._desks,
                                self._groups, &self._options, self._n, team)
        if status == c.FGD_NOT_FINITE:
            self.skipped += 1
            if self.skips:
                return
            i = self._report.failed
            grad = sequence[i] if rows is None or rows[i] is None else rows[i][1]
            _raise_not_finite(i, self.names[i] if self.names else None, grad, self.t + 1)
        if self._has_wholes:
            self._project_wholes(team)
        self.t += 1
        for i in range(len(rows) if rows and zero_grads else 0):
            if rows[i] is not None:
                rows[i][2][...] = 0

    def before_step(self):
        """Set what depends on the number of the step; called if ``dynamic``."""
