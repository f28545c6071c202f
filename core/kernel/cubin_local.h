// Machine code with more local memory than the CUDA library's linker permits a PTX module to
// declare: the module is compiled with a smaller array, of which its code does not depend, and the
// size is put in afterwards, where the ELF file states it. Used by the machine code compiler.
#pragma once

#include <cstdint>
#include <string>

namespace dlk {

/// Shrinks the one array of a module that declares more than 48 KB; returns the bytes that its
/// machine code will lack, 0 for all other modules.
uint64_t shrink_local(std::string& ptx);

/// Adds them. CompileFailed where the machine code is no ELF file with one such array.
void grow_local(std::string& cubin, uint64_t bytes);

}  // namespace dlk
