# The examples of linear models, as C sees them: an array, or a CSR matrix.


@cython.auto_pickle(False)  # whoever is unpickled has not been checked
cdef class CSR:
    """A CSR matrix whose rows have been checked, once for as often as it is trained on.

    A column outside the matrix would have C read and write anywhere. Whoever takes a matrix of
    SciPy checks all of it, each time; whoever takes this, nothing.

    Parameters
    ----------
    X : scipy.sparse CSR array or matrix of shape (n_rows, n_features)
        Or what has its attributes. `data` must be of float32 or float64, `indices` and `indptr`
        both of int32 or both of int64; they are used as they are, and may not be changed for as
        long as this is in use. Columns may stand in any order; what stands twice adds up.
    hashing : int, default=None
        From 1 to 31. This has 2**hashing columns then, however many X has: those of X whose numbers
        have the same last so many bits are one. None keeps the columns of X.

    Raises
    ------
    TypeError, ValueError
        An array cannot be used as it is, or a row has a column that is not in [0, n_features).
    """

    cdef readonly object data, indices, indptr
    cdef readonly tuple shape
    cdef ptrdiff_t mask

    format = "csr"

    def __init__(self, X, hashing=None):
        cdef c.fgd_rows rows
        _fill_matrix(&rows, X)
        self.data, self.indices, self.indptr = X.data, X.indices, X.indptr
        self.shape = tuple(X.shape)
        self.mask = rows.mask
        if hashing is None:
            return
        if not 1 <= hashing <= 31:
            raise ValueError(f"hashing must be from 1 to 31; got {hashing}")
        self.shape = rows.n_rows, 1 << hashing
        self.mask = self.shape[1] - 1

    @property
    def dtype(self):
        """Of the values."""
        return self.data.dtype

    @property
    def itemsize(self):
        """Bytes of a value."""
        return self.data.itemsize


cdef bint _is_sparse(object X):
    """Has X the attributes of a CSR matrix?"""
    return hasattr(X, "indptr")


cdef int _fill_rows(c.fgd_rows *rows, object X, object y, object sample_weight) except -1:
    """Describe examples, in visits of one row in the order of X; return the dtype of X.

    `y` and `sample_weight` may be None.
    """
    memset(rows, 0, sizeof(c.fgd_rows))
    cdef int dtype = _fill_matrix(rows, X) if _is_sparse(X) else _fill_array(rows, X)
    if rows.n_rows < 1 or rows.n_features < 1:
        raise ValueError(f"X must not be empty; got shape {X.shape}")
    rows.y = _data(y, "y", dtype, rows.n_rows, False)
    rows.sample_weight = _data(sample_weight, "sample_weight", dtype, rows.n_rows, False)
    return dtype


cdef int _fill_array(c.fgd_rows *rows, object X) except -1:
    cdef int dtype = _describe(X, "X", False)
    if X.ndim != 2:
        raise ValueError(f"X must have two dimensions; got {X.ndim}")
    rows.X, rows.mask = cnp.PyArray_DATA(X), -1
    rows.n_rows, rows.n_features = X.shape
    return dtype


cdef int _fill_matrix(c.fgd_rows *rows, object X) except -1:
    if getattr(X, "format", "csr") != "csr":
        raise TypeError(f"X must be in CSR format if it is sparse; got {X.format}")
    cdef int dtype = _describe(X.data, "X.data", False)
    if len(X.shape) != 2:
        raise ValueError(f"X must have two dimensions; got {len(X.shape)}")
    rows.n_rows, rows.n_features = X.shape
    rows.X = cnp.PyArray_DATA(X.data)
    rows.mask = (<CSR>X).mask if isinstance(X, CSR) else -1
    cdef Py_ssize_t n_values = X.data.size
    cdef int index_type = _index_type(X.indptr, "X.indptr", rows.n_rows + 1)
    if _index_type(X.indices, "X.indices", n_values) != index_type:
        raise TypeError(f"X.indices and X.indptr must have one dtype; got {X.indices.dtype} and "
                        f"{X.indptr.dtype}")
    rows.wide = index_type == cnp.NPY_INT64
    rows.indptr = cnp.PyArray_DATA(X.indptr)
    rows.indices = cnp.PyArray_DATA(X.indices)
    if not isinstance(X, CSR):
        _check_columns(rows, n_values)
    return dtype


cdef int _index_type(object a, str name, Py_ssize_t size) except -1:
    """NumPy's number for int32 or int64, whichever the indices `a` are of; checked."""
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array; got {type(a).__name__}")
    if a.dtype != np.int32 and a.dtype != np.int64:
        raise TypeError(f"{name} must be of dtype int32 or int64; got {a.dtype}")
    _check_layout(a, name, False)
    if a.size != size:
        raise ValueError(f"{name} must hold {size} elements; got {a.size}")
    return cnp.NPY_INT64 if a.dtype == np.int64 else cnp.NPY_INT32


cdef int _check_columns(const c.fgd_rows *rows, Py_ssize_t n_values) except -1:
    cdef ptrdiff_t bad
    with nogil:
        bad = c.fgd_first_bad_row(rows, n_values)
    if bad >= 0:
        raise ValueError(
            f"X.indices must be from 0 to {rows.n_features - 1}, and X.indptr must rise from 0 to "
            f"at most {n_values}; row {bad} of X is not so")
    return 0


@cython.auto_pickle(False)
cdef class Interactions:
    """Makes rows of a CSR matrix with products of their features, some rows at a time.

    A row gets its features, then of each pair of ranges the products of a feature of the one with
    one of the other, in the order of the row; of a range with itself each two once, and each
    feature with itself. Features i and j of X make number ``16777619 * i ^ j``, in the last bits.

    Parameters
    ----------
    X : CSR
        With hashing; its columns are those of the rows that are made.
    pairs : ndarray of shape (n_pairs, 4)
        Each row is (start, stop, other start, other stop), int64: ranges of columns, as they are
        before hashing.
    n_rows : int
        So many rows, in whole batches, are made at a time at most,
    room : int
        with so many values, or those of one batch. Memory is kept for as many.
    batch_size : int, default=1
        Rows that are made together.
    """

    cdef readonly CSR X
    cdef object _ranges, _visited, _indptr, _indices, _values
    cdef Py_ssize_t _batch_size

    def __init__(self, CSR X not None, pairs, Py_ssize_t n_rows, Py_ssize_t room,
                 Py_ssize_t batch_size=1):
        if X.mask < 0:
            raise ValueError("X must be made with hashing to have interactions; got hashing=None")
        self._ranges = np.ascontiguousarray(pairs, dtype=np.int64)
        if self._ranges.ndim != 2 or self._ranges.shape[1] != 4:
            raise ValueError(f"pairs must have the shape (n_pairs, 4); got {self._ranges.shape}")
        self.X, self._batch_size = X, <Py_ssize_t>_at_least(1, batch_size, "batch_size")
        n_rows = max(-(-n_rows // batch_size), 1) * batch_size
        self._visited, self._indptr = np.empty(n_rows, np.int64), np.empty(n_rows + 1, np.int64)
        self._make_room(room)

    cdef _make_room(self, Py_ssize_t room):
        self._indices, self._values = np.empty(room, np.int64), np.empty(room, self.X.dtype)

    def take(self, cnp.ndarray order, Py_ssize_t block, Py_ssize_t start, Py_ssize_t stop,
             int n_threads=0):
        """Make the rows from position `start` of an order on, as many as fit before `stop`.

        Parameters
        ----------
        order, block : ndarray, int
            As of ``train_linear``.
        start, stop : int
            Positions in it.
        n_threads : int, default=0
            Team size; 0 takes ``threads()``.

        Returns
        -------
        made : CSR
            The rows, in this order; of use until the next call.
        visited : ndarray
            Their numbers in X, int64; likewise.
        """
        cdef c.fgd_rows rows
        cdef int dtype = _fill_rows(&rows, self.X, None, None)
        _fill_order(&rows, order, block)
        cdef ptrdiff_t n_visited = c.fgd_n_visited(&rows)
        if not 0 <= start < stop <= n_visited:
            raise ValueError(f"start and stop must be positions among {n_visited} rows, in this "
                             f"order; got {start}, {stop}")
        cdef ptrdiff_t last = min(stop, start + self._visited.size), room = self._values.size, n
        cdef c.fgd_interactions pairs
        pairs.ranges = <const int64_t *>cnp.PyArray_DATA(self._ranges)
        pairs.n_pairs = self._ranges.shape[0]
        cdef c.fgd_interacted made
        made.visited = <int64_t *>cnp.PyArray_DATA(self._visited)
        made.indptr = <int64_t *>cnp.PyArray_DATA(self._indptr)
        cdef const c.fgd_typed_kernels *kernels = c.fgd_active.dtype[dtype]
        cdef Py_ssize_t batch = self._batch_size
        with nogil:
            n = kernels.measure_interactions(&made, &rows, &pairs, start, last, batch, room)
        cdef Py_ssize_t n_values = self._indptr[n]
        if n_values > room:
            self._make_room(n_values)
        made.indices = <int64_t *>cnp.PyArray_DATA(self._indices)
        made.values = cnp.PyArray_DATA(self._values)
        cdef int team = n_threads or threads()
        with nogil:
            kernels.interact(&made, n, &rows, &pairs, team)
        cdef CSR matrix = CSR.__new__(CSR)
        matrix.data, matrix.indices = self._values[:n_values], self._indices[:n_values]
        matrix.indptr = self._indptr[:n + 1]
        matrix.shape, matrix.mask = (n, self.X.shape[1]), -1
        return matrix, self._visited[:n]
