# The part of DLPack 1 that finds a tensor's memory: https://github.com/dmlc/dlpack, dlpack.h.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    CPU = 1
    UINT = 1
    FLOAT = 2
    BFLOAT = 4
    COMPLEX = 5

ctypedef struct Device:
    int32_t device_type
    int32_t device_id

ctypedef struct DataType:
    uint8_t code
    uint8_t bits
    uint16_t lanes

ctypedef struct Tensor:
    void *data
    Device device
    int32_t ndim
    DataType dtype
    int64_t *shape
    int64_t *strides  # in elements
    uint64_t byte_offset

# borrowed from the object; 0, or -1 with an exception set
ctypedef int (*FromObject)(void *object, Tensor *out) noexcept

ctypedef struct ExchangeAPI:
    uint32_t major
    uint32_t minor
    void *previous
    void *allocate
    void *managed_from_object
    void *managed_to_object
    FromObject from_object
    void *current_stream
