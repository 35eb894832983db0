# Networks: layers, batches of rows, and the optimizer's step behind each. A part of _core.pyx.

cdef dict _read_activations():
    return {
        c.fgd_activations[i].name.decode(): {
            "number": i,
            "parameter": c.fgd_activations[i].parameter.name.decode(),
            "default": c.fgd_activations[i].parameter.value,
            "domain": _domains[c.fgd_activations[i].parameter.domain],
        }
        for i in range(c.fgd_n_activations)
    }


ACTIVATIONS = _read_activations()
NORMS = {None: c.FGD_NO_NORM, "batch": c.FGD_BATCH_NORM, "layer": c.FGD_LAYER_NORM}
SOFTMAX, SIGMOID = c.FGD_SOFTMAX, c.FGD_SIGMOID  # losses of networks alone, beside LOSSES
LINKS = {"identity": c.FGD_LINK_IDENTITY, "log": c.FGD_LINK_LOG, "logit": c.FGD_LINK_LOGIT,
         "softmax": c.FGD_LINK_SOFTMAX}


def activate(str activation, object x, parameter=None):
    """Value and slope of an activation, element by element.

    `parameter` is the activation's own; by default that of its row.
    """
    cdef int dtype = _describe(x, "x", False)
    cdef int number = ACTIVATIONS[activation]["number"]
    cdef double own = ACTIVATIONS[activation]["default"] if parameter is None else parameter
    cdef Py_ssize_t n = x.size
    value, slope = np.empty_like(x), np.empty_like(x)
    cdef void *values = cnp.PyArray_DATA(value)
    cdef void *slopes = cnp.PyArray_DATA(slope)
    cdef const void *inputs = cnp.PyArray_DATA(x)
    with nogil:
        c.fgd_active.dtype[dtype].activate(values, slopes, inputs, number, own, n)
    return value, slope


def _most_values(X, order, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t batch_size):
    """Numbers that a batch of CSR rows has at most; an order may have a row again and again."""
    lengths = np.diff(X.indptr)
    lengths = lengths[start:stop] if order is None else lengths[order[start:stop]]
    firsts = np.arange(0, stop - start, batch_size)
    return max(int(np.add.reduceat(lengths, firsts, dtype=np.int64).max()), 1)


@cython.auto_pickle(False)
cdef class Layers:
    """A network: the buffers of its layers, its loss, and memory to work in.

    Parameters
    ----------
    layers : list of dict
        Of each: `inputs`, `outputs`, `activation` (a number of ``ACTIVATIONS``), `parameter`,
        `norm` (a value of ``NORMS``), `skip`, `dropout`, and the arrays `params` and `grads`
        (weight, bias, gamma, beta; None for what it has not) and `running` (mean and variance, or
        None). With `faking` it is trained to be quantised: a dict of `range`, `averaging` and
        `weights`, as in ``csrc/fastgd.h``, and of `weight` and `input`, what they are quantised to:
        dicts of `scale`, `zero`, `qmin`, `qmax`, `symmetric`, and of a learned scale `grad` and
        `factor`.
    loss : int
        A number of ``LOSSES``, or ``SOFTMAX`` or ``SIGMOID``.
    loss_parameter, label_smoothing : float
    """

    cdef c.fgd_layer *_layers
    cdef c.fgd_faking *_fakings
    cdef c.fgd_network _network
    cdef int _dtype
    cdef readonly list arrays  # what the addresses are of
    cdef object _memory

    def __cinit__(self, list layers, int loss, double loss_parameter, double label_smoothing):
        cdef Py_ssize_t i, k
        self._layers = <c.fgd_layer *>PyMem_Calloc(len(layers), sizeof(c.fgd_layer))
        self._fakings = <c.fgd_faking *>PyMem_Calloc(len(layers), sizeof(c.fgd_faking))
        if not self._layers or not self._fakings:
            raise MemoryError
        self.arrays, self._memory = [], np.empty(0, dtype=np.uint8)
        self._dtype = _describe(layers[0]["params"][0], "weight", True)
        for i, given in enumerate(layers):
            self._layers[i].inputs, self._layers[i].outputs = given["inputs"], given["outputs"]
            self._layers[i].activation = given["activation"]
            self._layers[i].parameter = given["parameter"]
            self._layers[i].norm, self._layers[i].skip = given["norm"], given["skip"]
            self._layers[i].dropout = given["dropout"]
            for k in range(len(given["params"])):
                size = given["outputs"] * (given["inputs"] if k == 0 else 1)
                self._layers[i].params[k] = self._hold(given["params"][k], size)
                self._layers[i].grads[k] = self._hold(given["grads"][k], size)
            self._layers[i].running_mean = self._hold(given["running"][0], given["outputs"])
            self._layers[i].running_var = self._hold(given["running"][1], given["outputs"])
            if given.get("faking") is not None:
                self._layers[i].faking = &self._fakings[i]
                self._fill_faking(&self._layers[i], given["faking"])
        self._network.layers, self._network.n_layers = self._layers, <int>len(layers)
        self._network.loss, self._network.loss_parameter = loss, loss_parameter
        self._network.label_smoothing = label_smoothing

    def __dealloc__(self):
        PyMem_Free(self._layers)
        PyMem_Free(self._fakings)

    cdef int _fill_faking(self, c.fgd_layer *layer, dict given) except -1:
        cdef c.fgd_faking *f = layer.faking
        cdef c.fgd_quantizer *q
        cdef Py_ssize_t k
        f.weights = self._hold(given["weights"], layer.inputs * layer.outputs)
        ranges = given["range"]
        self.arrays.append(ranges)
        f.range = <double *>_data(ranges, "range", c.FGD_FLOAT64, 2, True)
        f.averaging = given["averaging"]
        for k, name in ((c.FGD_OF_WEIGHT, "weight"), (c.FGD_OF_INPUT, "input")):
            mine, q = given[name], &f.quantizer[k]
            q.n_channels, q.stride = mine["scale"].size, 1
            if q.n_channels not in (1, layer.outputs):
                raise ValueError(f"scale must hold 1 or {layer.outputs} numbers; got "
                                 f"{q.n_channels}")
            f.scale[k] = self._hold(mine["scale"], q.n_channels)
            f.zero[k] = self._hold(mine["zero"], q.n_channels)
            q.scale, q.zero, q.qmin, q.qmax = f.scale[k], f.zero[k], mine["qmin"], mine["qmax"]
            f.symmetric[k] = mine["symmetric"]
            if mine["grad"] is not None:
                f.factor[k] = mine["factor"]
                layer.params[c.FGD_WEIGHT_SCALE + k] = f.scale[k]
                layer.grads[c.FGD_WEIGHT_SCALE + k] = self._hold(mine["grad"], q.n_channels)
        return 0

    cdef void *_hold(self, object a, Py_ssize_t size) except? NULL:
        self.arrays.append(a)
        return _data(a, "an array of a layer", self._dtype, size, True)

    cdef void *_scratch(self, size_t size) except NULL:
        """Memory of so many bytes, aligned to a cache line."""
        if <size_t>self._memory.size < size + 64:
            self._memory = np.empty(size + 64, dtype=np.uint8)
        cdef char *data = cnp.PyArray_BYTES(self._memory)
        return data + (64 - <uintptr_t>data % 64) % 64

    cdef int _fill_batches(self, c.fgd_batches *b, object X, object y, object sample_weight,
                           object order, Py_ssize_t batch_size) except -1:
        """Describe rows, all of them as one call's."""
        cdef c.fgd_rows rows
        memset(b, 0, sizeof(c.fgd_batches))
        cdef int dtype = _fill_rows(&rows, X, None, sample_weight)
        if dtype != self._dtype:
            raise TypeError(f"X must be of the network's dtype {_dtype_names[self._dtype]}; "
                            f"got {X.dtype}")
        if rows.n_features != self._layers[0].inputs:
            raise ValueError(f"X must have {self._layers[0].inputs} columns, the network's inputs; "
                             f"got {rows.n_features}")
        if rows.mask != -1:
            raise ValueError("X must not be hashed; got a matrix with hashing")
        if rows.indptr != NULL and self._layers[0].faking != NULL:
            raise TypeError("X must be an array for a network that is prepared for quantisation; "
                            "got a sparse matrix")
        b.X, b.indptr, b.indices, b.wide = rows.X, rows.indptr, rows.indices, rows.wide
        b.n_rows, b.sample_weight = rows.n_rows, rows.sample_weight
        cdef c.fgd_layer *last = &self._layers[self._network.n_layers - 1]
        cdef Py_ssize_t columns = 1 if self._network.loss == c.FGD_SOFTMAX else last.outputs
        b.y = _data(y, "y", dtype, b.n_rows * columns, False)
        b.stop = b.n_rows
        if order is not None:
            if not isinstance(order, np.ndarray) or order.dtype != np.int64 \
                    or not cnp.PyArray_IS_C_CONTIGUOUS(order):
                raise TypeError("order must be a C-contiguous int64 array")
            b.order, b.stop = <const int64_t *>cnp.PyArray_DATA(order), order.size
        b.batch_size = min(batch_size, b.stop)
        return 0

    def run(self, object X, object y, object sample_weight, object order, *, Py_ssize_t batch_size,
            Py_ssize_t start=0, stop=None, double alpha=0.0, bint training=True,
            uint64_t seed=0, int64_t n_passes=0, Stepper stepper=None, double whole=0.0,
            int n_threads=0):
        """Pass the batches of the rows at positions [start, stop) of an order through, and back.

        Without a `stepper` the last batch's gradients remain; else each is followed by its step.

        Parameters
        ----------
        X : ndarray of shape (n_rows, inputs) or CSR
        y : ndarray
            Of X's dtype: (n_rows,) numbers of the right outputs with ``SOFTMAX``, else (n_rows,
            outputs) targets.
        sample_weight : ndarray of shape (n_rows,) or None
        order : ndarray or None
            int64 numbers of rows, not checked; None for those of X in order.
        batch_size : int
        start, stop : int
        alpha : float
            L2 penalty of all weights, divided by the sum of a batch's sample weights.
        training : bool
            Whether norms take the batch's statistics and dropout drops.
        seed, n_passes : int
            What dropout draws from.
        stepper : Stepper
            Over arrays of the network.
        whole : float
            If not 0, these rows are a part, one batch, of a larger one without batch norm whose
            sample weights have this sum: without the penalty, and gradients are added to, unless
            `start` is 0.
        n_threads : int
            Team size; 0 takes ``threads()``.

        Returns
        -------
        loss, penalty : float
            Sums over the batches, each times its rows.
        n_batches : int
            How many were passed through.
        """
        cdef c.fgd_batches b
        cdef c.fgd_descent d
        cdef c.fgd_descent *descent = NULL
        cdef double[2] sums
        cdef ptrdiff_t failed = 0
        cdef int team = n_threads or threads()
        cdef c.fgd_status status
        self._fill_batches(&b, X, y, sample_weight, order, batch_size)
        if y is None:
            raise TypeError("y must be a NumPy array; got NoneType")
        cdef Py_ssize_t end = b.stop if stop is None else stop
        if not 0 <= start < end <= b.stop or batch_size < 1:
            raise ValueError(f"start and stop must be positions among {b.stop}, in this order, and "
                             f"batch_size at least 1; got {start}, {end} and {batch_size}")
        b.start, b.stop, b.alpha = start, end, alpha
        if b.indptr != NULL:
            b.most_values = _most_values(X, order, start, end, b.batch_size)
        b.whole, b.adds = whole, whole > 0 and start > 0
        if b.adds:
            b.alpha = 0
        cdef Py_ssize_t n_batches = (end - start + b.batch_size - 1) // b.batch_size
        self._network.training, self._network.seed = training, seed
        self._network.passed = n_passes
        held = None
        if stepper is not None and stepper._has_wholes and n_batches > 1:
            raise ValueError("start and stop must be of one batch where a step ends with the "
                             f"projection of whole tensors; got {n_batches} batches")
        if stepper is not None:
            held = self._fill_descent(&d, stepper, n_batches, team)
            descent = &d
        sums[0] = sums[1] = 0
        cdef const c.fgd_typed_kernels *kernels = c.fgd_active.dtype[self._dtype]
        cdef void *scratch = self._scratch(kernels.network_scratch(&self._network, &b, team))
        with nogil:
            status = kernels.train_network(sums, &failed, scratch, &self._network, &b, descent,
                                           team)
        if stepper is not None:
            if stepper._has_wholes and d.n_steps:
                stepper._project_wholes(team)
            stepper.t += d.n_steps
            stepper.skipped += d.n_skipped
            if status != c.FGD_OK:
                self._raise(status, stepper)
        return sums[0], sums[1], n_batches

    def _raise(self, int status, Stepper stepper):
        """Say why a batch's step was not taken."""
        cdef Py_ssize_t i = stepper._report.failed
        if status == c.FGD_NOT_FINITE:
            stepper.skipped += 1
            grad = next(a for a in self.arrays if a is not None
                        and cnp.PyArray_DATA(a) == stepper._tensors[i].grad)
            _raise_not_finite(i, stepper.names[i] if stepper.names else None, grad, stepper.t + 1)
        raise DivergenceError(f"the loss is not finite in step {stepper.t + 1}; nothing was "
                              "changed by it")

    cdef int _take_tensor(self, Stepper stepper, Py_ssize_t i) except -1:
        """Have a parameter of the optimizer trained by its gradient, unless it rests."""
        cdef c.fgd_tensor *t = &stepper._tensors[i]
        cdef c.fgd_layer *layer
        cdef Py_ssize_t k
        t.index = NULL
        for k in range(self._network.n_layers * c.FGD_LAYER_PARAMS):
            layer = &self._layers[k // c.FGD_LAYER_PARAMS]
            if layer.params[k % c.FGD_LAYER_PARAMS] == t.param:
                layer.trained[k % c.FGD_LAYER_PARAMS] = <int>i
                t.grad = NULL if stepper._frozen[i] else layer.grads[k % c.FGD_LAYER_PARAMS]
                t.grad_dtype = self._dtype
                return 0
        raise ValueError(f"optimizer must be of the network's parameters; params[{i}] is none of "
                         "them")

    cdef object _fill_descent(self, c.fgd_descent *d, Stepper stepper, Py_ssize_t n_batches,
                              int team):
        """Describe the steps that follow the batches; return what holds their numbers."""
        cdef Py_ssize_t i
        memset(d, 0, sizeof(c.fgd_descent))
        for i in range(self._network.n_layers * c.FGD_LAYER_PARAMS):
            self._layers[i // c.FGD_LAYER_PARAMS].trained[i % c.FGD_LAYER_PARAMS] = -1
        for i in range(stepper._n):
            stepper._check_place(i)
            self._take_tensor(stepper, i)
        held = stepper._steps_ahead(n_batches) if stepper.dynamic else None
        if held is not None:
            d.hypers = <const double *>cnp.PyArray_DATA(held[0])
            d.average_weights = <const double *>cnp.PyArray_DATA(held[1])
        stepper._options.grad_scale, stepper._options.zero_grads = 1, False
        stepper._make_matrix_room(team)
        d.report, d.tensors, d.plans = &stepper._report, stepper._tensors, stepper._plans
        d.sums, d.room, d.groups = stepper._sums, stepper._desks, stepper._groups
        d.options, d.n_tensors, d.n_groups = &stepper._options, stepper._n, stepper._n_groups
        d.t, d.period, d.skips = stepper.t, stepper._period, stepper.skips
        return held

    def predict(self, object X, str link, int n_threads=0):
        """Outputs of all rows, (n_rows, outputs), through a link of ``LINKS``."""
        cdef c.fgd_batches b
        self._fill_batches(&b, X, None, None, None, 1)
        cdef int team = n_threads or threads(), through = LINKS[link]
        cdef c.fgd_layer *last = &self._layers[self._network.n_layers - 1]
        out = np.empty((b.n_rows, last.outputs),
                       dtype=np.float32 if self._dtype == c.FGD_FLOAT32 else np.float64)
        cdef const c.fgd_typed_kernels *kernels = c.fgd_active.dtype[self._dtype]
        memory = np.empty(kernels.predict_scratch(&self._network, team) + 64, dtype=np.uint8)
        cdef char *scratch = cnp.PyArray_BYTES(memory)
        cdef void *to = cnp.PyArray_DATA(out)
        scratch += (64 - <uintptr_t>scratch % 64) % 64
        cdef c.fgd_network network = self._network
        network.training = False
        with nogil:
            kernels.predict(to, scratch, &network, &b, through, team)
        return out
