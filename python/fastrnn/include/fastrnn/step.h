/* Steps of a stream from C, C++, Cython, Numba and ctypes, without the interpreter. For C99 and C++.

   Python makes a stream, and its attribute `address` is the handle that the functions below take, as a `void *`. It
   is valid for as long as that object of Python lives, so somebody has to hold it; a copy has an address of its own.

   The functions come in a struct, by the capsule "fastrnn._core._step_api". Where <Python.h> is included before this
   file, fastrnn_step_import() below fetches it. From then on nothing needs the interpreter: not its lock, nor a thread
   that Python knows; and nothing looks for signals. A step flushes denormal numbers to zero, and leaves the
   floating-point mode as it was. On one thread, as all but large ones are, it takes no memory and waits for nobody.
   Steps of some million operations are shared by as many threads as fastrnn.set_num_threads allows.

   A stream lets in one thread at a time, of C or of Python, on free-threaded Python too: another one gets
   FASTRNN_STEP_BUSY at once. Streams do not know of each other, nor do copies. In a process that was forked while
   another thread was in a stream, that stream wants a reset: FASTRNN_STEP_FORKED.

   After an error nothing has happened: the state has not moved, and y is as it was. */
#ifndef FASTRNN_STEP_H
#define FASTRNN_STEP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FASTRNN_STEP_CAPSULE "fastrnn._core._step_api"

/* Goes up when something that is there changes. What is new comes at the end, with the same version and a larger size. */
#define FASTRNN_STEP_VERSION 1

/* What the functions that return an int return. Values do not change, and there may be more of them. */
enum {
  FASTRNN_STEP_FINE = 0,
  FASTRNN_STEP_BUSY = 1,   /* another thread is in this stream */
  FASTRNN_STEP_FORKED = 2, /* another thread was in it when the process was forked: reset it, or set its state */
  FASTRNN_STEP_TOKEN = 3,  /* a token is not one of 0 to input_size - 1 */
  FASTRNN_STEP_KIND = 4,   /* the stream takes no floats, or no tokens */
  FASTRNN_STEP_MEMORY = 5  /* there is none for more threads than before */
};

/* What `about` is asked. */
enum {
  FASTRNN_STEP_INPUT_SIZE = 0,   /* I, the features or tokens that go in */
  FASTRNN_STEP_OUTPUT_SIZE = 1,  /* O, the features that come out */
  FASTRNN_STEP_BATCH = 2,        /* B, the sequences side by side */
  FASTRNN_STEP_ITEM_SIZE = 3,    /* bytes of a number: 4, of a float, or 8, of a double */
  FASTRNN_STEP_TAKES_FLOATS = 4, /* 1, or 0 */
  FASTRNN_STEP_TAKES_TOKENS = 5, /* 1, or 0 */
  FASTRNN_STEP_STATE_SIZE = 6    /* the numbers of a state */
};

/* Arrays are in order of C, their numbers of the stream's dtype: float, or double. No pointer may be null. */
typedef struct fastrnn_step_api {
  int32_t version; /* FASTRNN_STEP_VERSION of what is installed */
  uint32_t size;   /* sizeof(fastrnn_step_api) there */

  /* One step: x [B][I] to y [B][O], which may be the same memory. */
  int (*step)(void *stream, const void *x, void *y);

  /* One step of tokens [B], 0 to I-1. */
  int (*step_tokens)(void *stream, const int64_t *tokens, void *y);

  /* Back to the beginning: a state of zeros, or the learned one that a layer had. */
  int (*reset)(void *stream);

  /* A copy of the state, and on from one, FASTRNN_STEP_STATE_SIZE numbers: of each recurrent layer, from the first to
     the last, h [B][H] (narrower where it is projected), and of an LSTM c [B][H]. */
  int (*get_state)(void *stream, void *state);
  int (*set_state)(void *stream, const void *state);

  /* FASTRNN_STEP_INPUT_SIZE and so on, or -1 for what is not known; also while another thread is in the stream. */
  int64_t (*about)(void *stream, int what);

  /* What an error means, in English, for as long as the process lives. */
  const char *(*message)(int error);
} fastrnn_step_api;

/* Whether the functions that this file has are there, as it says. */
static inline int fastrnn_step_fits(const fastrnn_step_api *api) {
  return api->version == FASTRNN_STEP_VERSION && api->size >= sizeof(fastrnn_step_api);
}

#ifdef Py_PYTHON_H
/* The functions; or null, with an ImportError. The interpreter's lock must be held. */
static inline const fastrnn_step_api *fastrnn_step_import(void) {
  const fastrnn_step_api *api;
  PyObject *const module = PyImport_ImportModule("fastrnn._core");
  if (!module) return NULL;
  Py_DECREF(module);
  api = (const fastrnn_step_api *)PyCapsule_Import(FASTRNN_STEP_CAPSULE, 0);
  if (api && !fastrnn_step_fits(api)) {
    PyErr_Format(PyExc_ImportError, "compiled for version %d of fastrnn's step, of %d bytes; installed is %d, of %d",
                 FASTRNN_STEP_VERSION, (int)sizeof(fastrnn_step_api), (int)api->version, (int)api->size);
    return NULL;
  }
  return api;
}
#endif

#ifdef __cplusplus
}
#endif

#endif
