# Linear models over all rows: what solvers that converge ask of C. A part of _core.pyx.

cdef cnp.ndarray _room(size_t size):
    """Working memory of so many bytes, aligned to 64."""
    memory = np.empty(size + 64, dtype=np.uint8)
    offset = -memory.__array_interface__["data"][0] % 64
    return memory[offset:offset + size]


def full_scratch(object X, Py_ssize_t n_outputs):
    """Working memory for ``full_gradient``: an array of bytes, aligned to 64."""
    cdef c.fgd_rows rows
    cdef int dtype = _fill_rows(&rows, X, None, None)
    return _room(c.fgd_active.dtype[dtype].full_scratch(&rows, n_outputs))


def full_gradient(object X, object y, object sample_weight, object weights, cnp.ndarray memory,
                  object predictions=None, *, int loss, double loss_parameter=0.0, int n_threads=0):
    """Loss of a linear model over all rows, and its gradient, in one read of X.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_rows, n_features)
        Dense in C order.
    y, sample_weight : ndarray of shape (n_rows,)
        `sample_weight` may be None. With several outputs y is the number of the right one.
    weights : ndarray of shape (n_outputs, n_features + 1)
        The weights of each output, then its intercept; of the dtype of X. Several outputs are
        those of a softmax, whatever `loss` is.
    memory : ndarray
        From ``full_scratch``.
    predictions : ndarray of shape (n_outputs, n_rows), optional
        Written to.
    loss : int
        A number from ``LOSSES``.
    loss_parameter : float, default=0.0
        The loss's own parameter.
    n_threads : int, default=0
        Team size; 0 takes ``threads()``.

    Returns
    -------
    value : float
        Sum of the rows' losses; not finite if a prediction is not.
    gradient : ndarray of shape (n_outputs, n_features + 1)
        Its derivatives, float64.
    """
    cdef c.fgd_rows rows
    cdef int dtype = _fill_rows(&rows, X, y, sample_weight)
    cdef c.fgd_point point
    if not 0 <= loss < c.fgd_n_losses:
        raise ValueError(f"loss must be a number of LOSSES; got {loss}")
    if weights.ndim != 2 or weights.shape[0] < 1:
        raise ValueError(f"weights must have two dimensions; got shape {weights.shape}")
    point.loss, point.loss_parameter, point.n_outputs = loss, loss_parameter, weights.shape[0]
    point.weights = _data(weights, "weights", dtype, point.n_outputs * (rows.n_features + 1), False)
    point.predictions = _data(predictions, "predictions", dtype, point.n_outputs * rows.n_rows,
                              True)
    if point.n_outputs > 1 and not (0 <= y.min() and y.max() < point.n_outputs):
        raise ValueError(f"y must hold numbers from 0 to {point.n_outputs - 1}")
    cdef const c.fgd_typed_kernels *kernels = c.fgd_active.dtype[dtype]
    if memory.nbytes < kernels.full_scratch(&rows, point.n_outputs):
        raise ValueError("memory must come from full_scratch(X, n_outputs)")
    cdef void *work = cnp.PyArray_DATA(memory)
    gradient = np.empty(weights.shape)
    cdef double *out = <double *>cnp.PyArray_DATA(gradient)
    cdef int team = n_threads or threads()
    cdef double value
    with nogil:
        value = kernels.full_gradient(out, work, &rows, &point, team)
    return value, gradient


def column_moments(object X, object weight):
    """Sums over the rows of weight times each column, and times its square: (n_features, 2)."""
    cdef c.fgd_rows rows
    cdef int dtype = _fill_rows(&rows, X, None, weight)
    moments = np.empty((rows.n_features, 2))
    cdef double *out = <double *>cnp.PyArray_DATA(moments)
    with nogil:
        c.fgd_active.dtype[dtype].column_moments(out, &rows, rows.sample_weight)
    return moments


def gram(object X, object weight, *, int n_threads=0):
    """Sums over the rows of an array of weight times the products of each two columns.

    Returns
    -------
    ndarray of shape (n_features + 1, n_features + 1)
        The last column is of ones. Below the diagonal there is nothing of use. float64.
    """
    cdef c.fgd_rows rows
    _describe(X, "X", False)
    cdef int dtype = _fill_rows(&rows, X, None, weight)
    cdef const c.fgd_typed_kernels *kernels = c.fgd_active.dtype[dtype]
    cdef cnp.ndarray memory = _room(kernels.gram_scratch(&rows))
    products = np.empty((rows.n_features + 1, rows.n_features + 1))
    cdef void *work = cnp.PyArray_DATA(memory)
    cdef double *out = <double *>cnp.PyArray_DATA(products)
    cdef int team = n_threads or threads()
    with nogil:
        kernels.gram(out, work, &rows, rows.sample_weight, team)
    return products


def factor(object a):
    """Put R in place of the upper triangle of a square float64 array: R' R = a.

    Where rounding has made `a` not positive definite, R' R is a matrix near it that is.
    """
    cdef Py_ssize_t n = a.shape[0]
    cdef void *data = _data(a, "a", c.FGD_FLOAT64, n * n, True)
    with nogil:
        c.fgd_active.dtype[<int>c.FGD_FLOAT64].factor(data, n)


def solve(object x, object r, bint back):
    """Put the solution z of R' z = x, or of R z = x if `back`, in place of x; float64."""
    cdef Py_ssize_t n = x.size
    cdef void *data = _data(x, "x", c.FGD_FLOAT64, n, True)
    cdef const void *factor = _data(r, "r", c.FGD_FLOAT64, n * n, False)
    with nogil:
        c.fgd_active.dtype[<int>c.FGD_FLOAT64].solve(data, factor, n, back)


cdef dict _reduced = {"sag": c.FGD_SAG, "saga": c.FGD_SAGA, "svrg": c.FGD_SVRG}


def reduce_variance(object w, object mean, object memory, object X, object y, object sample_weight,
                    cnp.ndarray order, *, str kind, loss, double loss_parameter, double step,
                    double l2, double l1, double total, bint fit_intercept):
    """Take steps of single rows whose variance is reduced, in place.

    Parameters
    ----------
    w, mean : ndarray of shape (n_features + 1, n_outputs)
        Weights, and the mean of the rows' gradients that `memory` stands for; the intercepts last.
    memory : ndarray of shape (n_rows, n_outputs)
        Derivatives of the rows' weighted losses with respect to their predictions.
    X : ndarray or CSR matrix of shape (n_rows, n_features)
        No column stands twice in a row.
    y, sample_weight : ndarray of shape (n_rows,)
        `sample_weight` may be None.
    order : ndarray
        The row of each step, int64.
    kind : {"sag", "saga", "svrg"}
        The method.
    loss : str or None
        A name from ``LOSSES``; None is softmax's cross-entropy.
    loss_parameter : float
        The loss's own parameter.
    step, l2, l1 : float
        Length of the steps, and strengths of the penalties.
    total : float
        Sum of the rows' weights: what their gradients are divided by in the mean.
    fit_intercept : bool
        Whether the intercepts move.
    """
    cdef c.fgd_rows rows
    cdef int dtype = _fill_rows(&rows, X, y, sample_weight)
    cdef c.fgd_reduction r
    r.n_outputs = w.shape[1]
    cdef Py_ssize_t size = (rows.n_features + 1) * r.n_outputs
    r.kind, r.loss = _reduced[kind], LOSSES[loss]["number"] if loss is not None else 0
    r.loss_parameter, r.fit_intercept = loss_parameter, fit_intercept
    r.step, r.l2, r.l1, r.total, r.scale = step, l2, l1, total, rows.n_rows / total
    r.w = <double *>_data(w, "w", c.FGD_FLOAT64, size, True)
    r.mean = <double *>_data(mean, "mean", c.FGD_FLOAT64, size, True)
    r.memory = <double *>_data(memory, "memory", c.FGD_FLOAT64, rows.n_rows * r.n_outputs, True)
    if order.dtype != np.int64 or not order.flags.c_contiguous \
            or (order.size and not 0 <= order.min() <= order.max() < rows.n_rows):
        raise ValueError(f"order must be an int64 array of numbers of the {rows.n_rows} rows")
    if r.n_outputs > 1 and not (0 <= y.min() and y.max() < r.n_outputs):
        raise ValueError(f"y must hold numbers from 0 to {r.n_outputs - 1}")
    r.order, r.n_steps = <const int64_t *>cnp.PyArray_DATA(order), order.size
    cdef cnp.ndarray since = np.zeros(rows.n_features, dtype=np.int64)
    cdef cnp.ndarray sums = np.empty(r.n_outputs)
    cdef cnp.ndarray scratch = np.zeros(r.n_outputs * c.FGD_CLASS_ROWS)
    cdef cnp.ndarray zeros = np.zeros(r.n_outputs)
    r.since, r.sums = <int64_t *>cnp.PyArray_DATA(since), <double *>cnp.PyArray_DATA(sums)
    r.scratch, r.zeros = cnp.PyArray_DATA(scratch), cnp.PyArray_DATA(zeros)
    with nogil:
        c.fgd_active.dtype[dtype].reduce_variance(&r, &rows)


def longest_row(object X, object sample_weight):
    """Largest square of a row's length times its weight; `sample_weight` may be None."""
    cdef c.fgd_rows rows
    cdef int dtype = _fill_rows(&rows, X, None, sample_weight)
    cdef double longest
    with nogil:
        longest = c.fgd_active.dtype[dtype].longest_row(&rows)
    return longest
