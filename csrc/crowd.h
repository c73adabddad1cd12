// Who else wants the cores.
#pragma once

namespace fastrnn {

// Of `size` threads, how many could have a core each, as far as the system tells.
int that_can_run(int size);

}  // namespace fastrnn
