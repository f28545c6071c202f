// Trials of gang tiles on a device: one small product for each use, compared with the host's. Used
// by MatrixUnits, which keeps what came out.
#pragma once

#include <memory>
#include <string>

#include "core/kernel/matrix_units.h"

namespace dlk {

/// False where the results are wrong; throws what compiling and running throw.
bool try_matrix_tile(const std::shared_ptr<Device>& device, const std::string& lowering,
                     const MatrixTrial& trial);

}  // namespace dlk
