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

    Raises
    ------
    TypeError, ValueError
        An array cannot be used as it is, or a row has a column that is not in [0, n_features).
    """

    cdef readonly object data, indices, indptr
    cdef readonly tuple shape

    format = "csr"

    def __init__(self, X):
        cdef c.fgd_rows rows
        _fill_matrix(&rows, X)
        self.data, self.indices, self.indptr = X.data, X.indices, X.indptr
        self.shape = tuple(X.shape)

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
    rows.X = cnp.PyArray_DATA(X)
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
