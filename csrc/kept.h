// Whether a layer's arrays may have been written to since they were packed.
#pragma once

#include <mutex>
#include <utility>
#include <vector>

#include "arrays.h"

namespace fastrnn {

// What calls find that earlier ones have left. They may run at the same time, where the interpreter has no lock.
template <class T>
class Shared {
  T value_;
  mutable std::mutex mutex_;

 public:
  explicit Shared(T value = {}) : value_(std::move(value)) {}
  T get() const {
    const std::lock_guard lock(mutex_);
    return value_;
  }
  void set(T value) {  // what was there goes without the lock
    const std::lock_guard lock(mutex_);
    std::swap(value_, value);
  }
};

// Nobody can write to an array that nobody holds: views, buffers and the tensors of other libraries hold it, too. So if a
// layer's arrays are held by their owner and here alone, and the owner (fastrnn.arrays.Arrays) hands none out meanwhile,
// they stay as they are, and nobody needs to read them to know. The owner notes by a new token what it hands out: first
// it takes a reference, then it makes the token, then others get the array. Hence the order here: first the token is
// read, then the references are counted, then the arrays are read; and what is remembered is the token that was read.
// (What writes by an address that it kept of an array that it dropped goes unseen.)
class Watch {
  struct Array {
    py::array array;
    const void* data;
    py::ssize_t bytes;
  };
  py::object owner_;           // or None: then nothing is known
  std::vector<Array> arrays_;  // the one reference besides the owner's
  py::object seen_;            // the token that held when they were last read while nobody else held them, or null

 public:
  struct Look {
    py::object token;
    bool alone = false;
  };

  Watch(py::object owner, const std::vector<py::array>& arrays) : owner_(std::move(owner)) {
    if (has_owner() && !py::hasattr(owner_, "_handed_out")) throw py::type_error("owner: has no _handed_out");
    for (const py::array& array : arrays) arrays_.push_back({array, array.data(), array.nbytes()});
  }

  std::size_t count() const { return arrays_.size(); }
  const py::array& array(std::size_t place) const { return arrays_[place].array; }
  bool has_owner() const { return !owner_.is_none(); }

  // To be called, with the interpreter, before the arrays are read. Whether they are what they were at the last look that
  // was noted.
  bool unchanged(Look& look) const {
    if (!has_owner()) return false;
    look.token = owner_.attr("_handed_out");
    if (look.token.is(seen_)) return true;
    look.alone = std::all_of(arrays_.begin(), arrays_.end(), [](const Array& each) { return is_alone(each.array); });
    require_in_place();
    return false;
  }

  // Throws if an array lies elsewhere than when this was made.
  void require_in_place() const {
    for (const auto& [array, data, bytes] : arrays_)
      if (array.data() != data || array.nbytes() != bytes)
        throw std::runtime_error("a parameter was resized or given other memory: assign values to it instead");
  }

  // To be called, with the interpreter, after they were read.
  void note(Look look) {
    if (look.alone || seen_) seen_ = look.alone ? std::move(look.token) : py::object();
  }

 private:
  static bool is_alone(const py::array& array) {
#ifdef Py_GIL_DISABLED
    static_cast<void>(array);
    return false;  // references are counted in more than one place, and change at any time
#else
    constexpr Py_ssize_t holders = 2;  // the owner, and this
    PyObject* const object = array.ptr();
    const PyTypeObject* type = Py_TYPE(object);
    if (!is_ndarray(array) || !array.owndata() || Py_REFCNT(object) != holders) return false;
    return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(object) + type->tp_weaklistoffset) == nullptr;
#endif
  }
};

}  // namespace fastrnn
