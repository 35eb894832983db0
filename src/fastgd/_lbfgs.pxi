# Whole vectors, and the history of L-BFGS: the buffers. A part of _core.pyx.

cdef tuple _pass_over(c.fgd_vectors *vectors, Py_ssize_t n, int dtype, int n_threads):
    """Run one pass; return its two results."""
    cdef double[2] results
    cdef cnp.ndarray scratch = np.empty(c.fgd_n_vector_sums(n))
    cdef double *sums = <double *>cnp.PyArray_DATA(scratch)
    cdef int team = n_threads or threads()
    with nogil:
        c.fgd_vector_pass(results, sums, vectors, n, dtype, team)
    return results[0], results[1]


def dot(object x, object z, *, int n_threads=0):
    """Inner product of two arrays of one dtype, summed in double precision."""
    cdef int dtype = _describe(x, "x", False)
    cdef c.fgd_vectors v
    v.op, v.x, v.z = c.FGD_DOT, cnp.PyArray_DATA(x), _data(z, "z", dtype, x.size, False)
    return _pass_over(&v, x.size, dtype, n_threads)[0]


def magnitudes(object x, *, int n_threads=0):
    """Largest absolute value and sum of the absolute values; NaN and infinity if there are any.

    All numbers are finite if and only if the first is finite and the second is not NaN.
    """
    cdef int dtype = _describe(x, "x", False)
    cdef c.fgd_vectors v
    v.op, v.x = c.FGD_MAGNITUDES, cnp.PyArray_DATA(x)
    return _pass_over(&v, x.size, dtype, n_threads)


def move(object out, object x, object d, double t, *, int n_threads=0):
    """Set ``out = x + t * d``; `out` must not overlap the others."""
    cdef int dtype = _describe(out, "out", True)
    cdef c.fgd_vectors v
    v.op, v.a, v.out = c.FGD_MOVE, t, cnp.PyArray_DATA(out)
    v.x, v.z = _data(x, "x", dtype, out.size, False), _data(d, "d", dtype, out.size, False)
    _pass_over(&v, out.size, dtype, n_threads)


@cython.auto_pickle(False)
cdef class History:
    """The last pairs of L-BFGS in a ring: steps and changes of the gradient.

    There is one slot more than pairs that are remembered, so that a pair can be looked at before
    the oldest is forgotten. Memory is allocated once, and touched when it is first used.

    Parameters
    ----------
    size : int
        How many pairs are remembered.
    n : int
        Number of elements of each vector.
    dtype : dtype
        float32 or float64.
    """

    cdef readonly Py_ssize_t size, n
    cdef readonly object steps, changes  # (size + 1, n), rows on cache lines
    cdef int _dtype
    cdef cnp.ndarray _scratch

    def __init__(self, Py_ssize_t size, Py_ssize_t n, dtype):
        if size < 1 or n < 0:
            raise ValueError(f"size must be at least 1 and n at least 0; got {size}, {n}")
        self.size, self.n = size, n
        self.steps, self.changes = _rows(size + 1, n, dtype), _rows(size + 1, n, dtype)
        self._dtype = _describe(self.steps[0], "steps", True)
        self._scratch = np.empty(c.fgd_n_vector_sums(n))

    cdef int _check_slot(self, Py_ssize_t slot) except -1:
        if not 0 <= slot <= self.size:
            raise ValueError(f"slot must be 0 to {self.size}; got {slot}")
        return 0

    def put(self, Py_ssize_t slot, object grad, object before, object d, double t, *,
            int n_threads=0):
        """Fill a slot with ``s = t * d`` and ``y = grad - before``; return y . s and y . y."""
        cdef c.fgd_vectors v
        self._check_slot(slot)
        v.op, v.a = c.FGD_PAIR, t
        v.out = cnp.PyArray_DATA(self.steps[slot])
        v.out2 = cnp.PyArray_DATA(self.changes[slot])
        v.x = _data(d, "d", self._dtype, self.n, False)
        v.z = _data(grad, "grad", self._dtype, self.n, False)
        v.z2 = _data(before, "before", self._dtype, self.n, False)
        return _pass_over(&v, self.n, self._dtype, n_threads)

    def direction(self, object out, object grad, tuple slots, tuple ro, double h_diag, *,
                  int n_threads=0):
        """Set ``out = -H grad`` with the pairs in `slots`, oldest first, ``ro = 1 / y . s``.

        Returns
        -------
        slope : float
            ``grad . out``.
        al : tuple of float
            The coefficients of the first loop, one for each pair.
        """
        cdef c.fgd_history h
        cdef cnp.ndarray places = np.array(slots, dtype=np.intp)
        cdef cnp.ndarray weights = np.array(ro, dtype=np.float64)
        cdef cnp.ndarray al = np.empty(len(slots))
        if len(slots) != len(ro) or len(slots) > self.size:
            raise ValueError(f"slots and ro must hold at most {self.size} each, as many of one as "
                             f"of the other; got {len(slots)} and {len(ro)}")
        for slot in slots:
            self._check_slot(slot)
        h.steps, h.changes = cnp.PyArray_DATA(self.steps), cnp.PyArray_DATA(self.changes)
        h.stride, h.m = self.steps.strides[0], <int>len(slots)
        h.slots = <const ptrdiff_t *>cnp.PyArray_DATA(places)
        h.ro = <const double *>cnp.PyArray_DATA(weights)
        cdef void *direction = _data(out, "out", self._dtype, self.n, True)
        cdef const void *gradient = _data(grad, "grad", self._dtype, self.n, False)
        cdef double *found = <double *>cnp.PyArray_DATA(al)
        cdef double *sums = <double *>cnp.PyArray_DATA(self._scratch)
        cdef int team = n_threads or threads()
        cdef double slope
        with nogil:
            slope = c.fgd_lbfgs_direction(direction, found, sums, gradient, &h, h_diag, self.n,
                                          self._dtype, team)
        return slope, tuple(al.tolist())


def _rows(Py_ssize_t m, Py_ssize_t n, dtype):
    """Return an (m, n) array, not filled, each of whose rows begins on a cache line."""
    item = np.dtype(dtype).itemsize
    wide = -(-n * item // 64) * 64
    memory = np.empty(m * wide + 64, np.uint8)
    at = -memory.__array_interface__["data"][0] % 64
    return memory[at:at + m * wide].view(dtype).reshape(m, wide // item)[:, :n]
