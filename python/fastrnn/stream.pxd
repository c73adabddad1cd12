# Steps of a stream for Cython, without the interpreter. What each name means is in the header, include/fastrnn/step.h.
from libc.stdint cimport int32_t, int64_t, uint32_t

cdef extern from "fastrnn/step.h":
    enum:
        FASTRNN_STEP_FINE
        FASTRNN_STEP_BUSY
        FASTRNN_STEP_FORKED
        FASTRNN_STEP_TOKEN
        FASTRNN_STEP_KIND
        FASTRNN_STEP_MEMORY

    enum:
        FASTRNN_STEP_INPUT_SIZE
        FASTRNN_STEP_OUTPUT_SIZE
        FASTRNN_STEP_BATCH
        FASTRNN_STEP_ITEM_SIZE
        FASTRNN_STEP_TAKES_FLOATS
        FASTRNN_STEP_TAKES_TOKENS
        FASTRNN_STEP_STATE_SIZE

    ctypedef struct fastrnn_step_api:
        int32_t version
        uint32_t size
        int (*step)(void *stream, const void *x, void *y) noexcept nogil
        int (*step_tokens)(void *stream, const int64_t *tokens, void *y) noexcept nogil
        int (*reset)(void *stream) noexcept nogil
        int (*get_state)(void *stream, void *state) noexcept nogil
        int (*set_state)(void *stream, const void *state) noexcept nogil
        int64_t (*about)(void *stream, int what) noexcept nogil
        const char *(*message)(int error) noexcept nogil

    const fastrnn_step_api *fastrnn_step_import() except NULL
