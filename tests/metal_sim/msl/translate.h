// From MSL text to C++ that clang compiles with msl/metal_stdlib.h: attributes are read and taken
// out, vector constructors and threadgroup arrays are rewritten, and a wrapper for each kernel is
// added. What Metal's compiler would refuse and clang would not is refused here.
#pragma once

#include <string>
#include <vector>

namespace metal_sim {

struct TranslatedKernel {
  std::string name;
  bool has_barriers = false;
};

struct Translation {
  std::string code;
  std::vector<TranslatedKernel> kernels;
  std::string errors;  // "program_source:LINE:COLUMN: error: ..." lines; empty: none
  bool uses_matrix = false;
};

/// `text` has been preprocessed where it needs that (needs_preprocessor).
Translation translate_msl(const std::string& text, unsigned long language_version);
/// True where the text has directives other than includes of Metal's headers and pragmas.
bool needs_preprocessor(const std::string& text);
/// The text without the includes of Metal's headers; lines keep their numbers.
std::string without_metal_includes(const std::string& text);

}  // namespace metal_sim
