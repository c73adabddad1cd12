// The product's instances: a unit of their own, so that an edit of a cell does not compile them again.
#include "gemm.h"

namespace fastrnn::FASTRNN_ISA {

FASTRNN_GEMMS(, float);
FASTRNN_GEMMS(, double);

}  // namespace fastrnn::FASTRNN_ISA
