// How many threads are worth starting.
#pragma once

namespace dlk {

/// Processors that the calling thread may run on, at least 1: of a set that a container or taskset
/// leaves, not all that the machine has.
unsigned usable_processors();

}  // namespace dlk
