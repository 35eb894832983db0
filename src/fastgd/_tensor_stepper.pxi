# Optimizers: tensors of other libraries, through DLPack. A part of _core.pyx.

cdef int64_t _extent(const dl.Tensor *t) noexcept:
    """Number of elements from the first to the last in memory; 0 if two share a place, or none."""
    cdef int64_t extent = 1
    cdef int64_t passed = 0  # the strides that have been looked at
    cdef int d, _k, found, left = 0
    for d in range(t.ndim - 1, -1, -1):  # most are C-contiguous
        if t.shape[d] != 1:
            if t.strides[d] != extent:
                break
            extent *= t.shape[d]
    else:
        return extent
    extent = 1
    for d in range(t.ndim):
        left += t.shape[d] != 1
    for _k in range(left):  # the dimension whose stride comes next
        found = -1
        for d in range(t.ndim):
            if t.shape[d] != 1 and t.strides[d] > passed and \
                    (found < 0 or t.strides[d] < t.strides[found]):
                found = d
        if found < 0 or t.strides[found] < extent:  # a stride is 0, or two are the same
            return 0
        passed = t.strides[found]
        extent += passed * (t.shape[found] - 1)
    return extent


cdef int64_t _size(const dl.Tensor *t) noexcept:
    cdef int64_t size = 1
    cdef int d
    for d in range(t.ndim):
        size *= t.shape[d]
    return size


cdef int64_t _reals(const dl.Tensor *t) noexcept:
    """Number of real numbers: two make a complex one."""
    return _size(t) * (2 if t.dtype.code == dl.COMPLEX else 1)


cdef bint _same_shape(const dl.Tensor *a, const dl.Tensor *b) noexcept:
    return a.ndim == b.ndim and memcmp(a.shape, b.shape, a.ndim * sizeof(int64_t)) == 0


cdef bint _is_of(int dtype, const dl.Tensor *a, const dl.Tensor *like, int one, int other) noexcept:
    """Is `a`, of our `dtype`, of one of two dtypes, real or complex as `like`, and of its shape?"""
    return (dtype == one or dtype == other) and _same_shape(a, like) \
        and (a.dtype.code == dl.COMPLEX) == (like.dtype.code == dl.COMPLEX)


cdef bint _is_matrix_like(const dl.Tensor *t) noexcept:
    """Is it C-contiguous, with two axes or more?"""
    cdef int64_t expected = 1
    cdef int d
    for d in range(t.ndim - 1, -1, -1):
        if t.shape[d] != 1 and t.strides[d] != expected:
            return False
        expected *= t.shape[d]
    return t.ndim > 1


cdef bint _same_but(const dl.Tensor *a, const dl.Tensor *b, int axis) noexcept:
    """Are they alike, but that this axis, counted from the end, has length 1 in `a`?"""
    cdef int d
    if a.ndim != b.ndim or a.dtype.code != b.dtype.code or a.dtype.bits != b.dtype.bits:
        return False
    for d in range(a.ndim):
        if a.shape[d] != (1 if d == a.ndim - axis else b.shape[d]):
            return False
    return True


cdef bint _same_layout(const dl.Tensor *a, const dl.Tensor *b) noexcept:
    """Of one shape and, where it matters, one order of elements?"""
    cdef int d
    if not _same_shape(a, b):
        return False
    for d in range(a.ndim):
        if a.strides[d] != b.strides[d] and a.shape[d] > 1:
            return False
    return True


cdef void _note_layout(c.fgd_tensor *t, const dl.Tensor *like) noexcept:
    """Say which elements, in the order of memory, share the first index."""
    t.n_dims = like.ndim
    t.n_units, t.unit_stride = 1, t.size
    if like.ndim > 1 and like.shape[0] != 1:
        t.n_units = like.shape[0]
        t.unit_stride = like.strides[0] * (_reals(like) // _size(like) if t.size else 1)


cdef int _lie(const dl.Tensor *t) noexcept:
    """How the first dimension lies among the others: 0 outermost, 1 innermost, -1 between them."""
    cdef bint outside = True, inside = True
    cdef int d
    for d in range(1, t.ndim):
        if t.shape[0] != 1 and t.shape[d] != 1:
            outside &= t.strides[0] > t.strides[d]
            inside &= t.strides[0] < t.strides[d]
    return 0 if outside else 1 if inside else -1


cdef inline PyObject *_value(state, name) noexcept:
    """Item of a dict, borrowed; NULL if either or the item is None or missing."""
    cdef PyObject *found = NULL if state is None or name is None else PyDict_GetItem(state, name)
    return NULL if found == <PyObject *>None else found


cdef class TensorStepper(Stepper):
    """A Stepper over the CPU tensors of a library that speaks DLPack, such as torch.

    No address is kept: in every step the gradients, the states, and the memory of all of them are
    looked up anew, since their owners may replace any of them. Elements are taken in the order in
    which they lie in memory, complex ones as two numbers; a parameter with gaps between them is
    copied, and copied back.

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
    state_dtype : {None, "bfloat16", "int8"}
        What the states are kept in.
    master : bool
        Whether parameters of 16 bits have a float32 copy among their states, ``"master"``.
    """

    cdef object _kind  # a type
    cdef dl.FromObject _from_object
    cdef Py_ssize_t _n_params
    cdef list _entries  # of the dict of states, keys and values in turns
    cdef public bint rows_only  # does the rule refuse dense gradients?
    cdef set _had_rows  # numbers of parameters whose gradient has had some rows only
    cdef list _keeps  # for each group the names of the states that are kept, None for the others
    cdef list _copied  # averages whose elements lie in another order, and the copies worked on
    cdef dict _gaps  # parameters with gaps in their memory: the copy worked on, begin and end
    cdef list _scalars  # names of the numbers that are carried along, the counter first
    cdef bint _counts, _moved
    cdef bint _factors  # does it keep moments of rows and columns?
    cdef bint _shares  # does the rule keep the same numbers for all parameters?
    cdef object _storage  # of the states: None, "bfloat16" or "int8"
    cdef bint _master  # have parameters of 16 bits a master copy?
    cdef void **_numbers  # where they are, for each parameter
    cdef char *_doubles  # is such a number a float64?

    def __init__(self, object kind, str rule, list params, list groups, list hypers,
                 list averages, counter, state_dtype=None, bint master=True):
        if not isinstance(kind, type):
            raise TypeError(f"kind must be a type; got {kind!r}")
        cdef dl.ExchangeAPI *api = <dl.ExchangeAPI *>PyCapsule_GetPointer(
            kind.__dlpack_c_exchange_api__, b"dlpack_exchange_api")
        if api.major != 1:
            raise ImportError(f"{kind.__name__} must speak DLPack 1; it speaks {api.major}")
        self._kind, self._from_object = kind, api.from_object
        self._storage, self._master = state_dtype, master
        self._counts = counter is not None
        self._scalars = ([counter] if self._counts else []) + list(RULES[rule]["kept"])
        self._shares = RULES[rule]["kind"] == "listwise"
        self._factors = RULES[rule]["kind"] == "factored"
        self._keeps, self._had_rows = [()] * len(hypers), set()
        self._n_params, self._entries, self._moved = len(groups), [None], True
        Stepper.__init__(self, rule, params, groups, hypers, [None] * len(groups), averages)
        self._numbers = <void **>PyMem_Calloc(max(self._n, 1) * RULE_KEPT, sizeof(void *))
        self._doubles = <char *>PyMem_Calloc(max(self._n, 1) * RULE_KEPT, 1)
        if not (self._numbers and self._doubles):
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self._numbers)
        PyMem_Free(self._doubles)

    def set_buffers(self, list states, averages, slow):
        """Take the states' dicts and the averages; their memory is looked up in each step."""
        self.states, self.averages, self.slow = states, averages, slow

    def set_kept_states(self, Py_ssize_t group, tuple names):
        """Set the names of the states of a group, None for one that is not kept."""
        self._keeps[group] = names

    # ---- what a subclass says ----
    # It must also have start(i) -> (states, names), which makes what parameter i lacks of states;
    # start_slow(i), which makes its slow weights;
    # lay_out(tensor, like), a copy without gaps, with the order of elements of another;
    # contiguous(tensor), one in C's order; copy_back(tensor, copied); and scalar(value), 0-d.

    def set_aside(self, Py_ssize_t i, grad):
        """Raise, or let parameter `i` be: it or its gradient is nothing that can be used here."""
        raise TypeError(f"params[{i}] and its gradient must be tensors on the CPU")

    def as_array(self, Py_ssize_t i):
        """Parameter `i` as a NumPy array: its own memory."""
        return (self._gaps[i][0] if i in self._gaps else self.params[i]).detach().numpy()

    def undo(self, Py_ssize_t i, made):
        """Remove what ``start`` made."""

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
        if out.device.device_type != dl.CPU or out.dtype.lanes != 1:
            return -1
        if out.dtype.code == dl.BFLOAT:
            return c.FGD_BFLOAT16
        if out.dtype.code == dl.UINT:
            return c.FGD_SIGNED8 if out.dtype.bits == 8 else -1
        cdef int bits = out.dtype.bits if out.dtype.code == dl.FLOAT else \
            out.dtype.bits // 2 if out.dtype.code == dl.COMPLEX else 0
        if out.dtype.code == dl.FLOAT and bits == 16:
            return c.FGD_FLOAT16
        return c.FGD_FLOAT32 if bits == 32 else c.FGD_FLOAT64 if bits == 64 else -1

    cdef int _read_integers(self, object tensor, dl.Tensor *out) except -1:
        """Describe a contiguous tensor of int64, whose memory is used."""
        if self._from_object(<void *>tensor, out) != 0:
            return -1
        out.data = <char *>out.data + out.byte_offset
        return 0

    cdef int _read_float(self, object tensor, dl.Tensor *out) except -2:
        """The same; -1 for codes."""
        cdef int dtype = self._read(tensor, out)
        return -1 if dtype == c.FGD_SIGNED8 else dtype

    cdef bint _has_master(self, Py_ssize_t i) noexcept:
        """Is there to be a master copy of parameter `i`?"""
        return self._master and self._tensors[i].param_dtype != self._tensors[i].dtype

    cdef bint _lacks_master(self, Py_ssize_t i) noexcept:
        return self._has_master(i) and _value(self.states[i], "master") == NULL

    cdef int _look_up_master(self, Py_ssize_t i, const dl.Tensor *like) except -1:
        """Find the master copy of parameter `i`."""
        cdef void *address = NULL
        if self._has_master(i) and not self._lacks_master(i):
            address = self._address(i, 0, "master", self.states[i]["master"], like,
                                    self._tensors[i].dtype)
        self._put(&self._tensors[i].master, address)
        return 0

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

    cdef bint _has(self, Py_ssize_t k, int ndim) noexcept:
        """Does a parameter of so many axes have state number `k`?"""
        return not self._factors or (k == 0) == (ndim < 2)

    cdef bint _collect(self, Py_ssize_t i, int ndim, PyObject **found) noexcept:
        """Fetch states and numbers of parameter `i`, NULL for what is not kept; is any missing?"""
        cdef object state = self.states[i], name
        cdef Py_ssize_t at = 0
        cdef bint missing = False
        for name in <tuple>self._keeps[self._tensors[i].group]:
            found[at] = _value(state, name) if self._has(at, ndim) else NULL
            missing |= name is not None and found[at] == NULL and self._has(at, ndim)
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
        cdef PyObject *values[16]  # at least FGD_MAX_STATES + RULE_KEPT
        cdef dl.Tensor found
        cdef int dtype
        cdef double value
        cdef bint first = self._collect(i, like.ndim, values)
        if takes_part and (first or self._lacks_master(i)):
            self.states[i], new = self.start(i)
            made.append((i, new))
            self._collect(i, like.ndim, values)
        for k in range(n_states):
            if values[k] == NULL:
                self._put(&t.state[k], NULL)
                continue
            t.state_dtype[k] = self._state_dtype(t, k)
            self._put(&t.state[k], self._address(i, k, names[k], <object>values[k], like,
                                                 t.state_dtype[k]))
        self._look_up_master(i, like)
        self._look_up_slow(i, like, takes_part, made)
        t.t = 0 if self._counts else 1
        if not takes_part and (first or not self._shares):
            self._numbers[i * RULE_KEPT] = NULL
            return 0
        for k in range(len(self._scalars)):
            tensor = <object>values[n_states + k]
            dtype = self._read(tensor, &found)
            if dtype < 0 or _size(&found) != 1:
                tensor = self.states[i][self._scalars[k]] = self.scalar(tensor)
                dtype = self._read(tensor, &found)
            value = (<double *>found.data)[0] if dtype == c.FGD_FLOAT64 else \
                (<float *>found.data)[0]
            self._numbers[i * RULE_KEPT + k] = found.data
            self._doubles[i * RULE_KEPT + k] = dtype == c.FGD_FLOAT64
            if k == 0 and self._counts:
                if not 0 <= value < 2.0 ** 62:
                    raise ValueError(f"state {self._scalars[0]!r} of {self._name(i)} must be 0 or "
                                     f"more; got {value}")
                t.t = <int64_t>value
            else:
                t.kept[k - self._counts] = value
        t.since = t.t if first else -1  # what was there, has been started by somebody
        return 0

    cdef int _state_dtype(self, c.fgd_tensor *t, Py_ssize_t k) except -1:
        """Dtype that state `k` is kept in."""
        if self._storage == "int8":
            return _code_dtype(RULES[self.rule]["states"][k][0])
        return t.dtype if self._storage is None else c.FGD_BFLOAT16

    cdef void *_address_of_codes(self, Py_ssize_t i, str name, object tensor) except? NULL:
        """Address of a state of parameter `i` in 8 bits."""
        cdef Py_ssize_t size = code_bytes(self._tensors[i].size)
        cdef dl.Tensor found
        if self._read(tensor, &found) != c.FGD_SIGNED8 or found.ndim != 1 \
                or found.shape[0] != size or (found.strides[0] != 1 and size > 1):
            raise ValueError(f"state {name!r} of {self._name(i)} must be {size} bytes, uint8 and "
                             f"contiguous; got {tensor!r:.80}")
        return found.data

    cdef void *_address(self, Py_ssize_t i, Py_ssize_t k, str name, object tensor,
                        const dl.Tensor *like, int dtype) except? NULL:
        """Address of state number `k` of parameter `i`, laid out as the parameter is."""
        cdef dl.Tensor found
        cdef int axis = k if self._factors and k > 0 else 0
        if dtype == c.FGD_SIGNED8 or dtype == c.FGD_UNSIGNED8:
            return self._address_of_codes(i, name, tensor)
        if not (self._read(tensor, &found) == dtype and _same_but(&found, like, axis)
                and _is_matrix_like(&found) if axis
                else _is_of(self._read(tensor, &found), &found, like, dtype, dtype)):
            raise ValueError(
                f"state {name!r} of {self._name(i)} must be a tensor of its shape and "
                f"dtype; got {tensor!r:.80}")
        if not axis and not _same_layout(&found, like):
            work = self._gaps[i][0] if i in self._gaps else self.params[i]
            tensor = self.states[i][name] = self.lay_out(tensor, work)
            self._read(tensor, &found)
        return found.data

    cdef int _look_up_slow(self, Py_ssize_t i, const dl.Tensor *like, bint takes_part,
                           list made) except -1:
        """Find the slow weights of parameter `i`, or make them."""
        cdef PyObject *slow = _value(self.states[i], SLOW) if self._period else NULL
        if self._period and slow == NULL and takes_part:
            self.states[i], new = self.start_slow(i)
            made.append((i, new))
            slow = _value(self.states[i], SLOW)
        self._put(&self._tensors[i].slow,
                  NULL if slow == NULL else self._address(i, 0, SLOW, <object>slow, like,
                                                          self._tensors[i].dtype))
        return 0

    cdef int _check_short(self, Py_ssize_t i, param) except -1:
        """Refuse what looks at a parameter of 16 bits, or at its gradient, as a whole."""
        if self._options.centralize or self._options.agc < np.inf:
            raise TypeError(f"centralize and agc must not be used with {self._name(i)} of "
                            f"{param.dtype}")
        if self._groups[self._tensors[i].group].averages_wait:
            raise TypeError(f"projection must be None or a box for {self._name(i)} of "
                            f"{param.dtype}")
        return 0

    cdef int _check_complex(self, Py_ssize_t i, param) except -1:
        """Refuse what has no meaning for complex numbers, or another one."""
        cdef c.fgd_group *group = &self._groups[self._tensors[i].group]
        if self._options.centralize:
            raise TypeError(f"centralize must be False for {self._name(i)} of {param.dtype}")
        if group.averages_wait or group.lower > -np.inf or group.upper < np.inf:
            raise TypeError(f"projection must be None for {self._name(i)} of {param.dtype}")
        return 0

    cdef int _look_at_shape(self, Py_ssize_t i, const dl.Tensor *param) except -1:
        """Note the shape of a parameter that is to be made orthonormal."""
        cdef c.fgd_tensor *t = &self._tensors[i]
        t.outer = 0
        if not c.fgd_wants_matrices(&self._groups[t.group], t.dtype) or param.ndim < 2:
            return 0
        if param.dtype.code == dl.COMPLEX:
            raise RuntimeError(f"{self._name(i)} must be real, to be made orthonormal")  # as torch
        t.outer, t.turned = param.shape[0], _lie(param)
        t.sides[0], t.sides[1] = param.shape[param.ndim - 2], param.shape[param.ndim - 1]
        if t.turned < 0:
            raise ValueError(f"{self._name(i)} must have its first dimension before or behind all "
                             "others in memory, to be a matrix; got strides "
                             f"{[param.strides[d] for d in range(param.ndim)]}")
        return 0

    cdef int _look_up(self, list grads, list touched, list made) except -1:
        """Fill the table from the tensors as they are now; nothing is changed yet."""
        cdef Py_ssize_t i
        cdef c.fgd_tensor *t
        cdef dl.Tensor found, other, index
        cdef int dtype
        cdef int64_t size, extent
        self._gaps, self._copied, self._held = {}, [], []
        for i in range(self._n):
            t = &self._tensors[i]
            t.grad = NULL
            param = self.params[i]
            grad = param.grad if i < self._n_params else None
            average = (<list>self.averages)[i]
            dtype = self._read_float(param, &found)
            size = _size(&found) if dtype >= 0 else 0
            extent = _extent(&found) if size else size
            t.index = NULL
            rows = None
            unread = False
            if i in self._had_rows and grad is not None and dtype >= 0 and extent >= size:
                rows = self.rows_of(i, grad)  # sooner: reading a sparse tensor fails, which is slow
            if rows is None and grad is not None:
                unread = self._read_float(grad, &other) < 0
            if unread and dtype >= 0 and extent >= size:
                rows = self.rows_of(i, grad)
                if rows is not None:
                    self._had_rows.add(i)
            if dtype < 0 or extent < size or (unread and rows is None):
                if grad is not None or average is not None:
                    self.set_aside(i, grad)
                grads.append(None)
                t.size, self._moved = 0, True  # and so it is not looked at
                continue
            work = param
            in_rows = (self._factors or rows is not None) and found.ndim > 1 \
                and not _is_matrix_like(&found)
            if self._factors and found.dtype.code == dl.COMPLEX:
                raise RuntimeError(f"{self._name(i)} must not be complex; got {param.dtype}")
            if extent > size or in_rows:  # gaps between its elements, or no rows: work on a copy
                begin = <uintptr_t>found.data
                work = self.contiguous(param) if in_rows else self.lay_out(param, param)
                self._gaps[i] = work, begin, begin + extent * (found.dtype.bits // 8)
                self._read(work, &found)
                self._moved = True
            self._note_matrices(
                i, tuple([found.shape[d] for d in range(found.ndim)]) if self._factors else ())
            if t.size != _reals(&found) or t.param_dtype != dtype:
                t.size, t.param_dtype, self._moved = _reals(&found), dtype, True
            t.dtype = _computed(dtype)
            t.low = dtype != t.dtype or self._storage is not None
            self._put(&t.param, found.data)
            _note_layout(t, &found)
            if found.dtype.code == dl.COMPLEX and grad is not None:
                self._check_complex(i, param)
            if dtype != t.dtype and grad is not None:
                self._check_short(i, param)
            if i < self._n_params:
                self._check_rule(i, dtype)
                self._look_at_shape(i, &found)
                self._look_up_states(i, &found, grad is not None, made)
            if rows is not None:
                indices, grad, first_axis = rows
                self._held.append(indices)
                if t.low:
                    raise TypeError(f"{self._name(i)} must have whole states and 32 bits to "
                                    f"have a gradient of some rows; got {param.dtype}")
                t.grad_dtype = self._read(grad, &other)
                self._read_integers(indices, &index)
                self._set_rows(i, index.data, _size(&index), first_axis)
                t.grad = other.data if _size(&other) else <void *>t
                touched.append(param)
            elif grad is not None:
                if self.rows_only:
                    raise RuntimeError(f"{self._name(i)} must have a sparse gradient; got a dense "
                                       "one (Adam takes those)")
                t.grad_dtype = self._read(grad, &other)
                if not _is_of(t.grad_dtype, &other, &found, dtype, t.dtype):
                    raise ValueError(
                        f"the gradient of {self._name(i)} must have its shape and dtype; "
                        f"got {grad.dtype} of shape {tuple(grad.shape)}")
                if not _same_layout(&other, &found):
                    grad = self.lay_out(grad, work)
                    self._read(grad, &other)
                t.grad = other.data if t.size else <void *>t  # nobody looks behind it
                touched.append(param)
            grads.append(grad)  # and keep it alive
            if average is None:
                self._put(&t.average, NULL)
            elif not _is_of(self._read(average, &other), &other, &found, t.dtype, t.dtype) \
                    or not (in_rows or _same_layout(&other, &found)):
                raise ValueError(f"the average of {self._name(i)} must have its shape, dtype and "
                                 f"layout; got {average.dtype} of shape {tuple(average.shape)}")
            else:
                if not _same_layout(&other, &found):
                    work = self.contiguous(average)
                    self._copied.append((average, work))
                    self._read(work, &other)
                self._put(&t.average, other.data)
                touched.append(average)
        return 0

    cdef str _name(self, Py_ssize_t i):
        named = self.names and i < len(self.names)
        return f"params[{i}]" + (f" ({self.names[i]})" if named else "")

    cdef Py_ssize_t _state_size(self, Py_ssize_t i, Py_ssize_t k) noexcept:
        """Number of elements of a state: a moment for each row or column, or all."""
        cdef c.fgd_tensor *t = &self._tensors[i]
        return t.size if not t.rows else t.size // (t.columns if k == 1 else t.rows)

    cdef Py_ssize_t _state_bytes(self, Py_ssize_t i, Py_ssize_t k) noexcept:
        cdef c.fgd_tensor *t = &self._tensors[i]
        return code_bytes(t.size) if t.state_dtype[k] >= c.FGD_SIGNED8 else \
            self._state_size(i, k) * _item(t.state_dtype[k])

    def _note_what_is_written(self):
        """Note the memory that a step writes to; no two parts of it may overlap."""
        cdef c.fgd_tensor *t
        cdef Py_ssize_t i
        spans = []
        for i in range(self._n):
            t = &self._tensors[i]
            each = [("the average of ", <uintptr_t>t.average, t.size * _item(t.dtype))]
            if i in self._gaps:
                spans.append((*self._gaps[i][1:], "", i))
            elif i < self._n_params:
                each.append(("", <uintptr_t>t.param, t.size * _item(t.param_dtype)))
            if i < self._n_params:
                each.append(("a state of ", <uintptr_t>t.master, t.size * _item(t.dtype)))
                each += [("a state of ", <uintptr_t>t.state[k], self._state_bytes(i, k))
                         for k in range(c.FGD_MAX_STATES)]
                each.append(("the slow weights of ", <uintptr_t>t.slow, t.size * _item(t.dtype)))
            for what, begin, n_bytes in each:
                if begin and t.size:
                    spans.append((begin, begin + n_bytes, what, i))
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
            if begin and self._grad_size(i) and self._is_written(
                    begin, begin + self._grad_size(i) * _item(t.grad_dtype)):
                raise ValueError(f"the gradient of {self._name(i)} must not overlap params or "
                                 "their states in memory")
        return 0

    cdef void _carry_along(self) noexcept:
        """Write the numbers of the parameters that took part back to where they came from."""
        cdef Py_ssize_t i, k, n = len(self._scalars)
        cdef double value
        cdef c.fgd_tensor *t
        for i in range(self._n_params):
            t = &self._tensors[i]
            if not t.grad and not (self._shares and self._numbers[i * RULE_KEPT]):
                continue
            for k in range(n):
                value = <double>t.t if self._counts and k == 0 else t.kept[k - self._counts]
                if self._doubles[i * RULE_KEPT + k]:
                    (<double *>self._numbers[i * RULE_KEPT + k])[0] = value
                else:
                    (<float *>self._numbers[i * RULE_KEPT + k])[0] = <float>value

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
        self._options.step = self.t
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
            self._note_what_is_due()
            self._make_matrix_room(team)
            with nogil:
                status = c.fgd_step(&self._report, self._tensors, self._plans, self._sums,
                                    self._desks, self._groups, &self._options, self._n, team)
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
            grad = grads[i].detach()
            if self._tensors[i].grad_dtype != self._tensors[i].dtype:
                grad = grad.float()
            _raise_not_finite(i, self.names[i] if self.names else None, grad.numpy(), self.t + 1)
        if self._has_wholes:
            self._project_wholes(team)
        self._carry_along()
        for i, (work, _, _) in self._gaps.items():
            if self._tensors[i].grad:
                self.copy_back(self.params[i], work)
        for average, work in self._copied:
            self.copy_back(average, work)
        self._gaps, self._copied = {}, []
        self.t += 1
        return touched
