# cython: language_level=3, boundscheck=False, wraparound=False
from libc.stdint cimport intptr_t
from fastrnn.stream cimport fastrnn_step_api, fastrnn_step_import


def play(stream, const float[::1] x, float[::1] y):
    """Each sample of x through the stream, to y: without the interpreter, as the callback of a sound card."""
    cdef void *handle = <void *><intptr_t>stream.address
    cdef const fastrnn_step_api *api = fastrnn_step_import()
    cdef Py_ssize_t t
    cdef int error = 0
    with nogil:
        for t in range(x.shape[0]):
            error = error or api.step(handle, &x[t], &y[t])
    if error:
        raise RuntimeError(api.message(error).decode())
