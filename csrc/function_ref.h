// A function that is called while it is there: it is referred to, so that passing it on takes no memory, and cannot fail.
#pragma once

namespace fastrnn {

template <class>
class FunctionRef;

template <class... Arguments>
class FunctionRef<void(Arguments...)> {
  const void* function_;
  void (*call_)(const void*, Arguments...);

 public:
  template <class F>
  FunctionRef(const F& function)
      : function_(&function),
        call_([](const void* f, Arguments... arguments) { (*static_cast<const F*>(f))(arguments...); }) {}

  void operator()(Arguments... arguments) const { call_(function_, arguments...); }
};

}  // namespace fastrnn
