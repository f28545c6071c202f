// Independent pieces of host work on all processors, where it is worth threads: milliseconds.
#pragma once

#include <cstddef>
#include <functional>

namespace dlk {

/// Calls `work(i)` once for each i below `count`, from this thread and others; returns when all are
/// done. Throws the first exception, after which no more pieces begin.
void parallel_for(size_t count, const std::function<void(size_t)>& work);

}  // namespace dlk
