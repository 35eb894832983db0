# Quantised arrays, and networks of 8-bit codes.


cdef class Grid:
    """What the elements of arrays of one shape are quantised to.

    Parameters
    ----------
    scale, zero : ndarray of shape (n_channels,)
        Of the arrays' dtype; each `zero` is one of the codes.
    qmin, qmax : int
        The first and the last code: qmin <= 0 <= qmax, less than 2**20 apart.
    shape : tuple of int
        Of the arrays.
    axis : int, default=None
        That of the channels; None for one channel.
    """

    cdef c.fgd_quantizer quantizer
    cdef int dtype
    cdef Py_ssize_t size
    cdef object _scale, _zero

    def __init__(self, scale, zero, int qmin, int qmax, tuple shape, axis=None):
        if not (qmin < qmax and qmin <= 0 <= qmax and qmax - qmin < 1 << 20):
            raise ValueError("qmin and qmax must be codes with 0 from one to the other, less than "
                             f"2**20 apart; got {qmin}, {qmax}")
        self.size = math.prod(shape)
        self.dtype = _describe(scale, "scale", False)
        cdef c.fgd_quantizer *q = &self.quantizer
        q.n_channels = 1 if axis is None else shape[axis]
        q.stride = 1 if axis is None else math.prod(shape[axis + 1:])
        q.scale = _data(scale, "scale", self.dtype, q.n_channels, False)
        q.zero = _data(zero, "zero_point", self.dtype, q.n_channels, False)
        q.qmin, q.qmax = qmin, qmax
        self._scale, self._zero = scale, zero

    cdef object run(self, int op, void *out, const void *x, const void *grad, int n_threads):
        cdef c.fgd_quantize_pass quantize_pass
        quantize_pass.op, quantize_pass.quantizer = op, &self.quantizer
        quantize_pass.out, quantize_pass.x, quantize_pass.grad = out, x, grad
        cdef cnp.ndarray sums = np.zeros(2 * self.quantizer.n_channels)
        if self.size == 0:
            return sums
        cdef Py_ssize_t n_sums = c.fgd_n_quantize_sums(&quantize_pass, self.size)
        if n_sums:
            sums = np.empty(n_sums)
        cdef double *results = <double *>cnp.PyArray_DATA(sums)
        cdef int team = n_threads or threads()
        with nogil:
            c.fgd_quantize(results, &quantize_pass, self.size, self.dtype, team)
        return sums[:2 * self.quantizer.n_channels]

    def fake_quantize(self, object out, object x, *, int n_threads=0):
        """Set `out` to `x`, each number to the nearest of the grid."""
        self.run(c.FGD_FAKE, _data(out, "out", self.dtype, self.size, True),
                 _data(x, "x", self.dtype, self.size, False), NULL, n_threads)

    def straight_through(self, object out, object grad, object x, *, int n_threads=0):
        """Set `out` to `grad`, or to 0 where `x` is beyond the grid."""
        self.run(c.FGD_STRAIGHT, _data(out, "out", self.dtype, self.size, True),
                 _data(x, "x", self.dtype, self.size, False),
                 _data(grad, "grad", self.dtype, self.size, False), n_threads)

    def learn(self, object out, object grad, object x, *, int n_threads=0):
        """Do the same, and return the gradients of scale and zero point, (n_channels, 2)."""
        return self.run(c.FGD_LEARN, _data(out, "out", self.dtype, self.size, True),
                        _data(x, "x", self.dtype, self.size, False),
                        _data(grad, "grad", self.dtype, self.size, False),
                        n_threads).reshape(-1, 2)

    cdef void *_codes(self, object codes, bint writeable) except? NULL:
        """Address of codes: int8, or uint8 if none is below 0."""
        expected = np.uint8 if self.quantizer.qmin >= 0 else np.int8
        info = np.iinfo(expected)
        if not (info.min <= self.quantizer.qmin and self.quantizer.qmax <= info.max):
            raise ValueError(f"qmin and qmax must be of 8 bits; got {self.quantizer.qmin}, "
                             f"{self.quantizer.qmax}")
        if not isinstance(codes, np.ndarray) or codes.dtype != expected:
            raise TypeError(f"codes must be an array of {expected.__name__}; got "
                            f"{getattr(codes, 'dtype', type(codes).__name__)}")
        _check_layout(codes, "codes", writeable)
        if codes.size != self.size:
            raise ValueError(f"codes must hold {self.size} elements; got {codes.size}")
        return cnp.PyArray_DATA(codes)

    def encode(self, object codes, object x, *, int n_threads=0):
        """Set `codes` to those of `x`."""
        self.run(c.FGD_ENCODE, self._codes(codes, True),
                 _data(x, "x", self.dtype, self.size, False), NULL, n_threads)

    def decode(self, object out, object codes, *, int n_threads=0):
        """Set `out` to what the codes stand for."""
        self.run(c.FGD_DECODE, _data(out, "out", self.dtype, self.size, True),
                 self._codes(codes, False), NULL, n_threads)

    def ranges(self, object x, *, int n_threads=0):
        """Least and largest number of each channel, (n_channels, 2); NaNs are left out."""
        return self.run(c.FGD_RANGE, NULL, _data(x, "x", self.dtype, self.size, False), NULL,
                        n_threads).reshape(-1, 2)


def scales(object ranges, int qmin, int qmax, bint symmetric, dtype):
    """Scales and zero points, of `dtype`, whose codes cover ranges, (n_channels, 2) of float64."""
    cdef Py_ssize_t n = len(ranges)
    cdef const double *given = <const double *>_data(ranges, "ranges", c.FGD_FLOAT64, 2 * n, False)
    scale, zero = np.empty(n, dtype), np.empty(n, dtype)
    cdef c.fgd_quantizer q
    q.n_channels, q.stride, q.qmin, q.qmax = n, 1, qmin, qmax
    c.fgd_active.dtype[_describe(scale, "scale", True)].scales(
        cnp.PyArray_DATA(scale), cnp.PyArray_DATA(zero), given, &q, symmetric)
    return scale, zero


cdef const void *_part(object a, str name, dtype, Py_ssize_t size) except? NULL:
    """Address of a checked array of `size` elements; NULL for None."""
    if a is None:
        return NULL
    if not isinstance(a, np.ndarray) or a.dtype != dtype or a.size != size:
        raise TypeError(f"{name} must be an array of {size} {np.dtype(dtype).name}; got "
                        f"{getattr(a, 'dtype', type(a).__name__)} of {getattr(a, 'shape', None)}")
    _check_layout(a, name, False)
    return cnp.PyArray_DATA(a)


cdef object _packed(object weight):
    """Weights (n_inputs, n_outputs) as the products read them."""
    if weight.ndim != 2 or not 0 < weight.shape[0] <= MAX_INT8_INPUTS or weight.shape[1] < 1:
        raise ValueError("weight must have from 1 to "
                         f"{MAX_INT8_INPUTS} rows, and columns; got shape {weight.shape}")
    cdef const int8_t *given = <const int8_t *>_part(weight, "weight", np.int8, weight.size)
    cdef Py_ssize_t n_inputs = weight.shape[0], n_outputs = weight.shape[1]
    packed = _aligned(c.fgd_int8_packed_size(n_inputs, n_outputs)).view(np.int8)
    cdef int8_t *out = <int8_t *>cnp.PyArray_DATA(packed)
    with nogil:
        c.fgd_int8_pack(out, given, n_inputs, n_outputs)
    return packed


cdef object _aligned(size_t size):
    """Return so many bytes that begin on a cache line."""
    memory = np.empty(size + 64, dtype=np.uint8)
    offset = -memory.__array_interface__["data"][0] % 64
    return memory[offset:offset + size]


MAX_INT8_INPUTS = 33025  # times 255 * 255 is below 2**31


def int8_name(*, bint portable=False):
    """What multiplies codes now: "portable", or the processor's instructions."""
    return c.fgd_int8_name(portable).decode()


def int8_product(object codes, object weight, *, bint portable=False):
    """Products of uint8 codes (n_rows, n_inputs) and int8 weights (n_inputs, n_outputs), int32."""
    cdef cnp.ndarray packed = _packed(weight)
    n_inputs, n_outputs = weight.shape
    cdef cnp.ndarray padded = np.zeros((len(codes), -(-n_inputs // 4) * 4), np.uint8)
    padded[:, :n_inputs] = codes
    cdef Py_ssize_t rows = len(codes), depth = padded.shape[1]
    cdef Py_ssize_t blocks = -(-n_outputs // c.FGD_INT8_COLUMNS)
    cdef Py_ssize_t stride = blocks * c.FGD_INT8_COLUMNS
    cdef cnp.ndarray out = np.empty((rows, stride), np.int32)
    cdef c.fgd_int8_product product = c.fgd_int8_product_here(portable)
    product(<int32_t *>cnp.PyArray_DATA(out), stride, <const uint8_t *>cnp.PyArray_DATA(padded),
            depth, <const int8_t *>cnp.PyArray_DATA(packed), rows, blocks, depth)
    return out[:, :n_outputs]


@cython.auto_pickle(False)
cdef class Int8Network:
    """Layers of 8-bit codes, ready to predict.

    Parameters
    ----------
    layers : list of dict
        Of each layer ``weight`` (n_inputs, n_outputs) int8; ``constant`` int32, ``scale`` and
        ``bias`` float32, all (n_outputs,), and ``weight_zero`` int32, ``gamma`` and ``beta``
        float32, (n_outputs,) or None; ``input_scale``, ``input_zero``, ``input_max``,
        ``activation`` (a number), ``parameter``, ``skip``, ``epsilon``. What they mean stands in
        ``csrc/fastgd.h``.
    """

    cdef c.fgd_int8_layer *_layers
    cdef list _held
    cdef Py_ssize_t _n_layers
    cdef readonly Py_ssize_t n_inputs, n_outputs

    def __cinit__(self, list layers):
        self._layers = <c.fgd_int8_layer *>PyMem_Calloc(max(len(layers), 1),
                                                        sizeof(c.fgd_int8_layer))
        if self._layers == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self._layers)

    def __init__(self, list layers):
        if not layers:
            raise ValueError("layers must hold at least one")
        self._n_layers, self._held = len(layers), []
        for i, layer in enumerate(layers):
            self._fill(&self._layers[i], layer)
            if i and self._layers[i].n_inputs != self._layers[i - 1].n_outputs:
                raise ValueError(f"layers[{i}] must have {self._layers[i - 1].n_outputs} inputs; "
                                 f"got {self._layers[i].n_inputs}")
        self.n_inputs = self._layers[0].n_inputs
        self.n_outputs = self._layers[self._n_layers - 1].n_outputs

    cdef int _fill(self, c.fgd_int8_layer *to, dict layer) except -1:
        weight = layer["weight"]
        packed = _packed(weight)
        n = weight.shape[1]
        self._held += [packed, layer]
        to.weight = <const int8_t *>cnp.PyArray_DATA(packed)
        to.n_inputs, to.n_outputs = weight.shape
        to.constant = <const int32_t *>_part(layer["constant"], "constant", np.int32, n)
        to.weight_zero = <const int32_t *>_part(layer["weight_zero"], "weight_zero", np.int32, n)
        to.scale = <const float *>_part(layer["scale"], "scale", np.float32, n)
        to.bias = <const float *>_part(layer["bias"], "bias", np.float32, n)
        to.gamma = <const float *>_part(layer["gamma"], "gamma", np.float32, n)
        to.beta = <const float *>_part(layer["beta"], "beta", np.float32, n)
        if to.constant == NULL or to.scale == NULL or to.bias == NULL:
            raise TypeError("constant, scale and bias must be arrays; got None")
        if (to.gamma == NULL) != (to.beta == NULL):
            raise TypeError("gamma and beta must both be arrays, or both None")
        to.input_scale, to.input_zero = layer["input_scale"], layer["input_zero"]
        to.input_max, to.epsilon = layer["input_max"], layer["epsilon"]
        to.activation, to.parameter = layer["activation"], layer["parameter"]
        to.skip = layer["skip"]
        if to.skip and to.n_inputs != to.n_outputs:
            raise ValueError(f"skip needs as many outputs as inputs; got {weight.shape}")
        if not 0 < to.input_max <= 255 or not 0 <= to.input_zero <= to.input_max:
            raise ValueError("input_zero and input_max must be 0 <= input_zero <= input_max <= 255")
        if not 0 <= to.activation < c.fgd_n_activations:
            raise ValueError(f"activation must be a number of ACTIVATIONS; got {to.activation}")
        return 0

    def predict(self, object X, *, bint portable=False, int n_threads=0):
        """Outputs (n_rows, n_outputs) of a C-contiguous float32 array (n_rows, n_inputs)."""
        if X.ndim != 2 or X.shape[1] != self.n_inputs:
            raise ValueError(f"X must have {self.n_inputs} columns; got shape {X.shape}")
        cdef Py_ssize_t n_rows = X.shape[0]
        cdef const float *data = <const float *>_part(X, "X", np.float32, X.size)
        cdef int team = n_threads or threads()
        cdef cnp.ndarray scratch = _aligned(team * c.fgd_int8_scratch(self._layers, self._n_layers))
        cdef cnp.ndarray out = np.empty((n_rows, self.n_outputs), np.float32)
        cdef float *to = <float *>cnp.PyArray_DATA(out)
        cdef void *room = cnp.PyArray_DATA(scratch)
        with nogil:
            c.fgd_int8_predict(to, room, data, self._layers, self._n_layers, n_rows, portable, team)
        return out
