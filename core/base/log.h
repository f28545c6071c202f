// One-line notices to the user: what dlk could not do but went on without. To stderr, each text
// once a process; silent with DLK_LOG=0.
#pragma once

#include <string>

namespace dlk {

void log_once(const std::string& message);

}  // namespace dlk
