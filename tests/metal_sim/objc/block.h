// Blocks, as clang lays them out: enough of the blocks runtime for handlers that capture C++
// values, which is what metal-cpp passes.
#pragma once

namespace metal_sim {

struct BlockLayout {
  void* isa;
  int flags, reserved;
  void* invoke;
  struct Descriptor {
    unsigned long reserved, size;
    void (*copy)(void*, const void*);
    void (*dispose)(const void*);
  }* descriptor;
};

/// Calls the block's function with the block and one argument.
void call_block(void* block, void* argument);

}  // namespace metal_sim

extern "C" {
void* _Block_copy(const void* block);
void _Block_release(const void* block);
}
